//! The program as images carry it, and a directory with a manifest to start it in.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The program, compiled once as src/plan/init.rs does it, but linked by this machine's C compiler.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        compile(
            "claw-init",
            "-Clink-arg=-nostartfiles -Clink-arg=-nostdlib -Clink-arg=-static -Clink-arg=-Wl,--build-id=none",
        )
    })
}

/// The program for another platform, linked by the linker that comes with the compiler.
pub(crate) fn program_for(target: &str) -> PathBuf {
    let linker = "-Clinker=rust-lld -Clinker-flavor=ld.lld -Clink-arg=-static -Clink-arg=--build-id=none";
    compile(&format!("claw-init-{target}"), &format!("--target {target} {linker}"))
}

fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// Whether the compiler has its libraries for that platform.
pub(crate) fn has_libraries(target: &str) -> bool {
    let output = rustc().args(["--print", "target-libdir", "--target", target]).output().unwrap();
    output.status.success() && Path::new(stdout(&output).trim_end()).is_dir()
}

fn compile(name: &str, linking: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let flags = "--edition=2021 --crate-name=claw_init --crate-type=bin --cfg freestanding -Copt-level=z -Clto=fat \
        -Ccodegen-units=1 -Cpanic=abort -Cstrip=symbols -Crelocation-model=static -Dwarnings";
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/main.rs");
    let arguments = flags.split_whitespace().chain(linking.split_whitespace());
    let status = rustc().args(arguments).arg("-o").arg(&path).arg(source).status().unwrap();
    assert!(status.success());
    path
}

/// A directory with a manifest, removed with the test.
pub(crate) struct Scene(pub(crate) PathBuf);

impl Scene {
    pub(crate) fn new(name: &str, manifest: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("claw-init-process-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("init.json"), manifest.replace("DIR", dir.to_str().unwrap())).unwrap();
        Self(dir)
    }

    /// A manifest that runs one shell script.
    pub(crate) fn script(name: &str, script: &str) -> Self {
        Self::new(
            name,
            &format!(r#"{{"version": 1, "command": ["/bin/sh", "-c", "{script}"], "stop_timeout_ms": 300}}"#),
        )
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args).env("CLAW_INIT_MANIFEST", self.0.join("init.json")).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

pub(crate) struct Running {
    pub(crate) child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status =
            Command::new("/bin/kill").args([format!("-{signal}"), self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end. Gives the status and the rest of both outputs.
    pub(crate) fn end(mut self) -> (i32, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.lines.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or_else(|| -status.signal().unwrap()), out, err)
    }
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
