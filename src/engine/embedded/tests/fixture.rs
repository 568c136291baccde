//! Stores, and processes that solve.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use oci::{Descriptor, Digest, Manifest};
use serde::{Deserialize, Serialize};

use crate::base::{Parents, write_base};

/// Set for processes that solve.
pub(crate) const WORKER: &str = "CLAWBUILD_TEST_WORKER";

/// A user nobody else is, for the tests run by root.
const ORDINARY: u32 = 54_322;

/// Who solves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// Root.
    Root,
    /// An ordinary user with subordinate ids.
    Range,
    /// An ordinary user without.
    Single,
}

pub(crate) const ALL: &[Who] = &[Who::Root, Who::Range, Who::Single];
pub(crate) const ROOT: &[Who] = &[Who::Root];
pub(crate) const ANY: &[Who] = &[Who::Root, Who::Single];

impl Who {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Range => "range",
            Self::Single => "single",
        }
    }
}

/// Whether the environment says that this has to work here.
pub(crate) fn is_required(who: Who) -> bool {
    let required = std::env::var("CLAWBUILD_TEST_REQUIRE").unwrap_or_default();
    required.split(',').any(|name| match who {
        Who::Root => name == "root",
        Who::Range => name == "range",
        Who::Single => name == "userns",
    })
}

/// What a process is to solve.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) single: bool,
    pub(crate) store: PathBuf,
    pub(crate) layout: PathBuf,
    pub(crate) base: Digest,
    pub(crate) contexts: BTreeMap<String, PathBuf>,
    pub(crate) secrets: BTreeMap<String, String>,
    /// Graphs, solved at the same time in one process.
    pub(crate) graphs: Vec<String>,
    pub(crate) output: Wanted,
    pub(crate) created: String,
    pub(crate) no_cache: bool,
    pub(crate) cancel_after: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wanted {
    Image,
    Directory(PathBuf),
    Tar(PathBuf),
}

/// What came of it, for one graph.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) manifest: Option<Descriptor>,
    pub(crate) layers: Vec<(Digest, Digest)>,
    pub(crate) hits: usize,
    pub(crate) misses: usize,
    /// The names of vertices that ran, and of those whose result was known.
    pub(crate) ran: Vec<String>,
    pub(crate) cached: Vec<String>,
    pub(crate) log: String,
    pub(crate) error: Option<Failure>,
    pub(crate) microseconds: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) related: Vec<String>,
    pub(crate) labels: Vec<String>,
}

impl Report {
    /// The manifest, which there must be.
    pub(crate) fn manifest(&self) -> Digest {
        self.manifest.as_ref().unwrap_or_else(|| panic!("no image: {self:#?}")).digest
    }

    pub(crate) fn error(&self) -> &Failure {
        self.error.as_ref().unwrap_or_else(|| panic!("no failure: {self:#?}"))
    }

    pub(crate) fn has_run(&self, name: &str) -> bool {
        self.ran.iter().any(|ran| ran == name)
    }
}

/// Where the tests work.
pub(crate) struct Bench {
    directory: PathBuf,
    base: Digest,
    next: AtomicU32,
    lacks: [OnceLock<Option<String>>; 3],
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("clawbuild-engine-").tempdir().expect("a directory").keep();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("permissions");
        let program = directory.join("worker");
        fs::copy(std::env::current_exe().expect("this program"), &program).expect("a copy everybody can execute");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("permissions");
        let accounts = format!("ordinary:x:{ORDINARY}:{ORDINARY}::/:/bin/sh\n");
        fs::write(directory.join("passwd"), accounts).expect("accounts");
        fs::write(directory.join("subids"), "ordinary:3000000:65536\n").expect("ranges");
        let base = write_base(&directory.join("base"), Parents::Implied);
        Self { directory, base, next: AtomicU32::new(0), lacks: Default::default() }
    }

    pub(crate) fn remove(&self) {
        store::remove_tree(&self.directory).expect("the directory goes");
    }

    /// The manifest of the base image.
    pub(crate) fn base(&self) -> Manifest {
        let bytes = fs::read(self.directory.join("base/blobs/sha256").join(self.base.hex())).expect("a manifest");
        serde_json::from_slice(&bytes).expect("a manifest")
    }

    /// A directory of a test's own, which the solving user may write to.
    pub(crate) fn directory(&self, who: Who) -> PathBuf {
        let path = self.directory.join(format!("d{}", self.next.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).expect("a directory");
        give(&path, who);
        path
    }

    /// Solving of these graphs, in a store of its own.
    pub(crate) fn site<'a>(&'a self, who: Who, graphs: &[&str]) -> Site<'a> {
        let directory = self.directory(who);
        let context = directory.join("context");
        fs::create_dir_all(context.join("sub")).expect("a context");
        for (path, text) in [("app", "#!/bin/sh\necho app\n"), ("sub/data", "data\n"), ("other", "unused\n")] {
            fs::write(context.join(path), text).expect("a file");
            fs::set_permissions(context.join(path), fs::Permissions::from_mode(0o644)).expect("permissions");
        }
        fs::set_permissions(context.join("sub"), fs::Permissions::from_mode(0o755)).expect("permissions");
        let job = Job {
            single: who == Who::Single,
            store: directory.join("store"),
            layout: self.directory.join("base"),
            base: self.base,
            contexts: BTreeMap::from([("context".to_owned(), context)]),
            secrets: BTreeMap::new(),
            graphs: graphs.iter().map(|&name| name.to_owned()).collect(),
            output: Wanted::Image,
            created: "2026-01-01T00:00:00Z".to_owned(),
            no_cache: false,
            cancel_after: None,
        };
        Site { bench: self, who, directory, job }
    }

    /// Why tests cannot be run as this user here.
    pub(crate) fn lacks(&self, who: Who) -> Option<String> {
        let root = rustix::process::geteuid().is_root();
        self.lacks[who as usize]
            .get_or_init(|| match (who, root) {
                (Who::Root, false) => Some("not run by root".to_owned()),
                (Who::Root, true) => None,
                (Who::Range | Who::Single, _) => {
                    let mut command = self.command(who);
                    let output = command.env(WORKER, "identity").output().expect("the worker starts");
                    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                    let wanted = if who == Who::Range { "RootlessRange" } else { "" };
                    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    match (output.status.success(), said.contains(wanted)) {
                        (true, true) => None,
                        (true, false) => Some(format!("this user is {said} here")),
                        (false, _) => Some(format!("user namespaces do not work: {complaint}")),
                    }
                }
            })
            .clone()
    }

    /// The command that runs the worker as this user. For root to be somebody with subordinate ids, files of this
    /// machine are covered, which only that command sees.
    fn command(&self, who: Who) -> Command {
        let root = rustix::process::geteuid().is_root();
        let worker = self.directory.join("worker");
        match who {
            Who::Range if root => {
                let directory = self.directory.display();
                let script = format!(
                    "mount --bind {directory}/passwd /etc/passwd && mount --bind {directory}/subids /etc/subuid && \
                     mount --bind {directory}/subids /etc/subgid && \
                     exec setpriv --reuid {ORDINARY} --regid {ORDINARY} --clear-groups \"$0\""
                );
                let mut command = Command::new("unshare");
                command.args(["--mount", "--", "sh", "-c", &script]).arg(worker);
                command
            }
            Who::Single if root => {
                let mut command = Command::new(worker);
                command.uid(ORDINARY).gid(ORDINARY);
                command
            }
            Who::Root | Who::Range | Who::Single => Command::new(worker),
        }
    }
}

/// Makes everything at and below a path the solving user's.
pub(crate) fn give(path: &Path, who: Who) {
    if who == Who::Root || !rustix::process::geteuid().is_root() {
        return;
    }
    lchown(path, Some(ORDINARY), Some(ORDINARY)).expect("an owner");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("lists") {
            give(&entry.expect("an entry").path(), who);
        }
    }
}

/// A store, a context, and what is to be solved.
pub(crate) struct Site<'a> {
    bench: &'a Bench,
    pub(crate) who: Who,
    pub(crate) directory: PathBuf,
    pub(crate) job: Job,
}

impl Site<'_> {
    /// Changes a file of the context.
    pub(crate) fn write(&self, path: &str, text: &str) {
        fs::write(self.job.contexts["context"].join(path), text).expect("writes");
    }

    /// Solves, and gives what came of the first graph.
    pub(crate) fn solve(&self) -> Report {
        self.solve_all().swap_remove(0)
    }

    /// Solves every graph in one process.
    pub(crate) fn solve_all(&self) -> Vec<Report> {
        finish(self.start())
    }

    /// Starts a process that solves.
    pub(crate) fn start(&self) -> Child {
        let mut command = self.bench.command(self.who);
        command
            .env(WORKER, "solve")
            .env("TMPDIR", &self.directory)
            .env("HOME", &self.directory)
            .env_remove("XDG_CONFIG_HOME");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the worker starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(&serde_json::to_vec(&self.job).expect("serialises")).expect("it reads its job");
        child
    }

    /// Names of what lies in a directory of the store.
    pub(crate) fn stored(&self, directory: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.job.store.join(directory)).into_iter().flatten();
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Vec<u8> {
        fs::read(self.job.store.join("blobs/sha256").join(digest.hex())).expect("a blob")
    }

    /// The paths in a layer, with what tells one tree from another.
    pub(crate) fn layer(&self, digest: &Digest) -> Vec<String> {
        let blob = oci::layer::compress::Decompressor::new(io::Cursor::new(self.blob(digest))).expect("a layer");
        let mut reader = oci::layer::tar::TarReader::new(blob, oci::layer::tar::Limits::default());
        let mut lines = Vec::new();
        while let Some(entry) = reader.next_entry().expect("a layer") {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            lines.push(format!("{path} {:o} {}:{}", entry.mode, entry.uid, entry.gid));
        }
        lines
    }
}

/// Waits for a worker and reads what it reports.
pub(crate) fn finish(child: Child) -> Vec<Report> {
    let output = child.wait_with_output().expect("the worker ends");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "the worker failed: {complaint}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no report: {error}; {complaint}"))
}

/// Waits until something holds, for a while.
pub(crate) fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    for _ in 0..1000 {
        if holds() {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    false
}
