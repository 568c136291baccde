//! The embedded engine: solves LLB in this process, with no daemon.

pub mod fileop;
pub mod mount;
pub mod sandbox;
