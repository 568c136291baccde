//! The builders a user has set up already: buildx's instances and Docker's contexts.
//!
//! Files are only read. Spec: buildx `store` (instances), docker/cli `cli/context/store` (contexts).

mod context;
mod environment;
mod error;
mod instance;
mod node;
mod pods;
#[cfg(test)]
mod tests;

pub use context::{DEFAULT_CONTEXT, DockerContext};
pub use environment::Environment;
pub use error::BuilderError;
pub use node::{Builder, Driver, Node, Reach};
pub use pods::PodsDial;
