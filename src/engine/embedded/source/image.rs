//! Images, out of layouts and registries.
//!
//! Taking an image brings its blobs into the store and says which layers it has. Nothing is unpacked here: that
//! happens when a step looks into the tree, and when none does, never.

use std::sync::Arc;

use diag::progress::Task;
use llb::{ImageSource, OciLayoutSource};
use oci::Platform;

use crate::Layout;
use crate::embedded::chain::Chain;
use crate::embedded::solver::Solve;
use crate::error::VertexError;
use crate::layout::{self, ImageError};

/// The tree of an image in a layout of the request.
pub(super) async fn from_layout(
    solve: &Arc<Solve>,
    source: &OciLayoutSource,
    platform: Option<Platform>,
) -> Result<Chain, VertexError> {
    let name = source.store.as_deref().unwrap_or(&source.name);
    let layouts = &solve.request.layouts;
    let layout = layouts.get(name).or_else(|| layouts.get(&source.name)).cloned();
    let layout = layout.ok_or_else(|| VertexError::NoSuchLayout { name: name.to_owned() })?;
    let platform = platform.unwrap_or(solve.request.platform);
    let (store, digest) = (solve.workshop.store.clone(), source.digest);
    let layers = solve.blocking(move || layout::layers(&store, &layout, &digest, platform)).await?;
    Ok(Chain::of_image(layers))
}

/// The tree of an image in a registry.
pub(super) async fn from_registry(
    solve: &Arc<Solve>,
    source: &ImageSource,
    platform: Option<Platform>,
    task: &Task,
) -> Result<Chain, VertexError> {
    let platform = platform.unwrap_or(solve.request.platform);
    let reference = source.repository.with_digest(source.digest);
    let pulled = tokio::select! {
        biased;
        () = solve.cancel.cancelled() => return Err(VertexError::Canceled),
        pulled = solve.workshop.images.pull(&reference, platform, task) => pulled.map_err(ImageError::from)?,
    };
    let store = solve.workshop.store.clone();
    let layers = solve
        .blocking(move || layout::layers(&store, &Layout::Store(store.clone()), &pulled.manifest.digest, platform));
    Ok(Chain::of_image(layers.await?))
}
