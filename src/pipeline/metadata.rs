//! What a build tells other programs.

use oci::{Descriptor, Digest};
use serde::{Deserialize, Serialize};

use super::{Built, Exported, ImageName, Product, Pushed};

/// One target that was built, as `--json` and `--metadata-file` write it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProductMetadata {
    /// The target.
    pub target: String,
    /// Its names.
    pub references: Vec<String>,
    /// The manifest, or the index of several platforms' manifests.
    pub root: Descriptor,
    /// The images, sorted by platform.
    pub images: Vec<ImageMetadata>,
    /// Where it was written.
    pub outputs: Vec<String>,
    /// Where it was pushed, by digest.
    pub pushed: Vec<String>,
}

impl ProductMetadata {
    /// What there is to tell about a target's images.
    #[must_use]
    pub fn new(product: &Product, name: &ImageName, exported: &[Exported], pushed: &[Pushed]) -> Self {
        Self {
            target: product.first().plan.target.to_string(),
            references: name.references().iter().map(ToString::to_string).collect(),
            root: product.root().clone(),
            images: product.images().iter().map(ImageMetadata::new).collect(),
            outputs: exported.iter().map(ToString::to_string).collect(),
            pushed: pushed.iter().map(Pushed::reference).collect(),
        }
    }
}

/// One image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageMetadata {
    /// What it runs on.
    pub platform: String,
    /// The manifest.
    pub manifest: Descriptor,
    /// The config's digest, which is Docker's image id.
    pub config: Digest,
    /// The length of all compressed layers, in bytes.
    pub size: u64,
    /// The layers, lowest first.
    pub layers: Vec<LayerMetadata>,
}

/// One layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerMetadata {
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's length in bytes.
    pub size: u64,
    /// The digest of its uncompressed tar.
    pub diff_id: String,
}

impl ImageMetadata {
    fn new(built: &Built) -> Self {
        let image = &built.image;
        let layers = image.layers.iter().map(|layer| LayerMetadata {
            digest: layer.descriptor.digest,
            size: layer.descriptor.size,
            diff_id: layer.diff_id.to_string(),
        });
        Self {
            platform: built.plan.platform.to_string(),
            manifest: image.manifest.clone(),
            config: image.config.digest,
            size: image.layers.iter().map(|layer| layer.descriptor.size).sum(),
            layers: layers.collect(),
        }
    }
}
