//! The gateway protocol from a frontend's side. Spec: BuildKit `frontend/gateway/pb/gateway.proto` `LLBBridge`.
//!
//! The daemon runs a frontend's image, hands it the build's options in the environment, and answers its calls on the
//! standard streams: solve a definition, read files of what came out, and at last take the result or the failure.

mod client;
mod environment;
mod errdefs;
mod error;
mod result;
mod stdio;

pub use client::{CacheImport, Gateway, ImageName, Reference, ResolvedImage, Warning};
pub use environment::Environment;
pub use errdefs::{Source as ErrorSource, Status, UNSUPPORTED_SUBREQUEST};
pub use error::GatewayError;
pub use result::{FrontendResult, PlatformResult};
pub use stdio::Stdio;
