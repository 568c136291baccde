//! A package as it is pinned.

use std::fmt;

use oci::Digest;
use serde::{Deserialize, Serialize};

/// One package, pinned: enough to fetch it, check it and name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture; `all` for those that fit any.
    pub architecture: String,
    /// The suite it comes from, as the caller named it.
    pub suite: String,
    /// Where it lies, relative to the archive's root.
    pub filename: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Digest,
    /// Its source package.
    pub source: String,
}

impl fmt::Display for LockedPackage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.name, self.architecture, self.version)
    }
}
