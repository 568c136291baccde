//! The program under test, with nothing of the machine's own settings around it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use crate::Output;

/// Who runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Whoever runs the tests.
    Tester,
    /// An ordinary user, known to no file in /etc, with or without a range of subordinate ids. Needs root.
    User {
        /// Its uid and gid.
        id: u32,
        /// Whether /etc/subuid and /etc/subgid give it 65536 ids.
        subids: bool,
    },
}

/// A command line to run `clawbuild` with: its own home, store and working directory, and a bare environment.
#[derive(Clone, Debug)]
pub struct Cli {
    program: PathBuf,
    scratch: Arc<TempDir>,
    store: PathBuf,
    directory: PathBuf,
    identity: Identity,
    variables: Vec<(OsString, OsString)>,
}

/// Variables of the tester that the program must see: where tools lie, and how to get through a proxy's TLS.
const KEPT: [&str; 6] = ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "http_proxy", "https_proxy", "no_proxy"];

impl Cli {
    /// `program` is `env!("CARGO_BIN_EXE_clawbuild")`; `CLAWBUILD_TEST_PROGRAM` overrides it. The store is empty.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    pub fn new(program: &str) -> Self {
        let scratch = tempfile::Builder::new().prefix("clawbuild-test-").tempdir().unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| {
            let path = scratch.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (store, directory) = (path("store"), path("work"));
        path("home");
        let program = std::env::var_os("CLAWBUILD_TEST_PROGRAM").unwrap_or_else(|| program.into()).into();
        Self {
            program,
            scratch: Arc::new(scratch),
            store,
            directory,
            identity: Identity::Tester,
            variables: Vec::new(),
        }
    }

    /// Uses the store that all tests of this machine share, so that downloads are made once.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn with_shared_store(self) -> Self {
        let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-store").into();
        let store: PathBuf = std::env::var_os("CLAWBUILD_TEST_STORE").unwrap_or_else(default).into();
        fs::create_dir_all(&store).unwrap();
        self.with_store(&store)
    }

    /// Uses a copy of a store, file owners, extended attributes and all.
    ///
    /// # Panics
    /// When it cannot be copied.
    #[must_use]
    pub fn with_copy_of_store(self, store: &Path) -> Self {
        let copy = self.scratch.path().join("store-copy");
        Output::of(Command::new("cp").args(["-a", "--reflink=auto", "--"]).arg(store).arg(&copy)).success();
        self.with_store(&copy)
    }

    /// Uses this store.
    #[must_use]
    pub fn with_store(mut self, store: &Path) -> Self {
        store.clone_into(&mut self.store);
        self
    }

    /// Runs in this directory.
    #[must_use]
    pub fn in_directory(mut self, directory: &Path) -> Self {
        directory.clone_into(&mut self.directory);
        self
    }

    /// Runs as somebody else, who comes to own the home, the store and the working directory, where they are this
    /// test's own.
    ///
    /// # Panics
    /// When they cannot be given away.
    #[must_use]
    pub fn as_identity(mut self, identity: Identity) -> Self {
        if let Identity::User { id, .. } = identity {
            // The build directory may lie in somebody's home, where nobody else may look.
            let copy = self.scratch.path().join("clawbuild");
            fs::copy(&self.program, &copy).unwrap();
            self.program = copy;
            give(self.scratch.path(), id);
        }
        self.identity = identity;
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// The working directory, empty at first.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The store.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The home directory.
    pub fn home(&self) -> PathBuf {
        self.scratch.path().join("home")
    }

    /// A directory of this test's own, for whatever it likes.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Runs the program to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        Output::of(self.command(&self.program).args(arguments))
    }

    /// Runs a shell script in the same surroundings, with `clawbuild` as a command.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn shell(&self, script: &str) -> Output {
        let bin = self.scratch.path().join("bin");
        if fs::create_dir(&bin).is_ok() {
            std::os::unix::fs::symlink(&self.program, bin.join("clawbuild")).unwrap();
        }
        let mut command = self.command(Path::new("/bin/sh"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path))).unwrap();
        Output::of(command.env("PATH", path).args(["-eu", "-c", script]))
    }

    /// Runs a shell script as [`Cli::shell`] does, free to mount what nobody else sees. Needs root.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run_in_mount_namespace(&self, script: &str) -> Output {
        self.shell(&format!("exec unshare --mount sh -euc {}", quote(script)))
    }

    /// The command for `program` in these surroundings, for tests that must do more than wait for its end.
    ///
    /// # Panics
    /// When the files that give an ordinary user its subordinate ids cannot be written.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = match self.identity {
            Identity::Tester => Command::new(program),
            Identity::User { id, subids } => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "--", "sh", "-euc", AS_USER, "sh"]);
                command.arg(self.subids(id, subids)).arg(id.to_string()).arg(program);
                command
            }
        };
        command.current_dir(&self.directory).env_clear();
        for name in KEPT {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", self.home()).env("CLAWBUILD_STORE", &self.store);
        command.env("LC_ALL", "C.UTF-8").env("CI", "true");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A file to stand in for /etc/subuid and /etc/subgid.
    fn subids(&self, id: u32, wanted: bool) -> PathBuf {
        let path = self.scratch.path().join("subids");
        fs::write(&path, if wanted { format!("{id}:200000:65536\n") } else { String::new() }).unwrap();
        path
    }
}

/// Runs a program as a user of whom only this mount namespace knows: `$1` the subid file, `$2` the uid and gid.
const AS_USER: &str = r#"
mount --bind "$1" /etc/subuid
mount --bind "$1" /etc/subgid
id=$2
shift 2
exec setpriv --reuid="$id" --regid="$id" --clear-groups --inh-caps=-all -- "$@"
"#;

fn give(path: &Path, id: u32) {
    chown(path, Some(id), Some(id)).unwrap();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            give(&entry.path(), id);
        } else {
            std::os::unix::fs::lchown(entry.path(), Some(id), Some(id)).unwrap();
        }
    }
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
