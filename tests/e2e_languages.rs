//! The small programs of `tests/apps`, each in its language: built, run, changed, and built for another processor; and a
//! source that comes from elsewhere.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use support::Capability::{Archive, BuildKit, Git, Network, Overlay, Qemu, Root};
use support::{Built, Capability, Cli, Suite};

const PROGRAM: &str = env!("CARGO_BIN_EXE_clawbuild");

const APP: &[Capability] = &[Root, Overlay, Archive, Network, Qemu];
const SOURCE: &[Capability] = &[Root, Overlay, Archive, Network, Git, BuildKit];

/// ELF's numbers of processors. Spec: gABI, §ELF Header, `e_machine`.
const X86_64: u16 = 62;
const AARCH64: u16 = 183;

/// How long a program may take to answer, also when it is emulated on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program of `tests/apps`.
#[derive(Clone, Copy)]
struct App {
    language: &'static str,
    /// The file with the line that is changed.
    main: &'static str,
}

const RUST: App = App { language: "rust", main: "src/main.rs" };
const GO: App = App { language: "go", main: "main.go" };
const ZIG: App = App { language: "zig", main: "src/main.zig" };

fn main() -> ExitCode {
    Suite::new()
        .test("rust", APP, || RUST.works())
        .test("go", APP, || GO.works())
        .test("zig", APP, || ZIG.works())
        .test("a source from elsewhere is the same on every engine", SOURCE, a_source_from_elsewhere)
        .run()
}

impl App {
    fn works(self) {
        let cli = Cli::new(PROGRAM).with_shared_store();
        let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps").join(self.language);
        copy(&app, cli.directory());

        let files = build(&cli, "linux/amd64", "first");
        let name = format!("claw-{}", self.language);
        let program = files.join("usr/local/bin").join(&name);
        assert_eq!(machine(&program), X86_64);
        assert!(answer(Command::new(&program)).starts_with(&name));
        cli.run(["test", "./recipe.toml"]).success();

        // Of the same length, and without waiting: only the content tells them apart.
        let main = cli.directory().join(self.main);
        let text = fs::read_to_string(&main).expect("the program is readable");
        let changed = name.to_uppercase();
        assert!(text.contains(&name), "{} does not say {name}", main.display());
        fs::write(&main, text.replace(&name, &changed)).expect("the program is writable");
        let files = build(&cli, "linux/amd64", "second");
        assert!(answer(Command::new(files.join("usr/local/bin").join(&name))).starts_with(&changed));

        let files = build(&cli, "linux/arm64", "arm64");
        let program = files.join("usr/local/bin").join(&name);
        assert_eq!(machine(&program), AARCH64);
        let mut emulated = Command::new("qemu-aarch64-static");
        emulated.arg("-L").arg(&files).arg(&program);
        assert!(answer(emulated).starts_with(&changed));
    }
}

/// The files of the image.
fn build(cli: &Cli, platform: &str, directory: &str) -> PathBuf {
    let output = format!("type=local,dest={directory}");
    cli.run(["./recipe.toml", "--platform", platform, "--output", &output]).success();
    cli.directory().join(directory)
}

fn machine(program: &Path) -> u16 {
    let bytes = fs::read(program).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(bytes.starts_with(b"\x7fELF"), "{} is no ELF file", program.display());
    u16::from_le_bytes([bytes[18], bytes[19]])
}

/// Ends the program when the test does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The body of the program's answer to `GET /health`.
fn answer(mut command: Command) -> String {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = free.local_addr().expect("it is bound").port();
    drop(free);
    command.env("CLAW_PORT", port.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Running(command.spawn().expect("the program starts"));
    let begun = Instant::now();
    loop {
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            let request = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let mut text = String::new();
            stream.write_all(request.as_bytes()).expect("it listens");
            stream.read_to_string(&mut text).expect("it answers");
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            return text.split_once("\r\n\r\n").expect("a body").1.to_owned();
        }
        if let Some(status) = running.0.try_wait().expect("it can be waited for") {
            panic!("the program ended: {status}");
        }
        assert!(begun.elapsed() < PATIENCE, "nothing listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const SAMPLE: &str = r#"schema = 1

[runtime]
name = "sample"
summary = "Files of a repository that nobody can reach"
license = "MIT"

[source]
git = "https://git.invalid/sample"
rev = "COMMIT"
version = "1.0.0"

[build]
language = "custom"

[stages.files]
from = "scratch"
steps = [{ copy = ".", to = "/opt/sample" }]

[image]
base = "static"
copy = [{ from = "files", path = "/opt/sample", to = "/opt/sample" }]
user = { name = "sample", uid = 1000 }
command = ["/opt/sample/tool"]

[health]
none = true
"#;

fn a_source_from_elsewhere() {
    let cli = Cli::new(PROGRAM).with_shared_store();
    let repository = cli.scratch().join("repository");
    fs::create_dir_all(repository.join("sub")).expect("the scratch directory is writable");
    let write = |name: &str, text: &str| fs::write(repository.join(name), text).expect("the repository is writable");
    write("tool", "a program\n");
    write("sub/file", "a file\n");
    std::os::unix::fs::symlink("sub/file", repository.join("link")).expect("the repository is writable");
    let path = repository.to_str().expect("a plain path");
    let git = |words: &[&str]| {
        // Long ago: times in the image after the commit's become the commit's.
        let identity = ["GIT_COMMITTER_DATE=1700000000 +0000", "git", "-c", "user.name=t", "-c"];
        let more = ["user.email=t@example.org", "-c", "commit.gpgsign=false", "-C", path];
        support::run("env", identity.iter().chain(&more).chain(words)).text().to_owned()
    };
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    git(&["update-index", "--chmod=+x", "tool"]);
    git(&["commit", "--quiet", "-m", "one"]);
    let recipe = SAMPLE.replace("COMMIT", git(&["rev-parse", "HEAD"]).trim());
    fs::write(cli.directory().join("recipe.toml"), recipe).expect("the working directory is writable");

    let source = format!("sample={path}");
    let build =
        |options: &[&str]| Built::of(cli.run(["./recipe.toml", "--json", "--source", &source].iter().chain(options)));
    let here = build(&["--engine", "embedded"]);
    let lock = fs::read(cli.directory().join("clawbuild.lock")).expect("the first build wrote the lock");
    let there = build(&["--builder", support::BuildKit::new().address()]);
    assert_eq!(here.diff_ids, there.diff_ids);
    assert_eq!(here.digest, there.digest);
    let after = fs::read(cli.directory().join("clawbuild.lock")).expect("the lock is there");
    assert!(lock == after, "where the source comes from is nothing the lock knows");
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("the program can be listed");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("the working directory is writable");
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the working directory is writable");
        }
    }
}
