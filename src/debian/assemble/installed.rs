//! What a layer has put in place: all that a layer on top of it needs to know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::LockedPackage;

/// What the layers so far have put in place. Keep it beside the layer: assembling on top of it needs it, and it can be
/// made again only by assembling the layer again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// The packages, layer by layer and sorted within each, with their paragraphs of dpkg's status file.
    pub packages: Vec<InstalledPackage>,
    /// Every path and what is there.
    pub(super) paths: BTreeMap<String, Placed>,
    /// Files that later layers add to: accounts, shells, dpkg's triggers.
    pub(super) texts: BTreeMap<String, String>,
    /// Shared libraries the loader's cache lists.
    pub(super) libraries: Vec<super::loader::Library>,
    /// Names that several programs can stand behind.
    pub(super) alternatives: BTreeMap<String, super::alternatives::Group>,
}

/// One package in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstalledPackage {
    /// Which.
    pub package: LockedPackage,
    /// Its paragraph of dpkg's status file.
    pub status: String,
}

/// Something at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Placed {
    /// A directory: mode, user, group, modification time. Layers on top repeat it.
    Directory(u32, u32, u32, i64),
    /// A symbolic link: its target, and the package it belongs to, as a position in `packages`.
    Link(String, Option<u32>),
    /// A file, and the package it belongs to.
    File(Option<u32>),
}

impl Installed {
    /// The packages as pinned.
    pub fn locked(&self) -> impl Iterator<Item = &LockedPackage> {
        self.packages.iter().map(|installed| &installed.package)
    }
}
