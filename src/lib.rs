//! clawbuild: builds production images of the claw AI-agent runtimes.

pub mod ui;
