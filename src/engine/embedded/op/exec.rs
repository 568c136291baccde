//! Running a command.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use diag::progress::{Event, Progress, Stream, Task, TaskId};
use llb::{
    CacheId, CopyAction, ExecOp, FileActionKind, InputIndex, Mount, MountKind, NetworkMode, SecretMount, Timestamp,
};
use oci::layer::Snapshot;
use secrecy::ExposeSecret as _;

use crate::embedded::chain::Chain;
use crate::embedded::fileop::{Source, TreeEditor};
use crate::embedded::mount::{CacheDirectory, Root, Tree};
use crate::embedded::sandbox::{
    Cancel, DEFAULT_HOSTNAME, ExitStatus, MountSource, Network, SandboxError, Secret, Spec, Variable,
};
use crate::embedded::snapshot::Draft;
use crate::embedded::solver::Solve;
use crate::embedded::{Workshop, sandbox, unpack};
use crate::error::VertexError;
use crate::{LastLines, StepFailure};

/// Runs the command; gives the trees of its outputs.
pub(crate) async fn exec(
    solve: &Arc<Solve>,
    op: &ExecOp,
    trees: &[Chain],
    task: &Task,
) -> Result<Vec<Chain>, VertexError> {
    let mut layers: BTreeMap<InputIndex, Vec<PathBuf>> = BTreeMap::new();
    for mount in &op.mounts {
        if let Some(input) = mount.input
            && !layers.contains_key(&input)
        {
            let snapshots = unpack::snapshots(solve, trees[input.0].parts()).await?;
            layers.insert(input, snapshots.iter().map(Snapshot::fs).collect());
        }
    }
    let caches = caches(solve, op).await?;
    let cancel = Cancel::new()?;
    let stage = Stage { solve: Arc::clone(solve), op: op.clone(), trees: trees.to_vec(), layers, caches };
    let running = solve.blocking({
        let (cancel, progress, id) = (cancel.clone(), solve.progress.clone(), task.id().clone());
        move || stage.run(&cancel, &progress, &id)
    });
    // Should this future be dropped, the command ends too.
    let _guard = CancelOnDrop(cancel.clone());
    tokio::pin!(running);
    tokio::select! {
        result = &mut running => result,
        () = solve.cancel.cancelled() => {
            cancel.cancel();
            running.await
        }
    }
}

/// The cache directories of a command. They are had in the order of their names, so that no two commands wait for each
/// other, and before one of the jobs is taken.
async fn caches(solve: &Solve, op: &ExecOp) -> Result<BTreeMap<CacheId, CacheDirectory>, VertexError> {
    let store = &solve.workshop.store;
    let wanted = op.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Cache { id, sharing } => Some((id.clone(), *sharing)),
        MountKind::Bind | MountKind::Tmpfs { .. } | MountKind::Secret(_) | MountKind::Ssh(_) => None,
    });
    let mut caches = BTreeMap::new();
    for (id, sharing) in wanted.collect::<BTreeMap<_, _>>() {
        let cache = loop {
            if solve.cancel.is_cancelled() {
                return Err(VertexError::Canceled);
            }
            match CacheDirectory::try_acquire(store, &id, sharing)? {
                Some(cache) => break cache,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        if let Some(name) = cache.path().file_name() {
            store.mark_cache_used(&name.to_string_lossy());
        }
        caches.insert(id, cache);
    }
    Ok(caches)
}

/// Fills a cache that holds nothing yet.
fn seed(workshop: &Workshop, directory: &Path, layers: &[PathBuf]) -> Result<(), VertexError> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let _lock = workshop.store.lock(&format!("seed-{name}"))?;
    let mut entries = fs::read_dir(directory).map_err(VertexError::io("read", directory))?;
    if entries.next().is_some() {
        return Ok(());
    }
    let source = workshop.mounter()?.read_only(layers)?;
    let target = File::open(directory).map_err(VertexError::io("open", directory))?;
    // Takes what would lie beside a snapshot's files, and goes.
    let beside = Draft::new(&workshop.store)?;
    let (root, ownership) = (Root::new(target.as_fd()), workshop.ownership());
    let mut editor = TreeEditor::open(root, beside.snapshot(), ownership, Timestamp::from_seconds(0))?;
    let copy = CopyAction { dir_copy_contents: true, ..CopyAction::new("/", "/") };
    let source = Source { root: Root::new(source.root()), layers };
    editor.apply(&FileActionKind::Copy(copy), Some(source), |_| None)?;
    Ok(editor.finish()?)
}

struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Everything a command is run with.
struct Stage {
    solve: Arc<Solve>,
    op: ExecOp,
    trees: Vec<Chain>,
    layers: BTreeMap<InputIndex, Vec<PathBuf>>,
    caches: BTreeMap<CacheId, CacheDirectory>,
}

/// A tree made visible for the command, and where its changes go.
struct Visible {
    tree: Tree,
    draft: Option<Draft>,
}

impl Stage {
    fn run(&self, cancel: &Cancel, progress: &Progress, id: &TaskId) -> Result<Vec<Chain>, VertexError> {
        let workshop = &self.solve.workshop;
        let mut spec = self.spec();
        // Trees by the position of their mount.
        let mut visible: BTreeMap<usize, Visible> = BTreeMap::new();
        for (position, mount) in self.op.mounts.iter().enumerate() {
            let source = match &mount.kind {
                MountKind::Bind => {
                    let shown = self.show(workshop, mount)?;
                    let path = shown.tree.path();
                    visible.insert(position, shown);
                    if mount.dest == "/" {
                        spec.root = path;
                        spec.read_only_root = mount.readonly;
                        continue;
                    }
                    bind(path, mount)
                }
                MountKind::Cache { id, .. } => {
                    let directory = self.caches[id].path();
                    if let Some(layers) = mount.input.and_then(|input| self.layers.get(&input)) {
                        seed(workshop, directory, layers)?;
                    }
                    bind(directory.to_owned(), mount)
                }
                MountKind::Tmpfs { size } => MountSource::Tmpfs { size: *size },
                MountKind::Secret(secret) => match self.secret(secret)? {
                    Some(source) => source,
                    None => continue,
                },
                MountKind::Ssh(agent) if agent.optional => continue,
                MountKind::Ssh(agent) => return Err(VertexError::SshAgent { id: agent.id.0.clone() }),
            };
            spec.mounts.push(sandbox::Mount { target: mount.dest.clone(), source });
        }

        let mut last = LastLines::default();
        let mut output = |stream: Stream, data: &[u8]| {
            last.take(data);
            progress.emit(Event::Log { task: id.clone(), stream, data: data.to_vec() });
        };
        let ended = workshop.sandbox()?.run_blocking(spec, &mut output, cancel);
        match ended {
            Ok(status) if status.success() => self.outputs(visible),
            Ok(ExitStatus { code, out_of_memory }) => {
                Err(StepFailure::new(&self.op.args, code, out_of_memory, last).into())
            }
            Err(SandboxError::Cancelled) => Err(VertexError::Canceled),
            Err(error) => Err(error.into()),
        }
    }

    fn spec(&self) -> Spec {
        let op = &self.op;
        let mut spec = Spec::new("", op.args.iter().cloned());
        spec.env = op.env.iter().map(|variable| Variable::new(&variable.name, &variable.value)).collect();
        spec.cwd.clone_from(&op.cwd);
        spec.user = op.user.clone().unwrap_or_default();
        spec.hostname = op.hostname.clone().unwrap_or_else(|| DEFAULT_HOSTNAME.to_owned());
        spec.network = match op.network {
            NetworkMode::Sandbox | NetworkMode::Host => Network::Host,
            NetworkMode::None => Network::None,
        };
        spec
    }

    fn show(&self, workshop: &Workshop, mount: &Mount) -> Result<Visible, VertexError> {
        let none = Vec::new();
        let layers = mount.input.and_then(|input| self.layers.get(&input)).unwrap_or(&none);
        // A root filesystem is written to even when the command may not: mount points are made in it.
        if mount.readonly && mount.dest != "/" {
            return Ok(Visible { tree: workshop.mounter()?.read_only(layers)?, draft: None });
        }
        let draft = Draft::new(&workshop.store)?;
        let tree = workshop.mounter()?.writable(layers, &draft.fs())?;
        Ok(Visible { tree, draft: Some(draft) })
    }

    fn secret(&self, mount: &SecretMount) -> Result<Option<MountSource>, VertexError> {
        let SecretMount { id, uid, gid, mode, optional } = mount;
        match self.solve.request.secrets.get(id) {
            Some(value) => {
                let content = Secret(value.expose_secret().to_vec());
                Ok(Some(MountSource::Secret { content, mode: *mode, uid: *uid, gid: *gid }))
            }
            None if *optional => Ok(None),
            None => Err(VertexError::NoSuchSecret { id: id.0.clone() }),
        }
    }

    /// The trees the mounts have become, in the order of the outputs.
    fn outputs(&self, mut visible: BTreeMap<usize, Visible>) -> Result<Vec<Chain>, VertexError> {
        let mut outputs = BTreeMap::new();
        for (position, mount) in self.op.mounts.iter().enumerate() {
            let shown = visible.remove(&position);
            let Some(output) = mount.output else { continue };
            let before = mount.input.map_or_else(Chain::default, |InputIndex(input)| self.trees[input].clone());
            let after = match shown {
                Some(Visible { tree, draft: Some(draft) }) if !mount.readonly => {
                    tree.finish()?;
                    draft.commit_onto(&before)?
                }
                Some(_) | None => before,
            };
            outputs.insert(output, after);
        }
        Ok(outputs.into_values().collect())
    }
}

fn bind(path: PathBuf, mount: &Mount) -> MountSource {
    MountSource::Bind { path, selector: mount.selector.clone().unwrap_or_default(), read_only: mount.readonly }
}
