//! Walking the graph: from the vertex that is wanted down to what has to run, and no further.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diag::progress::{Event, Outcome, Progress, TaskId};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use llb::{Op, OutputIndex, Vertex};
use oci::Digest;
use store::Key;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::alike::Alike;
use super::chain::Chain;
use super::key;
use super::record::Outputs;
use super::{Workshop, op, source};
use crate::context::Context;
use crate::error::{SolveError, VertexError};
use crate::{CacheStats, SolveRequest};

/// The work ends here: it was cancelled, or something failed, which [`Solve::conclude`] tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped;

/// One request being solved.
pub(crate) struct Solve {
    pub(crate) workshop: Workshop,
    pub(crate) request: SolveRequest,
    pub(crate) progress: Progress,
    // Triggered by the caller's token and by the first failure.
    pub(crate) cancel: CancellationToken,
    // The scanned directories behind local sources, by vertex.
    pub(crate) contexts: BTreeMap<Digest, Context>,
    nodes: Vec<Node>,
    head: Input,
    failure: Mutex<Option<SolveError>>,
    hits: AtomicUsize,
    misses: AtomicUsize,
}

/// A vertex in its graph.
struct Node {
    vertex: Vertex,
    inputs: Vec<Input>,
    // Whether it, or something it is made of, is to run although its result is known: then the definition does not say
    // what comes of it.
    is_volatile: bool,
    // The definition key, in the domain of this process.
    key: Key,
    outputs: OnceCell<Result<Outputs, Stopped>>,
}

#[derive(Clone, Copy, Debug)]
struct Input {
    node: usize,
    output: OutputIndex,
}

impl Solve {
    /// Lays the graph out. `contexts` holds what every local source of the definition was found to hold.
    pub(crate) fn new(
        workshop: Workshop,
        request: SolveRequest,
        progress: Progress,
        cancel: CancellationToken,
        contexts: BTreeMap<Digest, Context>,
    ) -> Self {
        let epoch = request.source_date_epoch;
        let mut nodes: Vec<Node> = Vec::new();
        let mut positions: BTreeMap<Digest, usize> = BTreeMap::new();
        for vertex in request.definition.vertices() {
            let inputs: Vec<Input> = vertex
                .inputs()
                .iter()
                .map(|edge| Input { node: positions[&edge.vertex], output: edge.output })
                .collect();
            let key = match vertex.op() {
                Op::Source(source) => {
                    let platform = vertex.platform().unwrap_or(request.platform);
                    key::source(source, platform, |_| contexts[&vertex.digest()].digest())
                }
                Op::Exec(_) | Op::File(_) | Op::Merge(_) | Op::Diff(_) => {
                    key::definition(vertex, epoch, inputs.iter().map(|input| &nodes[input.node].key))
                }
            };
            let key = key::in_domain(&workshop.domain, &key);
            let is_volatile =
                !request_allows_hit(&request, vertex) || inputs.iter().any(|input| nodes[input.node].is_volatile);
            positions.insert(vertex.digest(), nodes.len());
            nodes.push(Node { vertex: vertex.clone(), inputs, is_volatile, key, outputs: OnceCell::new() });
        }
        let head = request.definition.head();
        let head = Input { node: positions[&head.vertex], output: head.output };
        Self {
            workshop,
            request,
            progress,
            cancel,
            contexts,
            nodes,
            head,
            failure: Mutex::new(None),
            hits: AtomicUsize::new(0),
            misses: AtomicUsize::new(0),
        }
    }

    /// Whether something is to run although its result is known, so that the result as a whole is not to be looked up.
    pub(crate) fn is_volatile(&self) -> bool {
        self.nodes[self.head.node].is_volatile
    }

    /// The definition key of what is wanted: it stands for the whole graph and everything that goes into it.
    pub(crate) fn head_key(&self) -> Key {
        let output = self.head.output.0.to_string();
        Key::of(["head", &self.nodes[self.head.node].key.hex(), &output].map(str::as_bytes))
    }

    /// Makes what is wanted, or finds it.
    pub(crate) async fn run(self: &Arc<Self>) -> Result<Chain, Stopped> {
        Ok(self.resolve(self.head.node).await?.take(self.head.output))
    }

    /// Reports every vertex as known. For when a whole result was found at once.
    pub(crate) fn report_cached(&self) {
        for node in &self.nodes {
            self.workshop.records.mark_used(&node.key);
            self.cached(&node.vertex);
        }
    }

    /// What came of it: `result`, or the first failure.
    pub(crate) fn conclude<T>(&self, result: Result<T, Stopped>) -> Result<T, SolveError> {
        let failure = self.failure.lock().expect("nothing panics while holding it").take();
        match (failure, result) {
            (Some(error), _) => Err(error),
            (None, Err(Stopped)) => Err(SolveError::Canceled),
            (None, Ok(value)) => Ok(value),
        }
    }

    pub(crate) fn cache_stats(&self) -> CacheStats {
        CacheStats { hits: self.hits.load(Ordering::Relaxed), misses: self.misses.load(Ordering::Relaxed) }
    }

    /// Keeps the first failure and stops everything else.
    pub(crate) fn fail(&self, error: impl Into<SolveError>) -> Stopped {
        let mut failure = self.failure.lock().expect("nothing panics while holding it");
        // What is cut short by the caller's wish, or by another failure, has nothing to say.
        if !self.cancel.is_cancelled() {
            failure.get_or_insert(error.into());
        }
        self.cancel.cancel();
        Stopped
    }

    /// As [`Solve::fail`], for what was to be done with the wanted vertex's result.
    pub(crate) fn fail_head(&self, error: VertexError) -> Stopped {
        self.fail_vertex(&self.nodes[self.head.node].vertex, error)
    }

    fn fail_vertex(&self, vertex: &Vertex, error: VertexError) -> Stopped {
        self.fail(SolveError::vertex(&self.request.definition, vertex, error))
    }

    fn resolve<'a>(self: &'a Arc<Self>, node: usize) -> BoxFuture<'a, Result<Outputs, Stopped>> {
        // Each in a task of its own: a graph can be deeper than a stack.
        let evaluate = move || async move {
            let solve = Arc::clone(self);
            match tokio::spawn(async move { solve.evaluate(node).await }).await {
                Ok(result) => result,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime is shutting down.
                    Err(_) => Err(Stopped),
                },
            }
        };
        async move { self.nodes[node].outputs.get_or_init(evaluate).await.clone() }.boxed()
    }

    async fn evaluate(self: &Arc<Self>, index: usize) -> Result<Outputs, Stopped> {
        let node = &self.nodes[index];
        let vertex = &node.vertex;
        let outputs = vertex.op().outputs();
        let (is_source, may_hit) = (is_source(vertex), self.may_hit(vertex));
        if self.cancel.is_cancelled() {
            return Err(Stopped);
        }
        if !node.is_volatile
            && let Some(outputs) = self.workshop.records.find(&node.key, outputs)
        {
            return Ok(self.hit(vertex, outputs));
        }

        let trees = self.resolve_inputs(node).await?;
        if is_source {
            return self.make(vertex, node.key, &[node.key], None, trees).await;
        }
        let domain = &self.workshop.domain;
        let digest = key::op_digest(vertex, self.request.source_date_epoch);
        let identity = key::in_domain(domain, &key::identity(&digest, &trees));
        let alike = Alike::of(domain, &digest, vertex.op(), &trees);
        if may_hit {
            let mut found = self.workshop.records.find(&identity, outputs);
            let mut keys = vec![node.key];
            if let (None, Some(alike)) = (&found, &alike) {
                found = alike.find(self, outputs).await.map_err(|error| self.fail_vertex(vertex, error))?;
                keys.push(identity);
            }
            if let Some(outputs) = found {
                self.keep(vertex, &keys, &outputs)?;
                return Ok(self.hit(vertex, outputs));
            }
        }
        self.make(vertex, identity, &[node.key, identity], alike, trees).await
    }

    /// Does what the vertex says, unless somebody else has meanwhile, and writes the result down under `keys`.
    async fn make(
        self: &Arc<Self>,
        vertex: &Vertex,
        identity: Key,
        keys: &[Key],
        alike: Option<Alike>,
        trees: Vec<Chain>,
    ) -> Result<Outputs, Stopped> {
        let flight = self.workshop.flights.board(&identity, &self.cancel).await;
        let Some(_flight) = flight.map_err(|error| self.fail_vertex(vertex, error.into()))? else {
            return Err(Stopped);
        };
        if self.may_hit(vertex)
            && let Some(outputs) = self.workshop.records.find(&identity, vertex.op().outputs())
        {
            self.keep(vertex, keys, &outputs)?;
            return Ok(self.hit(vertex, outputs));
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let outputs = self.execute(vertex, trees).await?;
        self.keep(vertex, keys, &outputs)?;
        if let Some(alike) = alike {
            alike.remember(self, &identity).map_err(|error| self.fail_vertex(vertex, error.into()))?;
        }
        Ok(outputs)
    }

    fn may_hit(&self, vertex: &Vertex) -> bool {
        request_allows_hit(&self.request, vertex)
    }

    async fn resolve_inputs(self: &Arc<Self>, node: &Node) -> Result<Vec<Chain>, Stopped> {
        // All are waited for even when one fails: what still runs must not outlive this.
        let inputs = join_all(
            node.inputs.iter().map(|input| async move { Ok(self.resolve(input.node).await?.take(input.output)) }),
        );
        inputs.await.into_iter().collect()
    }

    async fn execute(self: &Arc<Self>, vertex: &Vertex, trees: Vec<Chain>) -> Result<Outputs, Stopped> {
        let task = self.progress.task(task_id(vertex), vertex.name());
        let result = match vertex.op() {
            Op::Source(source) => source::take(self, vertex, source, &task).await.map(|tree| Outputs(vec![tree])),
            Op::Exec(exec) => op::exec(self, exec, &trees, &task).await.map(Outputs),
            Op::File(file) => op::file(self, file, &trees).await.map(Outputs),
            Op::Merge(merge) => Ok(Outputs(vec![op::merge(merge, &trees)])),
            Op::Diff(diff) => op::diff(self, diff, &trees).await.map(|tree| Outputs(vec![tree])),
        };
        match result {
            Ok(outputs) => {
                task.finish(Outcome::Done);
                Ok(outputs)
            }
            // What the caller stopped, or another vertex's failure, did not fail itself.
            Err(_) if self.cancel.is_cancelled() => {
                task.finish(Outcome::Canceled);
                Err(Stopped)
            }
            Err(error) => {
                task.finish(Outcome::Failed(error.to_string()));
                Err(self.fail_vertex(vertex, error))
            }
        }
    }

    fn keep(&self, vertex: &Vertex, keys: &[Key], outputs: &Outputs) -> Result<(), Stopped> {
        let kept = self.workshop.records.keep(keys.iter().copied(), outputs);
        kept.map_err(|error| self.fail_vertex(vertex, error.into()))
    }

    fn hit(&self, vertex: &Vertex, outputs: Outputs) -> Outputs {
        self.cached(vertex);
        outputs
    }

    fn cached(&self, vertex: &Vertex) {
        self.hits.fetch_add(1, Ordering::Relaxed);
        let task = task_id(vertex);
        self.progress.emit(Event::Started { task: task.clone(), name: vertex.name() });
        self.progress.emit(Event::Finished { task, outcome: Outcome::Cached, elapsed: Duration::ZERO });
    }

    /// Does work that blocks, when one of the jobs is free.
    pub(crate) async fn blocking<T: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.workshop.blocking(work).await
    }
}

/// Sources are pinned by their content, so there is nothing to gain from taking them again.
fn request_allows_hit(request: &SolveRequest, vertex: &Vertex) -> bool {
    is_source(vertex) || !(request.no_cache || vertex.metadata().ignore_cache)
}

fn is_source(vertex: &Vertex) -> bool {
    matches!(vertex.op(), Op::Source(_))
}

/// A vertex is known to progress by its digest.
pub(crate) fn task_id(vertex: &Vertex) -> TaskId {
    TaskId::new(vertex.digest().to_string())
}
