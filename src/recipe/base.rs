//! What a base says.

use std::collections::BTreeMap;

use diag::{Source, Spanned};
use oci::{Architecture, Reference};

use crate::{ContainerPath, Name, NpmRequirement};

/// One base, as `base/NAME.toml` declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The file it was read from.
    pub source: Source,
    /// Its name.
    pub name: Spanned<Name>,
    /// One line about it.
    pub summary: String,
    /// What it stands on.
    pub parent: Spanned<BaseParent>,
    /// The Debian packages it adds.
    pub debian: Option<DebianSet>,
    /// What it takes from npm archives.
    pub unpack: Vec<Unpack>,
    /// Tools that builds on this base may use, which do not go into images.
    pub tools: BTreeMap<Name, Tool>,
    /// What recipes may rely on, by tool: its version.
    pub provides: BTreeMap<String, Spanned<String>>,
}

/// What a base stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseParent {
    /// Nothing.
    Scratch,
    /// Another base.
    Base(Name),
    /// An image in a registry, by digest.
    Image(Reference),
}

/// Packages from a Debian archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebianSet {
    /// Root of the archive, such as `https://deb.debian.org/debian`.
    pub archive: Spanned<String>,
    /// Suites in order of preference.
    pub suites: Vec<Spanned<String>>,
    /// Components, normally `main`.
    pub components: Vec<Spanned<String>>,
    /// Keyring files in `base/keys/`, one of which must have signed each suite.
    pub keys: Vec<Spanned<String>>,
    /// Packages wanted by name.
    pub packages: Vec<Spanned<String>>,
    /// Packages held to be there already, so that dependencies on them pull nothing in.
    pub exclude: Vec<Spanned<String>>,
    /// Whether documentation, manual pages and translations are left out.
    pub slim: bool,
}

/// Files taken from an npm archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpack {
    /// The package; `{arch}` stands for npm's name of the target architecture.
    pub package: Spanned<String>,
    /// Its version.
    pub version: Spanned<NpmRequirement>,
    /// What is taken, and where to.
    pub files: Vec<PlacedFile>,
}

impl Unpack {
    /// The package's name for one architecture.
    #[must_use]
    pub fn package_for(&self, architecture: Architecture) -> String {
        self.package.value.replace("{arch}", architecture.node())
    }
}

/// One file or directory taken from an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedFile {
    /// Its path in the archive.
    pub from: Spanned<String>,
    /// Its path in the base.
    pub to: Spanned<ContainerPath>,
}

/// A build tool that is an npm package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The package; `{arch}` stands for npm's name of the architecture that builds.
    pub package: Spanned<String>,
    /// Its version.
    pub version: Spanned<NpmRequirement>,
    /// The program's path in the archive.
    pub program: Spanned<String>,
}

impl Tool {
    /// The package's name for one architecture.
    #[must_use]
    pub fn package_for(&self, architecture: Architecture) -> String {
        self.package.value.replace("{arch}", architecture.node())
    }
}
