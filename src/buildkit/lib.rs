//! BuildKit as an engine: Docker's own, or any buildkitd.

pub mod gateway;
pub mod session;
pub mod transport;
