//! The layers of a result, as an image of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use diag::progress::{Outcome, TaskId};
use engine::export::{ExportError, assemble};
use engine::meter::{Meter, Metered};
use engine::{ImageOutput, SolveError, SolvedImage, SolvedLayer};
use llb::{Edge, MountKind, Op};
use oci::layer::compress::LayerWriter;
use oci::layer::tar::TarWriter;
use oci::{Descriptor, DiffId};
use serde::{Deserialize, Serialize};
use store::{Bucket, Key, Store};

use super::chain::{self, Chain};
use super::images::{Content, Made};
use super::tree::Tree;
use super::{Solve, normal};
use crate::docker::DockerError;
use crate::solve::blocking;

/// Changed with whatever changes the layers made of Docker's.
const FORM: &str = "docker's layer 1";
/// Files that are mounted for every step.
const MOUNTED: [&str; 2] = ["etc/hosts", "etc/resolv.conf"];

/// What became of one of Docker's layers: ours, or nothing where it changed nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    layer: Option<SolvedLayer>,
}

/// A layer that Docker made and that is to be written.
struct Wanted {
    position: usize,
    stubs: BTreeSet<Vec<u8>>,
    key: Key,
}

impl Solve<'_> {
    /// The image of a tree.
    pub(super) async fn image(&mut self, head: Edge, output: &ImageOutput) -> Result<SolvedImage, SolveError> {
        let chain = self.chains.get(&head).cloned().unwrap_or_default();
        let id = TaskId::new(format!("export {}", self.request.definition.digest()));
        let task = self.progress.task(id, "exporting the image");
        let layers = self.layers(&chain, output, task.id()).await;
        let layers = match layers {
            Ok(layers) => layers,
            Err(error) => {
                task.finish(Outcome::Failed(error.to_string()));
                return Err(error);
            }
        };
        let (store, platform, output) = (self.tools.store.clone(), self.request.platform, output.clone());
        let assembled = blocking(move || assemble(&store, platform, &output, layers)).await;
        Ok(task.conclude(assembled)?)
    }

    async fn layers(&self, chain: &Chain, output: &ImageOutput, task: &TaskId) -> Result<Vec<SolvedLayer>, SolveError> {
        let stubs = self.stubs();
        // Which of which image are wanted: an image is looked through once.
        let mut images: BTreeMap<String, (Arc<Made>, Vec<Wanted>)> = BTreeMap::new();
        for layer in &chain.0 {
            if let Content::Made(made, position) = &layer.content {
                let stubs = stubs.get(&(made.id.clone(), *position)).cloned().unwrap_or_default();
                let key = self.key(&made.diff_ids[..=*position], &stubs, output);
                if find(self.tools.store, &key).is_none() {
                    let wanted = Wanted { position: *position, stubs, key };
                    images.entry(made.id.clone()).or_insert_with(|| (Arc::clone(made), Vec::new())).1.push(wanted);
                }
            }
        }
        for (made, wanted) in images.into_values() {
            self.write(&made, wanted, output, task).await?;
        }
        let mut layers = Vec::new();
        for layer in &chain.0 {
            match &layer.content {
                Content::Blob(descriptor) => {
                    layers.push(SolvedLayer { descriptor: descriptor.clone(), diff_id: layer.diff_id });
                }
                Content::Made(made, position) => {
                    let none = BTreeSet::new();
                    let stubs = stubs.get(&(made.id.clone(), *position)).unwrap_or(&none);
                    let key = self.key(&made.diff_ids[..=*position], stubs, output);
                    let record = find(self.tools.store, &key).ok_or_else(|| {
                        let found = format!("the layer {} twice, differently", layer.diff_id);
                        let (endpoint, expected) = (self.images.endpoint.to_string(), "it once".to_owned());
                        Self::docker(DockerError::Unexpected { endpoint, found, expected })
                    })?;
                    layers.extend(record.layer);
                }
                Content::Bytes(_) => unreachable!("only file operations stand on such layers"),
            }
        }
        Ok(layers)
    }

    /// Where things were mounted while each layer was made. Docker makes a layer for each step, even an empty one.
    fn stubs(&self) -> BTreeMap<(String, usize), BTreeSet<Vec<u8>>> {
        let definition = &self.request.definition;
        let mut stubs = BTreeMap::new();
        for (edge, Chain(layers)) in &self.chains {
            // A chain's last layer is the step's own.
            let Some(layer) = layers.last() else { continue };
            let Content::Made(made, position) = &layer.content else { continue };
            for (back, step) in chain::steps(definition, *edge).into_iter().enumerate() {
                let Some(position) = position.checked_sub(back) else { break };
                let Some(vertex) = definition.vertex(&step.vertex) else { break };
                if let Op::Exec(exec) = vertex.op() {
                    let mounts = exec.mounts.iter().filter(|mount| mount.dest != "/");
                    let mounts =
                        mounts.filter(|mount| !matches!(mount.kind, MountKind::Bind if mount.output.is_some()));
                    let places = mounts.map(|mount| mount.dest.trim_matches('/').as_bytes().to_vec());
                    let places = places.chain(MOUNTED.map(|path| path.as_bytes().to_vec())).collect();
                    stubs.insert((made.id.clone(), position), places);
                }
            }
        }
        stubs
    }

    fn key(&self, diff_ids: &[DiffId], stubs: &BTreeSet<Vec<u8>>, output: &ImageOutput) -> Key {
        let epoch = self.request.source_date_epoch.map_or_else(|| "none".to_owned(), |seconds| seconds.to_string());
        let head = [FORM.as_bytes(), output.compression.identity().as_bytes(), epoch.as_bytes()];
        let diff_ids: Vec<String> = diff_ids.iter().map(|id| id.0.hex()).collect();
        let ids = diff_ids.iter().map(String::as_bytes);
        Key::of(head.into_iter().chain(ids).chain(stubs.iter().map(Vec::as_slice)))
    }

    async fn write(
        &self,
        made: &Arc<Made>,
        wanted: Vec<Wanted>,
        output: &ImageOutput,
        task: &TaskId,
    ) -> Result<(), SolveError> {
        let last = wanted.iter().map(|wanted| wanted.position).max().unwrap_or(0);
        let mut slices = Vec::with_capacity(last + 1);
        for position in 0..=last {
            slices.push(self.images.layer(made, position).await.map_err(Self::docker)?);
        }
        let (store, cancel, progress) = (self.tools.store.clone(), self.cancel.clone(), self.progress.clone());
        let (threads, compression) = (self.tools.options.threads, output.compression);
        let (epoch, made, task) = (self.request.source_date_epoch, Arc::clone(made), task.clone());
        let writing = blocking(move || {
            let mut below = Tree::default();
            for (position, slice) in slices.iter().enumerate() {
                let members = slice.members(made.diff_ids[position]);
                let members = members.map_err(|error| Wrong::Saved(made.id.clone(), Box::new(error)))?;
                if let Some(wanted) = wanted.iter().find(|wanted| wanted.position == position) {
                    let meter = Meter::new(&progress, &task, format!("layer {}", position + 1), None);
                    let writer = LayerWriter::new(store.blob_writer()?, compression, threads);
                    let mut tar = TarWriter::new(Metered::new(writer, meter, &cancel));
                    let entries = normal::write(&below, &members, &wanted.stubs, epoch, slice, &mut tar)?;
                    let layer = match entries {
                        0 => None,
                        _ => {
                            let written = tar.finish()?.into_inner().finish();
                            let io = |source| ExportError::Io {
                                action: "write a layer to",
                                path: store.temp().to_owned(),
                                source,
                            };
                            let (blob, file) = written.map_err(io)?;
                            file.commit(Some(&blob.descriptor.digest))?;
                            Some(SolvedLayer { descriptor: blob.descriptor, diff_id: blob.diff_id })
                        }
                    };
                    // Should a power failure take the record away, the layer is made again.
                    store.put_record_unsynced(Bucket::Layers, &wanted.key, &Record { layer })?;
                }
                below.apply(&normal::contents(&members));
            }
            Ok(())
        });
        writing.await.map_err(|error| match error {
            _ if self.cancel.is_cancelled() => SolveError::Canceled,
            Wrong::Saved(image, source) => Self::docker(DockerError::Saved { image, source }),
            Wrong::Export(error) => SolveError::Export(Box::new(error)),
        })
    }
}

enum Wrong {
    Saved(String, Box<dyn std::error::Error + Send + Sync>),
    Export(ExportError),
}

impl<E: Into<ExportError>> From<E> for Wrong {
    fn from(error: E) -> Self {
        Self::Export(error.into())
    }
}

fn find(store: &Store, key: &Key) -> Option<Record> {
    let record: Record = store.record(Bucket::Layers, key)?;
    let whole = record.layer.as_ref().is_none_or(|layer| {
        let Descriptor { digest, size, .. } = &layer.descriptor;
        store.blob_size(digest) == Some(*size)
    });
    whole.then_some(record)
}
