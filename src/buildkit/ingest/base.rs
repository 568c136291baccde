//! The layers that came with bases.

use std::collections::{HashMap, HashSet};

use engine::{Layout, SolveRequest};
use llb::{Op, SourceOp};
use oci::{Descriptor, DiffId, Digest, Platform};
use serde::{Deserialize, Serialize};
use store::{Bucket, Key, Store};

/// The layers of the images a definition names as sources. They keep their blobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseLayers {
    /// Those that lie in the store already.
    present: HashMap<DiffId, Descriptor>,
    /// Those that lie in a registry.
    remote: HashSet<DiffId>,
}

/// What is known of an image in a registry from an earlier solve.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageRecord {
    diff_ids: Vec<DiffId>,
}

/// As much of an image's config as says what it is made of.
#[derive(Debug, Deserialize)]
pub(super) struct Layered {
    pub(super) rootfs: LayeredRoot,
}

#[derive(Debug, Deserialize)]
pub(super) struct LayeredRoot {
    pub(super) diff_ids: Option<Vec<DiffId>>,
}

/// An image in a registry of which only the builder can say what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnknownImage {
    pub(crate) source: llb::ImageSource,
    pub(crate) platform: Platform,
}

impl BaseLayers {
    /// Looks at the images of a request: those in layouts are brought into the store, of those in registries what an
    /// earlier solve wrote down is read. What is left is to be asked for. Blocks.
    pub(crate) fn of(store: &Store, request: &SolveRequest) -> Result<(Self, Vec<UnknownImage>), engine::SolveError> {
        let (mut known, mut unknown) = (Self::default(), Vec::new());
        for vertex in request.definition.vertices() {
            let platform = vertex.platform().unwrap_or(request.platform);
            match vertex.op() {
                Op::Source(SourceOp::OciLayout(source)) => {
                    let fail = |error| engine::SolveError::vertex(&request.definition, vertex, error);
                    let layout = layout_of(request, source).ok_or_else(|| {
                        let name = source.store.clone().unwrap_or_else(|| source.name.clone());
                        fail(engine::VertexError::NoSuchLayout { name })
                    })?;
                    let layers = engine::layout::layers(store, layout, &source.digest, platform);
                    known.present.extend(layers.map_err(|error| fail(error.into()))?);
                }
                Op::Source(SourceOp::Image(source)) => {
                    match store.record(Bucket::Layers, &key(&source.digest, platform)) {
                        Some(ImageRecord { diff_ids }) => known.remote.extend(diff_ids),
                        None => unknown.push(UnknownImage { source: source.clone(), platform }),
                    }
                }
                Op::Source(SourceOp::Local(_) | SourceOp::Git(_) | SourceOp::Http(_))
                | Op::Exec(_)
                | Op::File(_)
                | Op::Merge(_)
                | Op::Diff(_) => {}
            }
        }
        Ok((known, unknown))
    }

    /// Learns what an image in a registry is made of, from its config.
    pub(crate) fn learn(
        &mut self,
        store: &Store,
        image: &UnknownImage,
        config: &[u8],
    ) -> Result<(), serde_json::Error> {
        let config: Layered = serde_json::from_slice(config)?;
        let record = ImageRecord { diff_ids: config.rootfs.diff_ids.unwrap_or_default() };
        // Should it not be kept, it is asked for again.
        let _ = store.put_record_unsynced(Bucket::Layers, &key(&image.source.digest, image.platform), &record);
        self.remote.extend(record.diff_ids);
        Ok(())
    }

    /// The descriptor of a layer of a base in the store.
    pub(super) fn present(&self, diff_id: &DiffId) -> Option<&Descriptor> {
        self.present.get(diff_id)
    }

    /// Whether a layer came with a base.
    pub(super) fn contains(&self, diff_id: &DiffId) -> bool {
        self.present.contains_key(diff_id) || self.remote.contains(diff_id)
    }
}

fn layout_of<'a>(request: &'a SolveRequest, source: &llb::OciLayoutSource) -> Option<&'a Layout> {
    let named = source.store.as_ref().and_then(|store| request.layouts.get(store));
    named.or_else(|| request.layouts.get(&source.name))
}

fn key(image: &Digest, platform: Platform) -> Key {
    let parts = ["image's layers", &image.to_string(), &platform.to_string()];
    Key::of(parts.map(str::as_bytes))
}
