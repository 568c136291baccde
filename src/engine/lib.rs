//! Engines that solve LLB: the engine trait and the embedded engine.

pub mod context;
pub mod embedded;
pub mod userns;
