//! BuildKit as an engine: Docker's own, or any buildkitd.

pub mod session;
pub mod transport;
