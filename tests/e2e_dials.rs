//! Builders behind the programs that lead to them: ssh, podman, kubectl.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use support::Capability::{Archive, BuildKit, Docker, Network, Overlay, Podman, Root, Runc, Ssh};
use support::{Built, Capability, Cli, OneStep, Output, Suite};

const PROGRAM: &str = env!("CARGO_BIN_EXE_clawbuild");

const SSH: &[Capability] = &[Root, Overlay, Archive, Network, BuildKit, Docker, Ssh];
const PODMAN: &[Capability] = &[Root, Overlay, Archive, Network, BuildKit, Runc, Podman];
const KUBECTL: &[Capability] = &[Root, Overlay, Archive, Network, BuildKit];

fn main() -> ExitCode {
    Suite::new()
        .test("a builder and a Docker over ssh", SSH, over_ssh)
        .test("a host that ssh does not know is told", SSH, unknown_host)
        .test("a builder in a container of podman's", PODMAN, in_podman)
        .test("a builder in a pod", KUBECTL, in_a_pod)
        .run()
}

fn project() -> Cli {
    let cli = Cli::new(PROGRAM).with_shared_store();
    OneStep::write(cli.directory());
    cli
}

/// Builds and gives the digest.
fn digest(cli: &Cli, words: &[&str]) -> String {
    Built::of(cli.run(["./recipe.toml", "--json"].iter().chain(words).copied())).digest
}

/// The path of a `unix://` address.
fn socket(variable: &str) -> String {
    let address = std::env::var(variable).expect("tests/run starts the daemons");
    address.strip_prefix("unix://").expect("a unix socket").to_owned()
}

/// `PATH` with the directory in front of it, and with the tools of the tests.
fn path_with(directory: &Path) -> String {
    let tools = support::tool("buildctl");
    let tools = tools.parent().expect("tools lie in a directory");
    format!("{}:{}:/usr/sbin:/usr/bin:/sbin:/bin", directory.display(), tools.display())
}

/// A program of this name, in a directory of its own: a shell script.
fn program(directory: &Path, name: &str, script: &str) -> PathBuf {
    let bin = directory.join(format!("{name}-bin"));
    fs::create_dir(&bin).expect("the scratch directory is writable");
    fs::write(bin.join(name), format!("#!/bin/sh\n{script}\n")).expect("the scratch directory is writable");
    fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("it is our own file");
    bin
}

/// A daemon of a test's own, ended with it.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_there() {
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An sshd on loopback that lets in whoever has a key made for it, and the directory with the ssh of who has it.
struct Sshd {
    _daemon: Daemon,
    port: u16,
    bin: PathBuf,
    known_hosts: PathBuf,
}

impl Sshd {
    fn start(scratch: &Path) -> Self {
        let path = |name: &str| scratch.join(name);
        for key in ["host_key", "user_key"] {
            let mut command = Command::new(support::tool("ssh-keygen"));
            Output::of(command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(key))).success();
        }
        let public = |key: &str| fs::read_to_string(path(key)).expect("ssh-keygen wrote it");
        fs::write(path("authorized_keys"), public("user_key.pub")).expect("writable");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let known_hosts = path("known_hosts");
        fs::write(&known_hosts, format!("[127.0.0.1]:{port} {}", public("host_key.pub"))).expect("writable");
        let lines = [
            format!("ListenAddress 127.0.0.1:{port}"),
            format!("HostKey {}", path("host_key").display()),
            format!("AuthorizedKeysFile {}", path("authorized_keys").display()),
            // Temporary directories are everybody's.
            "StrictModes no".to_owned(),
            "PermitRootLogin prohibit-password".to_owned(),
            "PasswordAuthentication no".to_owned(),
            "KbdInteractiveAuthentication no".to_owned(),
            "UsePAM no".to_owned(),
            "PidFile none".to_owned(),
            format!("SetEnv PATH={}", path_with(Path::new("/usr/local/bin"))),
        ];
        fs::write(path("sshd_config"), lines.join("\n") + "\n").expect("writable");
        // sshd insists on this directory, which Debian makes when it starts the machine's own.
        fs::create_dir_all("/run/sshd").expect("the tests run as root");
        let log = fs::File::create(path("sshd.log")).expect("writable");
        let mut command = Command::new(support::tool("sshd"));
        let command = command.args(["-D", "-e", "-f"]).arg(path("sshd_config")).stdin(Stdio::null()).stderr(log);
        let mut daemon = Daemon(command.spawn().expect("sshd starts"));
        wait_for("sshd", || {
            let ended = daemon.0.try_wait().expect("it is our child");
            let said = || fs::read_to_string(path("sshd.log")).unwrap_or_default();
            assert!(ended.is_none(), "sshd ended: {}", said());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let lines = [
            format!("IdentityFile {}", path("user_key").display()),
            "IdentitiesOnly yes".to_owned(),
            format!("UserKnownHostsFile {}", known_hosts.display()),
            "GlobalKnownHostsFile none".to_owned(),
            "StrictHostKeyChecking yes".to_owned(),
        ];
        fs::write(path("ssh_config"), lines.join("\n") + "\n").expect("writable");
        let ssh = support::tool("ssh");
        // What a user writes into ~/.ssh/config; ssh looks for that in the home that /etc/passwd gives.
        let script = format!("exec {} -F {} \"$@\"", ssh.display(), path("ssh_config").display());
        Self { _daemon: daemon, port, bin: program(scratch, "ssh", &script), known_hosts }
    }

    fn address(&self, socket: &str) -> String {
        format!("ssh://root@127.0.0.1:{}{socket}", self.port)
    }
}

fn over_ssh() {
    let cli = project();
    let here = digest(&cli, &[]);
    let sshd = Sshd::start(cli.scratch());
    let cli = cli.with_variable("PATH", path_with(&sshd.bin));
    let builder = sshd.address(&socket("CLAWBUILD_TEST_BUILDKIT"));
    assert_eq!(digest(&cli, &["--builder", &builder]), here);
    let cli = cli.with_variable("DOCKER_HOST", sshd.address(&socket("CLAWBUILD_TEST_DOCKER_HOST")));
    assert_eq!(digest(&cli, &["--engine", "docker"]), here);
}

fn unknown_host() {
    let cli = project();
    let sshd = Sshd::start(cli.scratch());
    fs::write(&sshd.known_hosts, "").expect("writable");
    let cli = cli.with_variable("PATH", path_with(&sshd.bin));
    let refused = cli.run(["./recipe.toml", "--builder", &sshd.address("/run/buildkit/buildkitd.sock")]).exits(3);
    assert!(refused.stderr.contains("error[engine/unreachable]"), "{}", refused.stderr);
    assert!(refused.stderr.contains("Host key verification failed"), "{}", refused.stderr);
}

/// A container of podman's in which buildkitd runs, with nothing of the machine's own podman in it.
struct Container {
    cli: Cli,
    name: &'static str,
}

impl Container {
    fn start(cli: Cli) -> Self {
        let directory = cli.scratch().join("podman");
        fs::create_dir(&directory).expect("the scratch directory is writable");
        let podman = support::Podman::new(&directory);
        let cli = podman.variables().into_iter().fold(cli, |cli, (name, value)| cli.with_variable(name, value));
        let container = Self { cli, name: "clawbuild-tests" };
        let tools = support::tool("buildkitd");
        let tools = tools.parent().expect("tools lie in a directory").canonicalize().expect("they are there");
        let volume = format!("{}:/tools:ro", tools.display());
        // What buildkitd runs, such as runc, it has of the machine.
        let words = ["run", "--detach", "--name", container.name, "--privileged", "--network", "host"];
        let mounts = ["--volume", "/usr:/usr:ro", "--volume", &volume, "--tmpfs", "/var/lib/buildkit:exec"];
        let place = ["--env", "PATH=/tools:/usr/sbin:/usr/bin:/sbin:/bin", "--rootfs"];
        let command = ["buildkitd", "--oci-worker-gc=false", "--containerd-worker=false"];
        let rootfs = podman.rootfs().display().to_string();
        let words = words.iter().chain(&mounts).chain(&place).copied();
        container.podman(words.chain([rootfs.as_str()]).chain(command)).success();
        wait_for("buildkitd", || {
            container.podman(["exec", container.name, "buildctl", "debug", "workers"]).status == Some(0)
        });
        container
    }

    fn podman<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Output {
        Output::of(self.cli.command(&support::tool("podman")).args(words))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.podman(["rm", "--force", "--time", "0", self.name]);
    }
}

fn in_podman() {
    let cli = project();
    let here = digest(&cli, &[]);
    let container = Container::start(cli.clone());
    let address = format!("podman-container://{}", container.name);
    assert_eq!(digest(&container.cli, &["--builder", &address]), here);
    let refused = container.cli.run(["./recipe.toml", "--builder", "podman-container://no-such"]).exits(3);
    assert!(refused.stderr.contains("no container with name"), "{}", refused.stderr);
}

/// There is no cluster here. What stands in for kubectl keeps its arguments, and does what kubectl has the pod do: it
/// runs what comes behind `--`, which talks to a real builder.
fn in_a_pod() {
    let cli = project();
    let here = digest(&cli, &[]);
    let log = cli.scratch().join("kubectl.log");
    let script = format!(
        "printf '%s\\n' \"$@\" >{}\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nBUILDKIT_HOST=unix://{} exec \"$@\"",
        log.display(),
        socket("CLAWBUILD_TEST_BUILDKIT")
    );
    let bin = program(cli.scratch(), "kubectl", &script);
    let cli = cli.with_variable("PATH", path_with(&bin));
    let said = || fs::read_to_string(&log).expect("kubectl ran");
    assert_eq!(digest(&cli, &["--builder", "kube-pod://buildkitd-0"]), here);
    assert_eq!(said(), "exec\n-i\nbuildkitd-0\n--\nbuildctl\ndial-stdio\n");
    let builder = "kube-pod://buildkitd-0?context=ci&namespace=builders&container=buildkitd";
    assert_eq!(digest(&cli, &["--builder", builder]), here);
    let named = "--context=ci\n--namespace=builders\nexec\n-i\nbuildkitd-0\n--container=buildkitd\n";
    assert_eq!(said(), format!("{named}--\nbuildctl\ndial-stdio\n"));
}
