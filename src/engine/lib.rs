//! Engines that solve LLB: the engine trait and the embedded engine.

mod engine;
mod error;
mod outcome;
mod request;

pub mod context;
pub mod embedded;
pub mod userns;

pub use engine::{Engine, Unavailable};
pub use error::{FailedVertex, MissingCapability, SolveError, VertexError};
pub use llb::SecretId;
pub use outcome::{CacheStats, Material, MaterialContent, SolveOutcome, Solved, SolvedImage, SolvedLayer};
pub use request::{CacheKind, CacheSpec, ContextSpec, FilesOutput, ImageOutput, Layout, Output, SolveRequest};
