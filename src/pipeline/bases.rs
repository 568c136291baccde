//! Base images: each built once, then known by its plan.

use oci::Digest;
use plan::{BaseImages, DebianLayers, LockedBase};
use recipe::{DebianRequest, Lock};
use serde::{Deserialize, Serialize};
use store::{Bucket, Key};

use super::solve::{Contexts, SolveOptions, Work};
use super::{Session, layers};
use crate::cli::Failure;

/// The record of a base's image: its manifest, and every blob it needs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownBase {
    manifest: Digest,
    blobs: Vec<Digest>,
}

/// What a plan stands on: the images of its bases, and the layers of Debian packages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ground {
    pub(crate) images: BaseImages,
    pub(crate) layers: DebianLayers,
}

/// Makes the Debian layers of the bases and of `own`, and builds the bases, lower ones first.
pub(crate) async fn lay_ground(
    session: &Session,
    lock: &Lock,
    bases: &[LockedBase<'_>],
    own: Vec<DebianRequest>,
) -> Result<Ground, Failure> {
    let requests: Vec<DebianRequest> = bases.iter().filter_map(LockedBase::debian).chain(own).collect();
    let layers = layers::debian_layers(session, lock, &requests).await?;
    let mut ground = Ground { images: BaseImages::new(), layers };
    for base in bases {
        let manifest = build_base(session, base, &ground.images, &ground.layers).await?;
        ground.images.insert((base.base.name.value.clone(), base.platform), manifest);
    }
    Ok(ground)
}

async fn build_base(
    session: &Session,
    base: &LockedBase<'_>,
    images: &BaseImages,
    layers: &DebianLayers,
) -> Result<Digest, Failure> {
    let plan = base.plan(images, layers);
    let lowered = plan.lower();
    let output = super::image::image_output(&plan, oci::layer::compress::Compression::default());
    let config = serde_json::to_vec(&output.config).expect("configs serialise");
    let epoch = plan.image.epoch.0.to_le_bytes();
    let digest = lowered.definition.digest();
    let identity = output.compression.identity();
    let key =
        Key::of([&b"base"[..], engine::RESULTS.as_bytes(), digest.as_bytes(), &config, &epoch, identity.as_bytes()]);
    let store = session.store();
    if let Some(known) = store.record::<KnownBase>(Bucket::Bases, &key)
        && known.blobs.iter().all(|blob| store.blob_size(blob).is_some())
    {
        return Ok(known.manifest);
    }
    let work = Work::of(&plan, lowered, Contexts::new());
    let image = work.image(session, output, &SolveOptions::default()).await?;
    let blobs = [image.manifest.digest, image.config.digest].into_iter();
    let blobs = blobs.chain(image.layers.iter().map(|layer| layer.descriptor.digest)).collect();
    store.put_record(Bucket::Bases, &key, &KnownBase { manifest: image.manifest.digest, blobs })?;
    Ok(image.manifest.digest)
}
