//! What recipes and bases ask of the outside world. The lock holds one answer for each request.

use std::fmt;

use diag::{Source, Span};
use oci::Platform;

use crate::NpmRequirement;

/// A place in a recipe or base.
pub type Place = (Source, Span);

/// An npm package by name and requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NpmRequest {
    /// The package.
    pub package: String,
    /// Which version.
    pub requirement: NpmRequirement,
    /// Who asks.
    pub place: Place,
}

/// A set of Debian packages for one platform.
///
/// Two requests are answered by the same locked set when everything but the place is equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebianRequest {
    /// `base/debian` or `openclaw`: whose set it is.
    pub owner: String,
    /// For what.
    pub platform: Platform,
    /// Root of the archive.
    pub archive: String,
    /// Suites in order of preference.
    pub suites: Vec<String>,
    /// Components.
    pub components: Vec<String>,
    /// Keyring files in `base/keys/`.
    pub keys: Vec<String>,
    /// Packages wanted, in the order written.
    pub wanted: Vec<String>,
    /// Packages held to be there.
    pub exclude: Vec<String>,
    /// The owner of the set this one lies on, whose packages are there already.
    pub below: Option<String>,
    /// Whether documentation is left out.
    pub slim: bool,
    /// Who asks.
    pub place: Place,
}

impl fmt::Display for NpmRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "npm package {} {}", self.package, self.requirement)
    }
}

impl fmt::Display for DebianRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Debian packages of {} for {}", self.owner, self.platform)
    }
}
