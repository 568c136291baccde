//! Package and image registries over HTTP: checksummed downloads, npm metadata, distribution-spec pull and push.
//!
//! [`http`] is the one transport: TLS, proxies, mirrors, retries and the offline switch live there and nowhere else.
//! [`download`] brings verified content into the store, [`npm`] reads package metadata, [`image`] speaks the
//! distribution protocol. Nothing here knows recipes, plans or engines.

pub mod download;
pub mod http;
pub mod image;
mod integrity;
pub mod npm;
pub mod progress;
pub mod release;

pub use integrity::{Expect, Sha512, Sha512Error};
pub use url::Url;
