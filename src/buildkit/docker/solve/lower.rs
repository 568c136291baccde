//! Vertices as the daemon gets them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bollard_buildkit_proto::pb;
use diag::progress::{Outcome, TaskId};
use engine::layout::{self, ImageError};
use engine::{Layout, SolveError, VertexError};
use llb::{Cap, Edge, Op, OutputIndex, SourceOp, Vertex};
use oci::{DiffId, Platform};
use prost::Message as _;

use super::chain::{self, Chain, Demand};
use super::graph::{Lowered, Place};
use super::images::{Content, ImageLayer};
use super::{Solve, is_image};
use crate::control::{Exporter, Finished, Job, Names};
use crate::session::Receive;
use crate::solve::blocking;

/// Says that an image is taken from those the daemon has. Source: BuildKit `solver/pb/attr.go`.
const RESOLVE_MODE: (&str, &str) = ("image.resolvemode", "local");
const RESOLVE_MODE_CAP: &str = "source.image.resolvemode";
/// What steps need that use the host's network. Source: BuildKit `util/entitlements`.
const HOST_NETWORK: &str = "network.host";
/// What Docker's exporter says the id of the image is.
const IMAGE_ID: &str = "containerimage.digest";

impl Solve<'_> {
    /// Does what is wanted of a vertex. Those it uses are done.
    pub(super) async fn vertex(&mut self, vertex: &Vertex, demand: &Demand) -> Result<(), SolveError> {
        let wants_tree = demand.trees.contains(&vertex.digest());
        let layers = demand.chains.get(&vertex.digest());
        if !wants_tree && layers.is_none() {
            return Ok(());
        }
        match vertex.op() {
            Op::Source(_) if is_image(vertex.op()) => {
                // The daemon pulls images itself, unless their layers matter here.
                let is_local = matches!(vertex.op(), Op::Source(SourceOp::OciLayout(_)));
                if layers.is_some() || is_local {
                    let chain = self.image_layers(vertex).await?;
                    if wants_tree && is_local {
                        self.load(vertex, &chain).await?;
                    }
                    self.keep(vertex, chain);
                }
                if wants_tree && !is_local {
                    self.take_over(vertex);
                }
            }
            Op::Source(_) => self.take_over(vertex),
            Op::Merge(merge) => {
                let chain = chain::merged(vertex, merge, &self.chains);
                self.composed(vertex, chain, wants_tree).await?;
            }
            Op::Diff(diff) => {
                let chain = chain::difference(vertex, diff, &self.chains);
                self.composed(vertex, chain, wants_tree).await?;
            }
            Op::Exec(_) => self.take_over(vertex),
            Op::File(file) => self.file(vertex, file).await?,
        }
        if matches!(vertex.op(), Op::Exec(_) | Op::File(_)) || (layers.is_some() && !self.has_chain(vertex)) {
            for output in layers.into_iter().flatten() {
                let edge = Edge { vertex: vertex.digest(), output: *output };
                let chain = self.made_layers(edge).await?;
                self.chains.insert(edge, chain);
            }
        }
        Ok(())
    }

    async fn composed(&mut self, vertex: &Vertex, chain: Chain, wants_tree: bool) -> Result<(), SolveError> {
        if wants_tree {
            self.load(vertex, &chain).await?;
        }
        self.keep(vertex, chain);
        Ok(())
    }

    fn keep(&mut self, vertex: &Vertex, chain: Chain) {
        self.chains.insert(Edge { vertex: vertex.digest(), output: OutputIndex(0) }, chain);
    }

    fn has_chain(&self, vertex: &Vertex) -> bool {
        self.chains.contains_key(&Edge { vertex: vertex.digest(), output: OutputIndex(0) })
    }

    /// Where a tree is on the daemon.
    pub(super) fn place(&self, edge: Edge) -> Result<Place, SolveError> {
        let lowered = self.lowered.get(&edge.vertex).expect("vertices are lowered before what uses them");
        Ok(Place { op: lowered.digest, output: lowered.output(edge.output) })
    }

    pub(super) fn places(&self, vertex: &Vertex) -> Result<Vec<Place>, SolveError> {
        vertex.inputs().iter().map(|edge| self.place(*edge)).collect()
    }

    /// Sends a vertex as it is, but for its inputs.
    fn take_over(&mut self, vertex: &Vertex) {
        let mut op = pb::Op::decode(vertex.encoded()).expect("vertices are encoded ops");
        if let (Op::Source(SourceOp::Local(local)), Some(pb::op::Op::Source(source))) = (vertex.op(), &mut op.op)
            && local.unique.is_none()
            && local.session.is_none()
        {
            // Another client of this daemon may have another directory of that name.
            source.attrs.insert("local.unique".to_owned(), self.tools.client.to_owned());
        }
        if let Some(pb::op::Op::Exec(exec)) = &mut op.op
            && exec.network() == pb::NetMode::Unset
            && !self.tools.is_bridged
        {
            exec.set_network(pb::NetMode::Host);
        }
        let inputs = self.places(vertex).expect("inputs are lowered");
        let digest = self.graph.add(op, inputs, self.metadata(vertex));
        self.put(vertex, Lowered { digest, only: None });
    }

    pub(super) fn put(&mut self, vertex: &Vertex, lowered: Lowered) {
        self.names.push((lowered.digest, vertex.digest()));
        self.lowered.insert(vertex.digest(), lowered);
    }

    /// What is known of a vertex, with the capabilities the daemon has: the others are made up for.
    pub(super) fn metadata(&self, vertex: &Vertex) -> pb::OpMetadata {
        let known = vertex.metadata();
        let caps = known.caps.iter().filter(|cap| self.tools.caps.contains(cap));
        pb::OpMetadata {
            ignore_cache: known.ignore_cache || (self.request.no_cache && !matches!(vertex.op(), Op::Source(_))),
            description: known.description.clone(),
            export_cache: known.export_cache.map(|value| pb::ExportCache { value }),
            caps: caps.map(|cap| (cap.as_str().to_owned(), true)).collect(),
            progress_group: None,
        }
    }

    /// Makes an image of layers on the daemon, and that the vertex.
    async fn load(&mut self, vertex: &Vertex, chain: &Chain) -> Result<(), SolveError> {
        let platform = vertex.platform().unwrap_or(self.request.platform);
        let place = self.tree(&chain.0, platform, &format!("load {}", vertex.name()), self.metadata(vertex)).await?;
        self.put(vertex, Lowered { digest: place.op, only: Some(place.output) });
        Ok(())
    }

    /// A source of an image with these layers, which is loaded unless the daemon has it.
    pub(super) async fn tree(
        &mut self,
        layers: &[ImageLayer],
        platform: Platform,
        task: &str,
        mut metadata: pb::OpMetadata,
    ) -> Result<Place, SolveError> {
        let task = self.progress.task(TaskId::new(format!("docker {task}")), format!("[docker] {task}"));
        let loaded = self.images.tree(layers, platform).await;
        let reference = match loaded {
            Ok((reference, was_there)) => {
                task.finish(if was_there { Outcome::Cached } else { Outcome::Done });
                reference
            }
            Err(error) => {
                task.finish(Outcome::Failed(error.to_string()));
                return Err(Self::docker(error));
            }
        };
        let attrs = BTreeMap::from([(RESOLVE_MODE.0.to_owned(), RESOLVE_MODE.1.to_owned())]);
        let source = pb::SourceOp { identifier: format!("docker-image://{reference}"), attrs };
        let op = pb::Op {
            op: Some(pb::op::Op::Source(source)),
            platform: Some(pb::Platform {
                architecture: platform.architecture.to_string(),
                os: "linux".to_owned(),
                ..pb::Platform::default()
            }),
            constraints: Some(pb::WorkerConstraints::default()),
            ..pb::Op::default()
        };
        metadata.caps = [Cap::SourceImage.as_str(), RESOLVE_MODE_CAP].map(|cap| (cap.to_owned(), true)).into();
        metadata.ignore_cache = false;
        Ok(Place { op: self.graph.add(op, Vec::new(), metadata), output: 0 })
    }

    /// The layers of an image of a layout or a registry. Its blobs are in the store afterwards.
    async fn image_layers(&self, vertex: &Vertex) -> Result<Chain, SolveError> {
        let platform = vertex.platform().unwrap_or(self.request.platform);
        let fail = |error: VertexError| SolveError::vertex(&self.request.definition, vertex, error);
        let (layout, digest) = match vertex.op() {
            Op::Source(SourceOp::OciLayout(source)) => {
                let name = source.store.as_ref().unwrap_or(&source.name);
                let layouts = &self.request.layouts;
                let layout = layouts.get(name).or_else(|| layouts.get(&source.name)).cloned();
                let missing = || fail(VertexError::NoSuchLayout { name: name.clone() });
                (layout.ok_or_else(missing)?, source.digest)
            }
            Op::Source(SourceOp::Image(source)) => {
                let reference = source.repository.with_digest(source.digest);
                let task = self.progress.task(TaskId::new(format!("pull {reference}")), format!("pull {reference}"));
                let pulled = self.tools.options.images.pull(&reference, platform, &task).await;
                let pulled = task.conclude(pulled).map_err(|error| fail(ImageError::from(error).into()))?;
                (Layout::Store(self.tools.store.clone()), pulled.manifest.digest)
            }
            _ => return Ok(Chain::default()),
        };
        let store = self.tools.store.clone();
        let layers = blocking(move || layout::layers(&store, &layout, &digest, platform)).await;
        let layers = layers.map_err(|error| fail(error.into()))?.into_iter();
        let layer = |(diff_id, blob)| ImageLayer { diff_id, content: Content::Blob(blob) };
        Ok(Chain(layers.map(layer).collect()))
    }

    /// The layers of a tree that the daemon makes.
    async fn made_layers(&mut self, edge: Edge) -> Result<Chain, SolveError> {
        let definition = Arc::clone(&self.request.definition);
        let root = chain::root(&definition, edge);
        let below = root.and_then(|root| self.chains.get(&root)).cloned().unwrap_or_default();
        let made = self.export(self.place(edge)?).await?;
        let expected: Vec<DiffId> = below.0.iter().map(|layer| layer.diff_id).collect();
        if !made.diff_ids.starts_with(&expected) {
            let shown = |ids: &[DiffId]| ids.iter().map(|id| id.0.hex()).collect::<Vec<_>>().join(", ");
            return Err(Self::docker(crate::docker::DockerError::Unexpected {
                endpoint: self.images.endpoint.to_string(),
                found: format!("an image of the layers {}", shown(&made.diff_ids)),
                expected: format!("one on top of {}", shown(&expected)),
            }));
        }
        let mut layers = below.0;
        for position in layers.len()..made.diff_ids.len() {
            let content = Content::Made(Arc::clone(&made), position);
            layers.push(ImageLayer { diff_id: made.diff_ids[position], content });
        }
        Ok(Chain(layers))
    }

    /// Makes a tree an image on the daemon.
    pub(super) async fn export(&mut self, place: Place) -> Result<Arc<super::images::Made>, SolveError> {
        let mut job = self.job(place);
        job.exporter = Some(Exporter { kind: "moby", ..Exporter::default() });
        let finished = self.build(job).await?;
        let id = finished.response.get(IMAGE_ID).cloned().unwrap_or_default();
        self.images.made(&id).await.map_err(Self::docker)
    }

    pub(super) async fn build(&mut self, job: Job) -> Result<Finished, SolveError> {
        let (finished, journal) = self.builds.build(job, Receive::Nothing).await?;
        self.journal = Some(journal);
        Ok(finished)
    }

    /// A build of one tree. What an earlier one did anew is not done anew again.
    pub(super) fn job(&mut self, place: Place) -> Job {
        let caps = [Cap::Constraints, Cap::Platform, Cap::MetaIgnoreCache, Cap::MetaDescription, Cap::MetaExportCache];
        let caps = caps.iter().filter(|cap| self.tools.caps.contains(cap));
        let caps = caps.map(|cap| (cap.as_str().to_owned(), true)).collect();
        let mut definition = self.graph.definition(place, caps);
        for (digest, metadata) in &mut definition.metadata {
            if let Ok(digest) = digest.parse()
                && !self.sent.insert(digest)
            {
                metadata.ignore_cache = false;
            }
        }
        let names = Names::lowered(&self.request.definition, &self.names);
        let mut job = Job::new(Some(definition), names);
        job.entitlements = crate::solve::entitlements(&self.request.definition);
        if !self.tools.is_bridged && job.entitlements.is_empty() {
            job.entitlements.push(HOST_NETWORK.to_owned());
        }
        job.cache_from = self.builds.imports();
        job
    }
}
