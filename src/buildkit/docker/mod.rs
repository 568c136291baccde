//! Docker: where its daemon is, its Engine API, and the BuildKit inside it.

mod dial;
mod endpoint;
mod error;
mod exec;
mod http;

pub use dial::DockerDial;
pub use endpoint::Endpoint;
pub use error::{DockerError, EndpointProblem};
pub use exec::ContainerDial;
