//! Engines that solve LLB: the engine trait and the embedded engine.

mod engine;
mod error;
mod outcome;
mod request;
mod step;

pub mod context;
pub mod embedded;
pub mod export;
pub mod fleet;
pub mod git;
pub mod layout;
pub mod meter;
pub mod userns;

/// Part of the key of everything that is kept of results. Raised when the same definition comes to mean other bytes,
/// so that nobody goes on with what an older clawbuild made of it.
pub const RESULTS: &str = "results 2";

pub use engine::{Engine, Unavailable};
pub use error::{EngineError, FailedVertex, MissingCapability, SolveError, VertexError};
pub use llb::SecretId;
pub use outcome::{CacheStats, Material, MaterialContent, SolveOutcome, Solved, SolvedImage, SolvedLayer};
pub use request::{
    CacheKind, CacheSpec, CacheSpecError, CacheUse, ContextSpec, FilesOutput, ImageOutput, Layout, Output, SolveRequest,
};
pub use step::{LastLines, StepFailure};
