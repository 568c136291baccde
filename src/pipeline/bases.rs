//! Base images: each built once, then known by its plan.

use oci::{Digest, Platform};
use plan::{ArchiveSet, BaseImages, Checkout, Ground, LockedBase, LockedRecipe};
use recipe::{DebianRequest, Lock};
use serde::{Deserialize, Serialize};
use store::{Bucket, Key};

use super::solve::{Contexts, SolveOptions, Work};
use super::{Session, archives, checkouts, layers};
use crate::cli::Failure;

/// The record of a base's image: its manifest, and every blob it needs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownBase {
    manifest: Digest,
    blobs: Vec<Digest>,
}

/// What a plan needs of its ground beside bases.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    /// Debian packages.
    pub(crate) packages: Vec<DebianRequest>,
    /// Archives.
    pub(crate) archives: Vec<ArchiveSet>,
    /// Commits.
    pub(crate) checkouts: Vec<Checkout>,
}

impl Own {
    /// What the image of a recipe needs.
    pub(crate) fn of(locked: &LockedRecipe<'_>, target: Platform) -> Self {
        Self { packages: locked.package_layers(target), archives: locked.archives(), checkouts: locked.checkouts() }
    }
}

/// Makes the layers of Debian packages and archives, those of the bases and those of `own`, and builds the bases, lower
/// ones first.
pub(crate) async fn lay_ground(
    session: &Session,
    lock: &Lock,
    bases: &[LockedBase<'_>],
    own: Own,
) -> Result<Ground, Failure> {
    let requests: Vec<DebianRequest> = bases.iter().filter_map(LockedBase::debian).chain(own.packages).collect();
    let sets: Vec<ArchiveSet> = bases.iter().flat_map(LockedBase::archives).chain(own.archives).collect();
    let (layers, archives, checkouts) = futures::future::try_join3(
        layers::debian_layers(session, lock, &requests),
        archives::archive_layers(session, &sets),
        checkouts::checkouts(session, &own.checkouts),
    )
    .await?;
    let mut ground = Ground { images: BaseImages::new(), layers, archives, checkouts };
    for base in bases {
        let manifest = build_base(session, base, &ground).await?;
        ground.images.insert((base.base.name.value.clone(), base.platform), manifest);
    }
    Ok(ground)
}

async fn build_base(session: &Session, base: &LockedBase<'_>, ground: &Ground) -> Result<Digest, Failure> {
    let plan = base.plan(ground);
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
