//! Calling a builder: its control service, and the gateway's.

mod builder;
mod carrier;
mod failure;
mod gateway;
mod job;
mod status;

pub use builder::{Builder, Worker};
pub(crate) use failure::is_full;
pub use failure::{Failure, RemoteFailure};
pub use gateway::Gateway;
pub use job::{Exporter, Finished, Job};
pub use status::Names;
