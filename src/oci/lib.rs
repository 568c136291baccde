//! The OCI image model and layer bytes: digests, references, platforms, manifests, configs, layouts, layers.
//!
//! Documents (manifest, index, config) are canonical JSON: keys in the order declared here, maps sorted, no
//! whitespace, so equal values have equal digests. No network and no async here.

mod config;
mod digest;
mod document;
mod platform;
mod reference;

pub mod layer;
pub mod layout;

pub use config::{ContainerConfig, HealthCheck, History, ImageConfig, RootFs};
pub use digest::{DiffId, Digest, DigestError, Hasher};
pub use document::{Descriptor, Document, Index, Manifest, media_type};
pub use platform::{Architecture, Os, Platform, PlatformError};
pub use reference::{Reference, ReferenceError, Repository, Tag};
