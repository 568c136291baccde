//! Docker: where its daemon is, its Engine API, and the BuildKit inside it.

mod dial;
mod endpoint;
mod engine;
mod error;
mod exec;
mod http;
mod solve;

pub use dial::DockerDial;
pub use endpoint::Endpoint;
pub use engine::{DockerEngine, DockerOptions, Storage};
pub use error::{DockerError, EndpointProblem};
pub use exec::ContainerDial;
