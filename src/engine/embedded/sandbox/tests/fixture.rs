//! A root filesystem made of programs of this machine, and steps run in it by the stand-in for clawbuild.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use engine::embedded::sandbox::Spec;
use serde_json::{Value, json};

/// Programs the root filesystem has.
const PROGRAMS: [&str; 24] = [
    "sh", "cat", "chown", "dd", "env", "grep", "head", "hostname", "id", "ls", "mkdir", "mknod", "mount", "mv",
    "readlink", "rm", "sleep", "sort", "stat", "touch", "true", "umount", "unshare", "yes",
];

/// A user nobody else is, for the tests run by root.
const ORDINARY: u32 = 54_321;

/// Who runs the stand-in for clawbuild.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Root.
    Root,
    /// An ordinary user with subordinate ids.
    Range,
    /// An ordinary user without.
    Single,
}

pub(crate) const ALL: &[Who] = &[Who::Root, Who::Range, Who::Single];
pub(crate) const OWNS_ALL: &[Who] = &[Who::Root, Who::Range];
pub(crate) const ROOT: &[Who] = &[Who::Root];

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

/// Where the tests work.
pub(crate) struct Bench {
    directory: PathBuf,
    next: AtomicU32,
    lacks: [OnceLock<Option<String>>; 3],
}

/// A step about to be run.
pub(crate) struct Job<'a> {
    bench: &'a Bench,
    who: Who,
    pub(crate) directory: PathBuf,
    pub(crate) spec: Spec,
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) method: Option<&'static str>,
    pub(crate) cancel_after: Option<u64>,
    pub(crate) parallel: Option<usize>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) result: Value,
    pub(crate) identity: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) upper: PathBuf,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("clawbuild-sandbox-").tempdir().expect("a directory").keep();
        let bench = Self { directory, next: AtomicU32::new(0), lacks: Default::default() };
        bench.populate();
        bench
    }

    pub(crate) fn remove(&self) {
        fs::remove_dir_all(&self.directory).expect("the directory goes");
    }

    /// The root filesystem, as this user's snapshots would hold it.
    pub(crate) fn rootfs(&self, who: Who) -> PathBuf {
        self.directory.join(match who {
            Who::Root => "rootfs",
            Who::Range | Who::Single => "rootfs-ordinary",
        })
    }

    /// The stand-in, where every user can execute it.
    pub(crate) fn helper(&self) -> PathBuf {
        self.directory.join("clawbuild-sandbox-helper")
    }

    /// Why tests cannot be run as this user here.
    pub(crate) fn lacks(&self, who: Who) -> Option<String> {
        let root = rustix::process::geteuid().is_root();
        self.lacks[who as usize]
            .get_or_init(|| match (who, root) {
                (Who::Root, false) => Some("not run by root".to_owned()),
                (Who::Root, true) => None,
                (Who::Range | Who::Single, _) => {
                    let ended = self.job(who, ["true"]).try_run();
                    let wanted = if who == Who::Range { "RootlessRange" } else { "RootlessSingle" };
                    match ended {
                        Err(error) => Some(format!("user namespaces do not work: {error}")),
                        Ok(ended) if ended.identity != wanted => Some(format!("this user is {} here", ended.identity)),
                        Ok(_) => None,
                    }
                }
            })
            .clone()
    }

    /// A step that runs this command with the root filesystem and nothing else.
    pub(crate) fn job<'a, const N: usize>(&'a self, who: Who, args: [&str; N]) -> Job<'a> {
        let directory = self.directory.join(format!("job{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let (process, upper) = (directory.join("process"), directory.join("upper"));
        for path in [&directory, &process, &upper] {
            fs::create_dir(path).expect("a directory");
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
            self.give(path, who);
        }
        let spec = Spec::new("", args);
        Job {
            bench: self,
            who,
            directory,
            spec,
            layers: vec![self.rootfs(who)],
            method: None,
            cancel_after: None,
            parallel: None,
        }
    }

    /// A step that runs a shell script.
    pub(crate) fn script<'a>(&'a self, who: Who, script: &str) -> Job<'a> {
        self.job(who, ["sh", "-ec", script])
    }

    /// Makes the file the user's.
    pub(crate) fn give(&self, path: &Path, who: Who) {
        match who {
            Who::Root => {}
            Who::Range | Who::Single if rustix::process::geteuid().is_root() => {
                lchown(path, Some(ORDINARY), Some(ORDINARY)).expect("an owner");
            }
            Who::Range | Who::Single => {}
        }
    }

    fn populate(&self) {
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o755)).expect("permissions");
        fs::copy(env!("CARGO_BIN_EXE_clawbuild-sandbox-helper"), self.helper()).expect("the helper");
        self.populate_rootfs(Who::Root);
        self.populate_rootfs(Who::Single);
        let accounts = format!("ordinary:x:{ORDINARY}:{ORDINARY}::/:/bin/sh\n");
        fs::write(self.directory.join("passwd"), accounts).expect("accounts");
        fs::write(self.directory.join("subids"), "ordinary:3000000:65536\n").expect("ranges");
    }

    fn populate_rootfs(&self, who: Who) {
        let rootfs = self.rootfs(who);
        for directory in ["bin", "etc", "tmp", "dev", "proc", "sys", "home/app"] {
            fs::create_dir_all(rootfs.join(directory)).expect("a directory");
        }
        fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("permissions");
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1001:1002::/home/app:/bin/sh\n")
            .expect("accounts");
        fs::write(rootfs.join("etc/group"), "root:x:0:\napp:x:1002:\naudio:x:29:app\n").expect("groups");
        let mut needed: BTreeSet<PathBuf> = BTreeSet::new();
        for program in PROGRAMS {
            let path = ["/bin", "/usr/bin"].map(|directory| Path::new(directory).join(program));
            let path =
                path.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("this machine has no {program}"));
            fs::copy(&path, rootfs.join("bin").join(program)).expect("a program");
            needed.extend(libraries(&path));
        }
        needed.extend(libraries(&self.helper()));
        for library in needed {
            let target = rootfs.join(library.strip_prefix("/").expect("an absolute path"));
            fs::create_dir_all(target.parent().expect("a directory")).expect("a directory");
            fs::copy(&library, target).expect("a library");
        }
        symlink("bin", rootfs.join("sbin")).expect("a link");
        for path in files(&rootfs).iter().chain([&rootfs]) {
            self.give(path, who);
        }
    }

    /// Runs the stand-in with this on its standard input; gives what it wrote.
    pub(crate) fn tool(&self, who: Who, mode: &str, input: &Value) -> String {
        let mut command = self.command(who, mode);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the stand-in starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.to_string().as_bytes()).expect("it reads its input");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "the stand-in failed");
        String::from_utf8(output.stdout).expect("text")
    }

    /// A directory of this user's.
    pub(crate) fn directory(&self, who: Who) -> PathBuf {
        let directory = self.directory.join(format!("dir{}", self.next.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&directory).expect("a directory");
        self.give(&directory, who);
        directory
    }

    /// The command that runs the stand-in as this user. For root to be somebody with subordinate ids, files of this
    /// machine are covered, which only that command sees.
    fn command(&self, who: Who, mode: &str) -> Command {
        let root = rustix::process::geteuid().is_root();
        match who {
            Who::Range if root => {
                let directory = self.directory.display();
                let script = format!(
                    "mount --bind {directory}/passwd /etc/passwd && mount --bind {directory}/subids /etc/subuid && \
                     mount --bind {directory}/subids /etc/subgid && \
                     exec setpriv --reuid {ORDINARY} --regid {ORDINARY} --clear-groups \"$0\" $1"
                );
                let mut command = Command::new("unshare");
                command.args(["--mount", "--", "sh", "-c", &script]).arg(self.helper()).arg(mode);
                command
            }
            Who::Single if root => {
                let mut command = Command::new(self.helper());
                command.uid(ORDINARY).gid(ORDINARY).arg(mode);
                command
            }
            Who::Root | Who::Range | Who::Single => {
                let mut command = Command::new(self.helper());
                command.arg(mode);
                command
            }
        }
    }
}

impl Job<'_> {
    /// A directory of the step's own on this machine, with one file in it.
    pub(crate) fn directory_with(&self, name: &str, file: &str, content: &str) -> PathBuf {
        let directory = self.directory.join(name);
        fs::create_dir(&directory).expect("a directory");
        fs::write(directory.join(file), content).expect("a file");
        for path in [&directory, &directory.join(file)] {
            self.bench.give(path, self.who);
        }
        directory
    }

    pub(crate) fn run(self) -> Ended {
        self.try_run().expect("the stand-in works")
    }

    /// Runs the step and expects its command to succeed.
    pub(crate) fn succeed(self) -> Ended {
        let ended = self.run();
        assert_eq!(ended.result["code"], 0, "{ended:?}");
        ended
    }

    fn try_run(self) -> Result<Ended, String> {
        let upper = self.directory.join("upper");
        let result = self.directory.join("result");
        let output = self.start(None).wait_with_output().expect("it ends");
        let (stdout, stderr) = (output.stdout, output.stderr);
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let text = fs::read_to_string(result).map_err(|_| stderr.clone())?;
        let mut report: Value = serde_json::from_str(&text).expect("a report");
        let identity = report["identity"].as_str().expect("an identity").to_owned();
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        Ok(Ended { result: report["result"].take(), identity, stdout, stderr, upper })
    }

    /// Starts the step and leaves it running.
    pub(crate) fn start(&self, repeat: Option<u32>) -> Child {
        let job = json!({
            "directory": self.directory.join("process"),
            "layers": self.layers,
            "upper": self.directory.join("upper"),
            "method": self.method,
            "single": self.who == Who::Single,
            "cancel_after": self.cancel_after,
            "repeat": repeat,
            "parallel": self.parallel,
            "result": self.directory.join("result"),
            "spec": self.spec,
        });
        let mut child = self
            .bench
            .command(self.who, "run")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the stand-in starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(job.to_string().as_bytes()).expect("it reads its job");
        child
    }
}

/// Everything below a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_dir() {
            found.extend(files(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

/// The libraries a program of this machine is linked to.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// The processes of this machine whose command line has this in it.
pub(crate) fn processes_with(text: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc");
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter(|number: &u32| {
            let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}

/// Waits until something holds, for a while.
pub(crate) fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    for _ in 0..500 {
        if holds() {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    false
}
