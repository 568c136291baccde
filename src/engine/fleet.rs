//! Several builders as one engine: each request goes to a node that runs its steps natively.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use diag::codes;
use diag::progress::{Event, Progress, Sink, TaskId};
use llb::{Cap, Definition, Op};
use oci::Platform;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::{Engine, SolveError, SolveOutcome, SolveRequest, Unavailable};

/// What users call it: a fleet is of one kind only.
const NAME: &str = "buildkit";

/// Several builders as one.
///
/// A node that goes away in the middle of a solve is reported, and the solve is begun again on another that fits.
pub struct Fleet {
    nodes: Vec<Node>,
}

/// A builder of a fleet.
pub struct Node {
    name: String,
    engine: Arc<dyn Engine>,
    /// What it runs, as it was declared or as it said when it was first asked.
    platforms: OnceCell<Vec<Platform>>,
    /// Solves under way.
    load: AtomicUsize,
}

impl Node {
    /// The builder behind `engine`. It takes what is for `declared` platforms, or, if that is empty, what it says of
    /// itself that it runs natively.
    #[must_use]
    pub fn new(name: impl Into<String>, engine: Arc<dyn Engine>, declared: Vec<Platform>) -> Self {
        let platforms = OnceCell::new_with(Some(declared).filter(|declared| !declared.is_empty()));
        Self { name: name.into(), engine, platforms, load: AtomicUsize::new(0) }
    }

    async fn platforms(&self) -> Result<&[Platform], Unavailable> {
        Ok(self.platforms.get_or_try_init(|| self.engine.platforms()).await?)
    }
}

impl Fleet {
    /// These builders as one engine.
    #[must_use]
    pub fn new(nodes: Vec<Node>) -> Self {
        Self { nodes }
    }

    /// The nodes that can run this definition, the best first: those whose own platform the result is for, and of
    /// these the one with the least to do.
    async fn candidates(&self, request: &SolveRequest) -> Result<Vec<&Node>, Unavailable> {
        let needed = step_platforms(&request.definition);
        let mut fitting = Vec::new();
        let mut refusals = Vec::new();
        for (position, node) in self.nodes.iter().enumerate() {
            match node.platforms().await {
                Ok(platforms) if needed.iter().all(|platform| platforms.contains(platform)) => {
                    let foreign = platforms.first() != Some(&request.platform);
                    fitting.push(((foreign, node.load.load(Ordering::Relaxed), position), node));
                }
                Ok(platforms) => refusals.push(format!("{} runs {}", node.name, list(platforms))),
                Err(unavailable) => refusals.push(format!("{}: {}", node.name, unavailable.why)),
            }
        }
        if fitting.is_empty() {
            let needed: Vec<Platform> = needed.into_iter().collect();
            let why = format!("no node runs steps for {}: {}", list(&needed), refusals.join("; "));
            let fix = vec!["name a builder for it: `--builder URL,platform=OS/ARCH`".to_owned()];
            return Err(Unavailable { engine: NAME, code: codes::engine::UNAVAILABLE, why, fix });
        }
        fitting.sort_by_key(|(rank, _)| *rank);
        Ok(fitting.into_iter().map(|(_, node)| node).collect())
    }
}

/// The platforms of a definition's steps. What only moves files runs anywhere.
fn step_platforms(definition: &Definition) -> BTreeSet<Platform> {
    let steps = definition.vertices().iter().filter(|vertex| matches!(vertex.op(), Op::Exec(_)));
    steps.filter_map(llb::Vertex::platform).collect()
}

fn list(platforms: &[Platform]) -> String {
    match platforms {
        [] => "any platform".to_owned(),
        platforms => platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

#[async_trait]
impl Engine for Fleet {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn check_usable(&self) -> Result<(), Unavailable> {
        let mut why = Vec::new();
        for node in &self.nodes {
            match node.engine.check_usable().await {
                Ok(()) => return Ok(()),
                Err(unavailable) => why.push(format!("{}: {}", node.name, unavailable.why)),
            }
        }
        Err(Unavailable { engine: NAME, code: codes::engine::UNAVAILABLE, why: why.join("; "), fix: Vec::new() })
    }

    /// What every node that answers has, so that a solve may move from one to another.
    async fn capabilities(&self) -> Result<BTreeSet<Cap>, Unavailable> {
        let mut common: Option<BTreeSet<Cap>> = None;
        let mut last = None;
        for node in &self.nodes {
            match node.engine.capabilities().await {
                Ok(caps) => common = Some(common.map_or(caps.clone(), |common| &common & &caps)),
                Err(unavailable) => last = Some(unavailable),
            }
        }
        match (common, last) {
            (Some(common), _) => Ok(common),
            (None, Some(unavailable)) => Err(unavailable),
            (None, None) => Ok(BTreeSet::new()),
        }
    }

    async fn platforms(&self) -> Result<Vec<Platform>, Unavailable> {
        let mut platforms = Vec::new();
        let mut last = None;
        for node in &self.nodes {
            match node.platforms().await {
                Ok(own) => platforms.extend_from_slice(own),
                Err(unavailable) => last = Some(unavailable),
            }
        }
        let mut seen = BTreeSet::new();
        platforms.retain(|platform| seen.insert(*platform));
        match last {
            Some(unavailable) if platforms.is_empty() => Err(unavailable),
            _ => Ok(platforms),
        }
    }

    async fn solve(
        &self,
        request: SolveRequest,
        progress: Progress,
        cancel: CancellationToken,
    ) -> Result<SolveOutcome, SolveError> {
        let candidates = self.candidates(&request).await?;
        let mut lost = None;
        for node in candidates {
            if let Some((gone, error)) = lost.take() {
                let message = format!("{gone} is gone ({error}); its work begins again on {}", node.name);
                progress.emit(Event::Warning { task: None, message });
            }
            let _busy = Busy::begin(&node.load);
            let labelled = Progress::new(Labelled { node: node.name.clone(), progress: progress.clone() });
            match node.engine.solve(request.clone(), labelled, cancel.clone()).await {
                Err(error) if is_lost(&error) && !cancel.is_cancelled() => lost = Some((&node.name, error)),
                result => return result,
            }
        }
        Err(lost.expect("there is a candidate, and it was lost").1)
    }
}

/// Whether another node might do better: the engine failed, not the build.
fn is_lost(error: &SolveError) -> bool {
    match error {
        SolveError::Unavailable(_) => true,
        SolveError::Engine(error) => matches!(error.diagnostic().code.exit, diag::Exit::Engine | diag::Exit::Transient),
        SolveError::MissingCapabilities { .. }
        | SolveError::Vertex(_)
        | SolveError::Export(_)
        | SolveError::Store(_)
        | SolveError::Canceled => false,
    }
}

/// Counts a solve for as long as it lives.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn begin(load: &'a AtomicUsize) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(load)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says which node does what. The same vertex on two nodes is two tasks.
struct Labelled {
    node: String,
    progress: Progress,
}

impl Labelled {
    fn id(&self, task: &TaskId) -> TaskId {
        TaskId::new(format!("{} {task}", self.node))
    }
}

impl Sink for Labelled {
    fn emit(&self, event: Event) {
        let node = &self.node;
        self.progress.emit(match event {
            Event::Started { task, name } => Event::Started { task: self.id(&task), name: format!("{node}: {name}") },
            Event::Transfer { task, item, done, total } => Event::Transfer { task: self.id(&task), item, done, total },
            Event::Log { task, stream, data } => Event::Log { task: self.id(&task), stream, data },
            Event::Warning { task, message } => {
                Event::Warning { task: task.map(|task| self.id(&task)), message: format!("{node}: {message}") }
            }
            Event::Finished { task, outcome, elapsed } => Event::Finished { task: self.id(&task), outcome, elapsed },
        });
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.nodes.iter().map(|node| &node.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use diag::Code;
    use llb::{Exec, Graph};
    use oci::{Digest, Repository};

    use super::*;
    use crate::{CacheStats, Output, Solved};

    /// An engine that keeps what it was asked, and may be gone.
    struct Fake {
        name: &'static str,
        platforms: Vec<Platform>,
        gone: Option<Code>,
        asked: Arc<Mutex<Vec<&'static str>>>,
        /// How often it was asked what it runs.
        questions: Arc<AtomicUsize>,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("gone")]
    struct Gone(Code);

    impl diag::Reported for Gone {
        fn diagnostic(&self) -> diag::Diagnostic {
            diag::Diagnostic::new(self.0, "gone")
        }
    }

    #[async_trait]
    impl Engine for Fake {
        fn name(&self) -> &'static str {
            self.name
        }

        async fn check_usable(&self) -> Result<(), Unavailable> {
            Ok(())
        }

        async fn capabilities(&self) -> Result<BTreeSet<Cap>, Unavailable> {
            Ok(BTreeSet::new())
        }

        async fn platforms(&self) -> Result<Vec<Platform>, Unavailable> {
            self.questions.fetch_add(1, Ordering::Relaxed);
            Ok(self.platforms.clone())
        }

        async fn solve(
            &self,
            _: SolveRequest,
            progress: Progress,
            _: CancellationToken,
        ) -> Result<SolveOutcome, SolveError> {
            self.asked.lock().expect("nothing panics").push(self.name);
            progress.task(TaskId::new("step"), "a step").finish(diag::progress::Outcome::Done);
            match self.gone {
                Some(code) => Err(SolveError::Engine(Box::new(Gone(code)))),
                None => Ok(SolveOutcome { result: Solved::Tree, materials: Vec::new(), cache: CacheStats::default() }),
            }
        }
    }

    /// A request with one step that runs on `platform`.
    fn request(platform: Platform) -> SolveRequest {
        let graph = Graph::new(platform);
        let repository: Repository = "docker.io/library/base".parse().expect("a repository");
        let rootfs = graph.image(repository, Digest::of("base"));
        let step = graph.exec(Exec::on(&rootfs, ["true"]));
        SolveRequest {
            definition: Arc::new(graph.definition(step.rootfs()).expect("a definition")),
            platform,
            contexts: std::collections::BTreeMap::new(),
            layouts: std::collections::BTreeMap::new(),
            secrets: std::collections::BTreeMap::new(),
            agents: std::collections::BTreeMap::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            output: Output::Tree,
            no_cache: false,
            source_date_epoch: None,
        }
    }

    struct Site {
        fleet: Fleet,
        asked: Arc<Mutex<Vec<&'static str>>>,
        questions: Arc<AtomicUsize>,
    }

    fn site(nodes: &[(&'static str, &[Platform], Option<Code>)]) -> Site {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let questions = Arc::new(AtomicUsize::new(0));
        let nodes = nodes.iter().map(|(name, platforms, gone)| {
            let (asked, questions) = (Arc::clone(&asked), Arc::clone(&questions));
            let fake = Fake { name, platforms: platforms.to_vec(), gone: *gone, asked, questions };
            Node::new(*name, Arc::new(fake), Vec::new())
        });
        Site { fleet: Fleet::new(nodes.collect()), asked, questions }
    }

    impl Site {
        async fn solve(&self, platform: Platform) -> Result<Vec<&'static str>, SolveError> {
            let solved = self.fleet.solve(request(platform), Progress::none(), CancellationToken::new()).await;
            let asked = std::mem::take(&mut *self.asked.lock().expect("nothing panics"));
            solved.map(|_| asked)
        }
    }

    const AMD: Platform = Platform::LINUX_AMD64;
    const ARM: Platform = Platform::LINUX_ARM64;

    #[tokio::test]
    async fn steps_go_where_they_run_natively() {
        let site = site(&[("emulates", &[AMD, ARM], None), ("native", &[ARM], None)]);
        assert_eq!(site.solve(ARM).await.expect("solves"), ["native"]);
        assert_eq!(site.solve(AMD).await.expect("solves"), ["emulates"]);
    }

    #[tokio::test]
    async fn what_is_gone_is_done_without() {
        let lost = Some(diag::codes::engine::CONNECTION_LOST);
        let site = site(&[("first", &[AMD], lost), ("second", &[AMD], None), ("other", &[ARM], None)]);
        assert_eq!(site.solve(AMD).await.expect("solves"), ["first", "second"]);
        let site = super::tests::site(&[("only", &[AMD], lost)]);
        assert!(matches!(site.solve(AMD).await, Err(SolveError::Engine(_))));
    }

    #[tokio::test]
    async fn a_failed_build_is_not_tried_again() {
        let site = site(&[("first", &[AMD], Some(diag::codes::engine::BUILDER)), ("second", &[AMD], None)]);
        assert!(matches!(site.solve(AMD).await, Err(SolveError::Engine(_))));
        assert_eq!(*site.asked.lock().expect("nothing panics"), [] as [&str; 0]);
    }

    #[tokio::test]
    async fn what_a_node_runs_is_asked_once() {
        let site = site(&[("amd", &[AMD], None), ("arm", &[ARM], None)]);
        for platform in [AMD, ARM, AMD] {
            site.solve(platform).await.expect("solves");
        }
        site.fleet.platforms().await.expect("they answer");
        assert_eq!(site.questions.load(Ordering::Relaxed), 2, "once for each node");
    }

    #[tokio::test]
    async fn a_platform_nobody_runs_is_told() {
        let site = site(&[("amd", &[AMD], None)]);
        let error = site.solve(ARM).await.expect_err("nobody runs it").to_string();
        assert!(error.contains("no node runs steps for linux/arm64: amd runs linux/amd64"), "{error}");
    }
}
