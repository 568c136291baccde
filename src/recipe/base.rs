//! What a base says.

use std::collections::BTreeMap;

use diag::{Source, Spanned};
use oci::{Architecture, Reference};

use crate::{ContainerPath, Name, Registry, ReleaseRequest, Requirement};

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
    /// What it takes from registries' archives.
    pub unpack: Vec<Unpack>,
    /// Tools that builds on this base may use, which do not go into images.
    pub tools: BTreeMap<Name, Tool>,
    /// What recipes may rely on, by tool: its version.
    pub provides: BTreeMap<String, Spanned<String>>,
}

impl Base {
    /// Whether what it stands on is the same for ever.
    #[must_use]
    pub const fn is_pinned(&self) -> bool {
        match &self.parent.value {
            BaseParent::Image(reference) => reference.digest.is_some(),
            BaseParent::Scratch | BaseParent::Base(_) => true,
        }
    }
}

/// What a base stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseParent {
    /// Nothing.
    Scratch,
    /// Another base.
    Base(Name),
    /// An image in a registry. Only one named by digest can be built on.
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

/// An archive of a language's registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryArchive {
    /// Whose.
    pub registry: Registry,
    /// The package; `{arch}` stands for the registry's name of the architecture.
    pub package: Spanned<String>,
    /// Its version; `{arch}` likewise.
    pub version: Spanned<Requirement>,
}

impl RegistryArchive {
    /// What is asked for one architecture by the base in `source`.
    #[must_use]
    pub fn request(&self, architecture: Architecture, source: &Source) -> ReleaseRequest {
        let arch = match self.registry {
            Registry::Npm => architecture.node(),
            Registry::Crates | Registry::Go | Registry::PyPi => architecture.as_str(),
        };
        ReleaseRequest {
            registry: self.registry,
            package: self.package.value.replace("{arch}", arch),
            requirement: self.version.value.replace("{arch}", arch),
            architecture: (self.registry == Registry::PyPi).then_some(architecture),
            place: (source.clone(), self.version.span),
        }
    }
}

/// Files taken from a registry's archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpack {
    /// The archive.
    pub archive: RegistryArchive,
    /// What is taken, and where to.
    pub files: Vec<PlacedFile>,
}

/// One file or directory taken from an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedFile {
    /// Its path in the archive.
    pub from: Spanned<String>,
    /// Its path in the base.
    pub to: Spanned<ContainerPath>,
}

/// A build tool out of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The archive.
    pub archive: RegistryArchive,
    /// The program's path in the archive.
    pub program: Spanned<String>,
}
