//! Solving on a daemon that lacks much of BuildKit, with images over its Engine API.
//!
//! The layers of results are those BuildKit would make of the same steps, and get the same diff IDs, as long as these
//! agree:
//!
//! - Times of directories before the epoch. Docker 20.10 is BuildKit 0.8, whose copies leave a directory that was made
//!   to be copied into with the time of the build, where today it gets the copy's time or that of its source; what
//!   patterns leave out is removed, with the same effect on the directories it was in; and directories that were made
//!   on the way to something included have the copy's time, where today they have that of the build. Later times are
//!   cut down to the epoch on every engine, so nothing differs where copies are given the epoch, as clawbuild's own
//!   are.
//! - Modes of such directories. A copy with a mode gives it to them today, and there only as far as the path of the
//!   destination says that it is one: a directory copied with a mode to a path without a slash at its end is 0755.
//! - Fractions of seconds. Docker's layers have none, so a file that a step writes anew with the content, owner, mode
//!   and second it had counts as unchanged here, and as changed on other engines.
//! - Extended attributes. Docker keeps `security.capability` alone, as BuildKit does.

mod chain;
mod export;
mod file;
mod filter;
mod graph;
mod images;
mod lower;
mod normal;
mod progress;
mod spool;
mod tree;

use std::collections::{BTreeSet, HashMap};

use diag::progress::Progress;
use engine::{Material, MissingCapability, Output, SolveError, SolveOutcome, SolveRequest, Solved};
use llb::{Cap, Edge, Op, SourceOp};
use oci::Digest;
use store::Store;
use tokio_util::sync::CancellationToken;

use super::engine::NAME;
use super::{DockerError, DockerOptions, Endpoint};
use crate::BuildKitOptions;
use crate::control::Builder;
use crate::session::Journal;
use chain::{Chain, Demand};
use graph::Graph;
use images::DockerImages;
use progress::Once;

/// Capabilities that a daemon need not have: what they stand for is done in another way.
pub(super) const MADE_UP_FOR: [Cap; 6] = [
    Cap::SourceOciLayout,
    Cap::MergeOp,
    Cap::DiffOp,
    Cap::FileCopyIncludeExcludePatterns,
    Cap::FileSymlinkCreate,
    // A limit that is not kept.
    Cap::ExecMountTmpfsSize,
];

/// What a request is solved with.
pub(super) struct Tools<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) store: &'a Store,
    pub(super) options: &'a DockerOptions,
    pub(super) client: &'a str,
    pub(super) builder: &'a Builder,
    pub(super) caps: &'a BTreeSet<Cap>,
    pub(super) is_bridged: bool,
}

/// A request being solved.
struct Solve<'a> {
    tools: Tools<'a>,
    builds: crate::solve::Solve<'a>,
    request: SolveRequest,
    progress: Progress,
    cancel: CancellationToken,
    images: DockerImages,
    graph: Graph,
    /// What the vertices that the daemon is sent are to the user.
    lowered: HashMap<Digest, graph::Lowered>,
    names: Vec<(Digest, Digest)>,
    /// The layers of the trees whose layers matter.
    chains: HashMap<Edge, Chain>,
    /// Vertices that were sent before.
    sent: std::collections::HashSet<Digest>,
    journal: Option<Journal>,
}

/// Solves a request.
///
/// # Errors
/// [`SolveError`].
pub(super) async fn solve(
    tools: Tools<'_>,
    request: SolveRequest,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<SolveOutcome, SolveError> {
    let caps: BTreeSet<Cap> = tools.caps.iter().copied().chain(MADE_UP_FOR).collect();
    MissingCapability::check(NAME, &request.definition, &caps)?;
    chain::check_diffs(&request.definition)?;
    let once = Once::new(progress, &request.definition);
    let options = BuildKitOptions { threads: tools.options.threads, keychain: tools.options.keychain.clone() };
    let builds = crate::solve::Solve::new(
        tools.builder,
        tools.store,
        &options,
        tools.client,
        request.clone(),
        once.progress(),
        cancel.clone(),
    );
    builds.check()?;
    let images = DockerImages::new(tools.endpoint.clone(), tools.store.clone());
    let mut solve = Solve {
        builds,
        request,
        progress: once.progress(),
        cancel: cancel.clone(),
        images,
        graph: Graph::default(),
        lowered: HashMap::new(),
        names: Vec::new(),
        chains: HashMap::new(),
        sent: Default::default(),
        journal: None,
        tools,
    };
    let running = solve.run();
    let solved = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(SolveError::Canceled),
        solved = running => solved,
    };
    solve.images.clean_up().await;
    let (result, materials) = solved?;
    Ok(SolveOutcome { result, materials, cache: once.stats() })
}

impl Solve<'_> {
    async fn run(&mut self) -> Result<(Solved, Vec<Material>), SolveError> {
        let definition = std::sync::Arc::clone(&self.request.definition);
        let demand = Demand::of(&definition, matches!(self.request.output, Output::Image(_)));
        for vertex in definition.vertices() {
            self.vertex(vertex, &demand).await?;
        }
        let head = definition.head();
        let result = match self.request.output.clone() {
            Output::Image(output) => Solved::Image(self.image(head, &output).await?),
            Output::Files(output) => {
                let job = self.job(self.place(head)?);
                let (solved, journal, _) = self.builds.files(job, output).await?;
                self.journal = Some(journal);
                solved
            }
            Output::Tree => {
                let job = self.job(self.place(head)?);
                self.build(job).await?;
                Solved::Tree
            }
        };
        let journal = self.journal.clone().unwrap_or_default();
        Ok((result, self.builds.materials(&journal).await?))
    }

    /// A failure of Docker's own.
    fn docker(error: DockerError) -> SolveError {
        SolveError::Engine(Box::new(error))
    }
}

/// Whether a vertex is an image, of a layout or a registry.
fn is_image(op: &Op) -> bool {
    matches!(op, Op::Source(SourceOp::OciLayout(_) | SourceOp::Image(_)))
}
