//! Engines that solve LLB: the engine trait and the embedded engine.

pub mod embedded;
pub mod userns;
