//! BuildKit as an engine: Docker's own, or any buildkitd.

pub mod address;
pub mod builders;
pub mod control;
pub mod docker;
mod engine;
pub mod gateway;
pub mod ingest;
pub mod session;
mod solve;
pub mod transport;

pub use engine::{BuildKit, BuildKitOptions};

pub(crate) use session::random_id;
