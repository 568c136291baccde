//! Commits out of git repositories, by way of the `git` program.
//!
//! Each remote has a bare mirror in the store's caches, which holds the commits that were wanted and nothing else. Once
//! a commit is there, taking it needs no network.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use diag::progress::{Stream, Task};
use diag::{Diagnostic, Reported, codes};
use llb::GitSource;
use registry::http::Http;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use store::{Key, Store, StoreError};
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

/// A commit could not be had.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no `git` to run.
    #[error("cannot run `git`")]
    NoGit {
        /// What the system said.
        source: io::Error,
    },
    /// `git` failed.
    #[error("`git {action}` failed for `{remote}`")]
    Failed {
        /// Its subcommand.
        action: String,
        /// The repository, without credentials.
        remote: String,
        /// What it said last.
        output: Vec<String>,
    },
    /// The commit is not at hand, and the network may not be used.
    #[error("commit {commit} of `{remote}` is not in the store, and the network is not to be used")]
    Offline {
        /// The commit.
        commit: String,
        /// The repository, without credentials.
        remote: String,
    },
    /// The repository has no such tag or branch.
    #[error("`{remote}` has no `{reference}`")]
    NoReference {
        /// The reference's full name.
        reference: String,
        /// The repository, without credentials.
        remote: String,
        /// Why.
        said: String,
    },
    /// The commit has no such directory.
    #[error("commit {commit} of `{remote}` has no directory `{subdir}`")]
    NoSubdir {
        /// The commit.
        commit: String,
        /// The repository, without credentials.
        remote: String,
        /// The directory.
        subdir: String,
    },
    /// A file operation on the checked out tree failed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The caller wished it to stop.
    #[error("interrupted")]
    Canceled,
}

impl Reported for GitError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::NoGit { .. } => Diagnostic::new(codes::engine::NO_GIT, self.to_string())
                .caused_by(self)
                .help("install git, or lock the source as an archive or a registry package"),
            Self::Failed { output, .. } => {
                Diagnostic::new(codes::engine::GIT, self.to_string()).related("git's last words", output.clone())
            }
            Self::Offline { .. } => Diagnostic::new(codes::engine::GIT, self.to_string())
                .help("build once without `--offline`, or point `[mirrors]` at a local copy of the repository"),
            Self::NoReference { said, .. } => Diagnostic::new(codes::engine::GIT, self.to_string())
                .cause(said.clone())
                .help("check the spelling; `git ls-remote URL` lists what there is"),
            Self::NoSubdir { .. } => Diagnostic::new(codes::engine::GIT, self.to_string()),
            Self::Io { .. } => Diagnostic::new(codes::engine::IO, self.to_string()).caused_by(self),
            Self::Store(error) => error.diagnostic(),
            Self::Canceled => Diagnostic::new(codes::cli::INTERRUPTED, self.to_string()),
        }
    }
}

impl GitError {
    fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// A git repository, and what its commits are fetched with.
#[derive(Debug)]
pub struct Repository<'a> {
    store: &'a Store,
    /// As the recipe names it.
    url: &'a str,
    /// Where it is fetched from: its URL after mirrors.
    remote: String,
    offline: bool,
    task: &'a Task,
    cancel: &'a CancellationToken,
}

/// What a commit says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The id of its tree.
    pub tree: String,
    /// When it was made, seconds since 1970.
    pub committed: i64,
}

impl<'a> Repository<'a> {
    /// The repository at `url`, kept in `store`. `task` hears what git says.
    #[must_use]
    pub fn new(store: &'a Store, http: &Http, url: &'a str, task: &'a Task, cancel: &'a CancellationToken) -> Self {
        let settings = http.settings();
        // What ssh takes (`git@host:path`) is no URL.
        let remote = settings.mirrors.replacement(url).map_or_else(|| url.to_owned(), String::from);
        Self { store, url, remote, offline: settings.offline, task, cancel }
    }

    /// The commit a reference names now, by the reference's full name. A tag that is an object of its own is followed to
    /// its commit.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn resolve(&self, reference: &str) -> Result<String, GitError> {
        let missing = |what: &str| GitError::NoReference {
            reference: reference.to_owned(),
            remote: redacted(&self.remote),
            said: what.to_owned(),
        };
        if self.offline && !is_local(&self.remote) {
            return Err(missing("the network is not to be used"));
        }
        let peeled = format!("{reference}^{{}}");
        let arguments = ["ls-remote", "--quiet", "--exit-code", &self.remote, reference, &peeled];
        let output = self.execute(self.command(None, arguments, None), "ls-remote").await;
        let output = match output {
            // git's own status says that it asked and there is none.
            Err(GitError::Failed { output, .. }) if output.is_empty() => return Err(missing("it is not there")),
            other => other?,
        };
        let text = String::from_utf8_lossy(&output).into_owned();
        let find = |name: &str| {
            text.lines().filter_map(|line| line.split_once('\t')).find(|(_, named)| *named == name).map(|(id, _)| id)
        };
        find(&peeled).or_else(|| find(reference)).map(str::to_owned).ok_or_else(|| missing("it is not there"))
    }

    /// What a commit says of itself. It is fetched if it is not there.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn describe(&self, commit: &str) -> Result<Described, GitError> {
        // A repository on this machine says it by itself, also when it lacks some of the commit's files.
        let here = url::Url::parse(&self.remote).ok().and_then(|url| url.to_file_path().ok());
        let said = match here {
            Some(here) => self.show(&here, commit).await.ok(),
            None => None,
        };
        match said {
            Some(described) => Ok(described),
            None => self.show(&self.mirror(commit).await?, commit).await,
        }
    }

    async fn show(&self, repository: &Path, commit: &str) -> Result<Described, GitError> {
        // `-C` finds the repository of a work tree and a bare one alike.
        let arguments = [OsStr::new("-C"), repository.as_os_str(), "show".as_ref(), "--no-patch".as_ref()]
            .into_iter()
            .chain(["--format=%T %ct".as_ref(), commit.as_ref()]);
        let output = self.execute(self.command(None, arguments, None), "show").await?;
        let text = String::from_utf8_lossy(&output);
        let described = text
            .trim()
            .split_once(' ')
            .and_then(|(tree, time)| Some(Described { tree: tree.to_owned(), committed: time.parse().ok()? }));
        described.ok_or_else(|| GitError::Failed {
            action: "show".to_owned(),
            remote: redacted(&self.remote),
            output: vec![text.into_owned()],
        })
    }

    /// Writes the commit's files into `directory`, with the commit's time, owned by this process.
    ///
    /// # Errors
    /// [`GitError`].
    pub async fn export(&self, commit: &llb::GitCommit, directory: &Path) -> Result<(), GitError> {
        let source =
            GitSource { remote: self.url.to_owned(), commit: commit.clone(), subdir: None, keep_git_dir: false };
        self.check_out(&source, directory).await
    }

    /// Checks the commit out into `directory`: files as they are in it, with the commit's time, owned by this process.
    pub(crate) async fn check_out(&self, source: &GitSource, directory: &Path) -> Result<(), GitError> {
        let commit = source.commit.as_str();
        let mirror = self.mirror(commit).await?;
        if source.keep_git_dir {
            self.clone_into(&mirror, source, directory).await?;
        } else {
            self.export_into(&mirror, source, directory).await?;
        }
        normalise(directory, self.describe(commit).await?.committed)
    }

    /// The mirror, with the commit in it.
    async fn mirror(&self, commit: &str) -> Result<PathBuf, GitError> {
        let name = format!("git-{}", &Key::of([self.url.as_bytes()]).hex()[..32]);
        let mirror = self.store.caches().join(&name);
        let _lock = self.lock(&name).await?;
        if !mirror.join("HEAD").exists() {
            fs::create_dir_all(&mirror).map_err(GitError::io("create", &mirror))?;
            self.run(None, [OsStr::new("init"), "--quiet".as_ref(), "--bare".as_ref(), mirror.as_os_str()]).await?;
        }
        self.store.mark_cache_used(&name);
        if self.holds(&mirror, commit).await {
            return Ok(mirror);
        }
        if self.offline && !is_local(&self.remote) {
            return Err(GitError::Offline { commit: commit.to_owned(), remote: redacted(&self.remote) });
        }
        // The very commit alone, where the server lets one ask for it; everything otherwise. The reference keeps git
        // from collecting it as garbage.
        let keep = format!("+{commit}:refs/clawbuild/{commit}");
        let one = ["fetch", "--quiet", "--no-tags", "--depth=1", &self.remote, &keep];
        if self.run(Some(&mirror), one).await.is_err() || !self.holds(&mirror, commit).await {
            self.canceled()?;
            self.run(Some(&mirror), ["fetch", "--quiet", "--no-tags", &self.remote, "+refs/*:refs/remote/*"]).await?;
            self.run(Some(&mirror), ["update-ref", &format!("refs/clawbuild/{commit}"), commit]).await?;
        }
        Ok(mirror)
    }

    async fn holds(&self, mirror: &Path, commit: &str) -> bool {
        // Asks for the commit's whole tree, so that a fetch that was cut short is not taken for one that was not.
        let object = format!("refs/clawbuild/{commit}^{{commit}}");
        self.run(Some(mirror), ["rev-parse", "--quiet", "--verify", &object]).await.is_ok()
            && self.run(Some(mirror), ["ls-tree", "-r", "--name-only", commit]).await.is_ok()
    }

    async fn export_into(&self, mirror: &Path, source: &GitSource, directory: &Path) -> Result<(), GitError> {
        let commit = source.commit.as_str();
        let tree = match &source.subdir {
            None => commit.to_owned(),
            Some(subdir) => format!("{commit}:{}", subdir.trim_matches('/')),
        };
        let index = tempfile::NamedTempFile::new_in(self.store.temp())
            .map_err(GitError::io("create a file in", self.store.temp()))?
            .into_temp_path();
        // git refuses an index that is empty, but makes one that is not there.
        fs::remove_file(&index).map_err(GitError::io("remove", &index))?;
        let read = self.command(Some(mirror), ["read-tree", "--end-of-options", &tree], Some(&index));
        self.execute(read, "read-tree").await.map_err(|error| match (&error, &source.subdir) {
            (GitError::Failed { remote, .. }, Some(subdir)) => {
                GitError::NoSubdir { commit: commit.to_owned(), remote: remote.clone(), subdir: subdir.clone() }
            }
            _ => error,
        })?;
        let work_tree = {
            let mut argument = OsString::from("--work-tree=");
            argument.push(directory);
            argument
        };
        let arguments = [work_tree.as_os_str(), "checkout-index".as_ref(), "--all".as_ref(), "--force".as_ref()];
        self.execute(self.command(Some(mirror), arguments, Some(&index)), "checkout-index").await.map(drop)
    }

    async fn clone_into(&self, mirror: &Path, source: &GitSource, directory: &Path) -> Result<(), GitError> {
        let commit = source.commit.as_str();
        let there = directory.join(".git");
        self.run(None, [OsStr::new("init"), "--quiet".as_ref(), directory.as_os_str()]).await?;
        let fetch = |from: &OsStr| {
            let reference = format!("refs/clawbuild/{commit}");
            ["fetch".into(), "--quiet".into(), "--depth=1".into(), from.to_owned(), reference.into()]
        };
        self.run(Some(&there), fetch(mirror.as_os_str())).await?;
        self.run(Some(&there), ["remote", "add", "origin", &source.remote]).await?;
        let mut work_tree = OsString::from("--work-tree=");
        work_tree.push(directory);
        let arguments: [&OsStr; 6] = [
            &work_tree,
            "checkout".as_ref(),
            "--quiet".as_ref(),
            "--detach".as_ref(),
            "--force".as_ref(),
            commit.as_ref(),
        ];
        self.run(Some(&there), arguments).await
    }

    async fn run<S: AsRef<OsStr>>(
        &self,
        git_dir: Option<&Path>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<(), GitError> {
        let arguments: Vec<OsString> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        let action = arguments.iter().find(|argument| !argument.as_encoded_bytes().starts_with(b"-"));
        let action = action.map_or_else(String::new, |action| action.to_string_lossy().into_owned());
        self.execute(self.command(git_dir, &arguments, None), &action).await.map(drop)
    }

    fn command<S: AsRef<OsStr>>(
        &self,
        git_dir: Option<&Path>,
        arguments: impl IntoIterator<Item = S>,
        index: Option<&Path>,
    ) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("git");
        // What the tree looks like must not depend on the user's configuration; how to log in may.
        for setting in [
            "core.autocrlf=false",
            "core.symlinks=true",
            "core.fileMode=true",
            "core.attributesFile=/dev/null",
            "core.excludesFile=/dev/null",
            "advice.detachedHead=false",
        ] {
            command.args(["-c", setting]);
        }
        // The mirrors are this store's own, whoever made it.
        command.args(["-c", "safe.directory=*", "-c", "init.defaultBranch=main", "-c", "gc.auto=0"]);
        if let Some(git_dir) = git_dir {
            command.arg("--git-dir").arg(git_dir);
        }
        command.args(arguments);
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"] {
            command.env_remove(name);
        }
        command
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("LC_ALL", "C");
        if let Some(index) = index {
            command.env("GIT_INDEX_FILE", index);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs to the end and gives what came on standard output; what comes on standard error is the step's log.
    async fn execute(&self, mut command: tokio::process::Command, action: &str) -> Result<Vec<u8>, GitError> {
        let mut child = command.spawn().map_err(|source| GitError::NoGit { source })?;
        let mut stdout = child.stdout.take().expect("it is piped");
        let mut stderr = child.stderr.take().expect("it is piped");
        let (mut output, mut said) = (Vec::new(), Vec::new());
        let talk = async {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
                self.task.log(Stream::Stderr, &chunk[..length]);
                said.extend_from_slice(&chunk[..length]);
            }
        };
        let ended = async { tokio::join!(stdout.read_to_end(&mut output), talk, child.wait()).2 };
        let status = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(GitError::Canceled),
            status = ended => status.map_err(|source| GitError::NoGit { source })?,
        };
        if status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<String> =
            said.lines().map(|line| line.replace(&*self.remote, &redacted(&self.remote))).collect();
        Err(GitError::Failed {
            action: action.to_owned(),
            remote: redacted(&self.remote),
            output: lines[lines.len().saturating_sub(10)..].to_vec(),
        })
    }

    async fn lock(&self, name: &str) -> Result<store::Lock, GitError> {
        loop {
            if let Some(lock) = self.store.try_lock(name)? {
                return Ok(lock);
            }
            self.canceled()?;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    fn canceled(&self) -> Result<(), GitError> {
        if self.cancel.is_cancelled() { Err(GitError::Canceled) } else { Ok(()) }
    }
}

/// Whether no network is needed to fetch from there.
fn is_local(remote: &str) -> bool {
    remote.starts_with("file://") || remote.starts_with('/')
}

/// The URL as it may be shown: without user and password.
pub(crate) fn redacted(remote: &str) -> String {
    match url::Url::parse(remote) {
        Ok(mut url) if !url.username().is_empty() || url.password().is_some() => {
            let cleared = url.set_username("").and_then(|()| url.set_password(None));
            if cleared.is_ok() { url.to_string() } else { url.scheme().to_owned() }
        }
        Ok(_) | Err(_) => remote.to_owned(),
    }
}

/// Gives every entry the modes git knows, whatever the umask was, and one time.
fn normalise(directory: &Path, time: i64) -> Result<(), GitError> {
    for entry in fs::read_dir(directory).map_err(GitError::io("read", directory))? {
        let entry = entry.map_err(GitError::io("read", directory))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(GitError::io("read", directory))?);
        if kind.is_dir() {
            normalise(&path, time)?;
            continue;
        }
        if kind.is_file() {
            let meta = entry.metadata().map_err(GitError::io("read", &path))?;
            let mode = if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                .map_err(GitError::io("change the mode of", &path))?;
        }
        set_time(&path, time)?;
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
        .map_err(GitError::io("change the mode of", directory))?;
    set_time(directory, time)
}

fn set_time(path: &Path, seconds: i64) -> Result<(), GitError> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| GitError::io("set the time of", path)(errno.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::process::Command;

    use diag::progress::{Progress, TaskId};

    use super::*;

    fn git(directory: &Path, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .current_dir(directory)
            .env("GIT_COMMITTER_DATE", "1700000000 +0000")
            .output()
            .expect("git runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("utf-8").trim().to_owned()
    }

    #[tokio::test]
    async fn a_commit_is_checked_out_exactly_and_later_without_the_remote() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&directory.path().join("store")).expect("opens");
        let remote = directory.path().join("remote");
        fs::create_dir_all(remote.join("sub")).expect("makes");
        git(&remote, &["init", "--quiet"]);
        fs::write(remote.join("sub/file"), "first\n").expect("writes");
        fs::write(remote.join("tool"), "#!/bin/sh\n").expect("writes");
        fs::set_permissions(remote.join("tool"), fs::Permissions::from_mode(0o700)).expect("changes");
        std::os::unix::fs::symlink("tool", remote.join("link")).expect("links");
        git(&remote, &["add", "--all"]);
        git(&remote, &["commit", "--quiet", "-m", "one"]);
        let commit = git(&remote, &["rev-parse", "HEAD"]);
        fs::write(remote.join("sub/file"), "second\n").expect("writes");
        git(&remote, &["commit", "--quiet", "--all", "-m", "two"]);

        let url = format!("file://{}", remote.display());
        let task = Progress::none().task(TaskId::new("t"), "t");
        let cancel = CancellationToken::new();
        let taker = |offline| Repository {
            store: &store,
            url: &url,
            remote: url.clone(),
            offline,
            task: &task,
            cancel: &cancel,
        };
        let source = |subdir: Option<&str>, keep_git_dir| GitSource {
            remote: url.clone(),
            commit: commit.parse().expect("a commit"),
            subdir: subdir.map(str::to_owned),
            keep_git_dir,
        };
        let out = |name: &str| {
            let path = directory.path().join(name);
            fs::create_dir(&path).expect("makes");
            path
        };

        let whole = out("whole");
        taker(false).check_out(&source(None, false), &whole).await.expect("checks out");
        assert_eq!(fs::read_to_string(whole.join("sub/file")).expect("reads"), "first\n");
        assert_eq!(fs::read_link(whole.join("link")).expect("reads"), Path::new("tool"));
        let meta = fs::metadata(whole.join("tool")).expect("stats");
        assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o755, 1_700_000_000));
        assert!(!whole.join(".git").exists());

        fs::rename(&remote, directory.path().join("gone")).expect("moves");
        let part = out("part");
        taker(true).check_out(&source(Some("sub"), false), &part).await.expect("checks out from the mirror");
        assert_eq!(fs::read_dir(&part).expect("lists").count(), 1);
        let with_git = out("with-git");
        taker(true).check_out(&source(None, true), &with_git).await.expect("checks out from the mirror");
        assert_eq!(git(&with_git, &["rev-parse", "HEAD"]), commit);
        assert_eq!(git(&with_git, &["status", "--porcelain"]), "");

        let error = taker(true).check_out(&source(Some("nowhere"), false), &out("x")).await.expect_err("no directory");
        assert!(matches!(error, GitError::NoSubdir { .. }), "{error}");
        let mut unknown = source(None, false);
        unknown.commit = "0".repeat(40).parse().expect("a commit");
        let error = taker(true).check_out(&unknown, &out("y")).await.expect_err("no remote");
        assert!(matches!(error, GitError::Failed { .. }), "{error}");
        let far = Repository { remote: "https://example.invalid/x".to_owned(), ..taker(true) };
        assert!(matches!(far.check_out(&unknown, &out("z")).await, Err(GitError::Offline { .. })));
    }

    #[test]
    fn credentials_are_not_shown() {
        assert_eq!(redacted("https://me:secret@example.org/x.git"), "https://example.org/x.git");
        assert_eq!(redacted("git@example.org:x.git"), "git@example.org:x.git");
    }
}
