//! BuildKit as an engine: Docker's own, or any buildkitd.

pub mod control;
pub mod gateway;
pub mod ingest;
pub mod session;
pub mod transport;

pub(crate) use session::random_id;
