//! What recipes and bases ask of the outside world. The lock holds one answer for each request.

use std::fmt;
use std::str::FromStr;

use diag::{Source, Span};
use oci::{Architecture, Platform};

use crate::{GitReference, Requirement};

/// A place in a recipe or base.
pub type Place = (Source, Span);

/// A language's package registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Registry {
    /// registry.npmjs.org.
    Npm,
    /// crates.io.
    Crates,
    /// The Go module proxy.
    Go,
    /// pypi.org.
    PyPi,
}

impl Registry {
    /// Every registry.
    pub const ALL: [Self; 4] = [Self::Npm, Self::Crates, Self::Go, Self::PyPi];

    /// The word the lock uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Crates => "crates.io",
            Self::Go => "go",
            Self::PyPi => "pypi",
        }
    }

    /// What it calls what it holds.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Npm => "npm package",
            Self::Crates => "crate",
            Self::Go => "Go module",
            Self::PyPi => "Python package",
        }
    }
}

impl FromStr for Registry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|registry| registry.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a registry: npm, crates.io, go or pypi"))
    }
}

/// One release of a package in a language's registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRequest {
    /// Whose.
    pub registry: Registry,
    /// The package.
    pub package: String,
    /// Which version.
    pub requirement: Requirement,
    /// For what, where a release has an archive for each architecture.
    pub architecture: Option<Architecture>,
    /// Who asks.
    pub place: Place,
}

/// A commit of a git repository, by the name it has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitRequest {
    /// The repository.
    pub url: String,
    /// The commit's name.
    pub reference: GitReference,
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

impl fmt::Display for ReleaseRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.registry.noun(), self.package, self.requirement)?;
        self.architecture.map_or(Ok(()), |architecture| write!(f, " for {architecture}"))
    }
}

impl fmt::Display for GitRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.reference, self.url)
    }
}

impl fmt::Display for DebianRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Debian packages of {} for {}", self.owner, self.platform)
    }
}
