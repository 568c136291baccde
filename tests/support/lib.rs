//! What clawbuild's tests share.
//!
//! A test says which [`Capability`]s of the machine it needs. Where one is missing the test is reported as ignored with
//! the reason, or fails if `CLAWBUILD_TEST_REQUIRE` promises that capability, as `tests/run` does for all it sets up.

#![expect(clippy::unwrap_used, reason = "this crate is part of the tests")]

mod buildkit;
mod built;
mod capability;
mod cli;
mod command;
mod docker;
mod podman;
mod project;
mod registry;
mod suite;

pub use buildkit::BuildKit;
pub use built::{Built, steps};
pub use capability::{Capability, require};
pub use cli::{Cli, Identity};
pub use command::{Output, run, tool};
pub use docker::Docker;
pub use podman::Podman;
pub use project::{OneStep, ThreeStages};
pub use registry::{Credentials, Registry};
pub use suite::Suite;
