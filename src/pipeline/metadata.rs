//! What a build tells other programs.

use oci::{Descriptor, Digest};
use serde::Serialize;

use super::{Built, Exported, ImageName, Pushed};

/// One image that was built, as `--json` and `--metadata-file` write it.
#[derive(Clone, Debug, Serialize)]
pub struct ImageMetadata {
    /// The target.
    pub target: String,
    /// What it runs on.
    pub platform: String,
    /// Its names.
    pub references: Vec<String>,
    /// The manifest.
    pub manifest: Descriptor,
    /// The config's digest, which is Docker's image id.
    pub config: Digest,
    /// The length of all compressed layers, in bytes.
    pub size: u64,
    /// The layers, lowest first.
    pub layers: Vec<LayerMetadata>,
    /// Where it was written.
    pub outputs: Vec<String>,
    /// Where it was pushed, by digest.
    pub pushed: Vec<String>,
}

/// One layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerMetadata {
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's length in bytes.
    pub size: u64,
    /// The digest of its uncompressed tar.
    pub diff_id: String,
}

impl ImageMetadata {
    /// What there is to tell about an image.
    #[must_use]
    pub fn new(built: &Built, name: &ImageName, exported: &[Exported], pushed: &[Pushed]) -> Self {
        let image = &built.image;
        let layers = image.layers.iter().map(|layer| LayerMetadata {
            digest: layer.descriptor.digest,
            size: layer.descriptor.size,
            diff_id: layer.diff_id.to_string(),
        });
        Self {
            target: built.plan.target.to_string(),
            platform: built.plan.platform.to_string(),
            references: name.references().iter().map(ToString::to_string).collect(),
            manifest: image.manifest.clone(),
            config: image.config.digest,
            size: image.layers.iter().map(|layer| layer.descriptor.size).sum(),
            layers: layers.collect(),
            outputs: exported.iter().map(ToString::to_string).collect(),
            pushed: pushed.iter().map(Pushed::reference).collect(),
        }
    }
}
