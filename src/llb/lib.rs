//! BuildKit LLB: typed vertices, deterministic definitions, capabilities, source maps.
//!
//! The model mirrors BuildKit's `solver/pb/ops.proto`; a vertex is known by the SHA-256 of its encoding. No IO here.

mod caps;
mod decode;
mod definition;
pub mod dockerfile;
mod dump;
mod encode;
mod exec;
mod file;
mod graph;
mod mount;
mod op;
mod path;
mod source;
mod source_attrs;
mod source_map;
mod validate;
mod vertex;

pub use caps::Cap;
pub use decode::FieldError;
pub use definition::{DecodeError, Definition};
pub use exec::{EnvVar, ExecOp, NetworkMode};
pub use file::{
    Account, ActionInput, CopyAction, FileAction, FileActionKind, FileOp, MkdirAction, MkfileAction, Owner, RmAction,
    SymlinkAction,
};
pub use graph::{Bind, Cache, Exec, Executed, File, Graph, MountSpec, Output, Secret, Ssh, Tmpfs, Tree};
pub use mount::{CacheId, CacheSharing, Mount, MountKind, SecretId, SecretMount};
pub use op::{DiffOp, InputIndex, MergeOp, Op, OutputIndex, Timestamp};
pub use source::{
    GitCommit, GitCommitError, GitSource, HttpSource, ImageSource, LocalSource, OciLayoutSource, SourceOp,
};
pub use source_map::{Location, SourceMap};
pub use validate::{DefinitionError, OpError};
pub use vertex::{CUSTOM_NAME, Edge, Metadata, Vertex};
