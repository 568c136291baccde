//! Running other programs, with failures that show what they said.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a finished program left.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit status; none when killed by a signal.
    pub status: Option<i32>,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

impl Output {
    /// Runs `command` to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
        let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("`{line}`: {error}"));
        Self {
            command: line,
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, if it ended with status 0.
    ///
    /// # Panics
    /// When it did not, with everything it said.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// The same, if it ended with this status.
    ///
    /// # Panics
    /// When it did not, with everything it said.
    #[track_caller]
    pub fn exits(self, status: i32) -> Self {
        let Self { command, stdout, stderr, .. } = &self;
        assert!(
            self.status == Some(status),
            "`{command}` ended with {:?}, not {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}",
            self.status
        );
        self
    }

    /// Standard output without white space around it.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("`{}` printed no JSON: {error}\n{}", self.command, self.stdout))
    }
}

/// Runs a tool that must succeed.
///
/// # Panics
/// When it does not, with everything it said.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Output {
    Output::of(Command::new(tool(program)).args(arguments)).success()
}

/// Where a tool lies: first those `tests/run` built, then those of the distribution, then wherever `PATH` says.
///
/// The distribution's go before `PATH`, so that a newer client in /usr/local does not stand in for the one that fits
/// the daemon under test.
pub fn tool(name: &str) -> PathBuf {
    let built = std::env::var_os("CLAWBUILD_TEST_TOOLS").map(PathBuf::from);
    let distribution = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].into_iter().map(PathBuf::from);
    built
        .into_iter()
        .chain(distribution)
        .map(|directory| directory.join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| Path::new(name).to_owned())
}
