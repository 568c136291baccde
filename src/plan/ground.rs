//! What a plan stands on.

use crate::{ArchiveLayers, BaseImages, Checkouts, DebianLayers};

/// Images that are made before a graph is, since their digests are part of it.
#[derive(Clone, Debug, Default)]
pub struct Ground {
    /// The bases.
    pub images: BaseImages,
    /// Debian packages.
    pub layers: DebianLayers,
    /// The files of archives.
    pub archives: ArchiveLayers,
    /// The files of commits that the engine is not to fetch by itself.
    pub checkouts: Checkouts,
}
