//! What the machine can do, looked at once for each process.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// Something a test can need of the machine it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// The tests run as uid 0 with full capabilities.
    Root,
    /// An ordinary user can make user namespaces.
    Userns,
    /// `newuidmap` and `newgidmap` are installed: an ordinary user can be given a range of ids.
    IdRange,
    /// overlayfs can be mounted.
    Overlay,
    /// A Docker daemon of the tests' own, `CLAWBUILD_TEST_DOCKER_HOST`.
    Docker,
    /// buildkitds of the tests' own, `CLAWBUILD_TEST_BUILDKIT` and its kin.
    BuildKit,
    /// A buildkitd of the tests' own that runs programs of arm64, `CLAWBUILD_TEST_BUILDKIT_ARM64`.
    Emulation,
    /// Programs of arm64 run, each by itself, with qemu.
    Qemu,
    /// buildx is installed, as a program of its own.
    Buildx,
    /// Registries of the tests' own, `CLAWBUILD_TEST_REGISTRY` and its kin.
    Registry,
    /// skopeo is installed.
    Skopeo,
    /// crane is installed.
    Crane,
    /// umoci is installed.
    Umoci,
    /// runc is installed.
    Runc,
    /// podman is installed and runs a container.
    Podman,
    /// ssh and sshd are installed.
    Ssh,
    /// buildah is installed.
    Buildah,
    /// mmdebstrap is installed.
    Mmdebstrap,
    /// git is installed.
    Git,
    /// The Debian archive answers.
    Archive,
    /// Package registries answer.
    Network,
}

/// A fact about the capability: its version, say. Or why it is missing.
pub(crate) type Probe = Result<String, String>;

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 21] = [
        Self::Root,
        Self::Userns,
        Self::IdRange,
        Self::Overlay,
        Self::Docker,
        Self::BuildKit,
        Self::Emulation,
        Self::Qemu,
        Self::Buildx,
        Self::Registry,
        Self::Skopeo,
        Self::Crane,
        Self::Umoci,
        Self::Runc,
        Self::Podman,
        Self::Ssh,
        Self::Buildah,
        Self::Mmdebstrap,
        Self::Git,
        Self::Archive,
        Self::Network,
    ];

    /// Its name, as in `CLAWBUILD_TEST_REQUIRE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Userns => "userns",
            Self::IdRange => "range",
            Self::Overlay => "overlay",
            Self::Docker => "docker",
            Self::BuildKit => "buildkit",
            Self::Emulation => "emulation",
            Self::Qemu => "qemu",
            Self::Buildx => "buildx",
            Self::Registry => "registry",
            Self::Skopeo => "skopeo",
            Self::Crane => "crane",
            Self::Umoci => "umoci",
            Self::Runc => "runc",
            Self::Podman => "podman",
            Self::Ssh => "ssh",
            Self::Buildah => "buildah",
            Self::Mmdebstrap => "mmdebstrap",
            Self::Git => "git",
            Self::Archive => "archive",
            Self::Network => "network",
        }
    }

    /// Looks whether the machine has it, once.
    ///
    /// # Errors
    /// The reason why not.
    pub fn probe(self) -> Result<&'static str, &'static str> {
        static PROBES: [OnceLock<Probe>; Capability::ALL.len()] = [const { OnceLock::new() }; Capability::ALL.len()];
        let probe = PROBES[self as usize].get_or_init(|| self.look());
        probe.as_deref().map_err(String::as_str)
    }

    /// Whether `CLAWBUILD_TEST_REQUIRE` promises it.
    ///
    /// # Panics
    /// When the variable names a capability that does not exist.
    pub fn is_promised(self) -> bool {
        static PROMISED: OnceLock<Vec<Capability>> = OnceLock::new();
        PROMISED
            .get_or_init(|| {
                let names = std::env::var("CLAWBUILD_TEST_REQUIRE").unwrap_or_default();
                let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
                names
                    .map(|name| {
                        Self::ALL
                            .into_iter()
                            .find(|capability| capability.name() == name)
                            .unwrap_or_else(|| panic!("CLAWBUILD_TEST_REQUIRE names `{name}`, which is no capability"))
                    })
                    .collect()
            })
            .contains(&self)
    }

    fn look(self) -> Probe {
        match self {
            Self::Root => root(),
            Self::Userns => userns(),
            Self::IdRange => both(version("newuidmap", &[]), version("newgidmap", &[])),
            Self::Overlay => overlay(),
            Self::Docker => docker(),
            Self::BuildKit => buildkit("CLAWBUILD_TEST_BUILDKIT"),
            Self::Emulation => buildkit("CLAWBUILD_TEST_BUILDKIT_ARM64"),
            Self::Qemu => version("qemu-aarch64-static", &["--version"]),
            Self::Buildx => version("buildx", &["version"]),
            Self::Registry => registry(),
            Self::Skopeo => version("skopeo", &["--version"]),
            Self::Crane => version("crane", &["version"]),
            Self::Umoci => version("umoci", &["--version"]),
            Self::Runc => version("runc", &["--version"]),
            Self::Podman => podman(),
            Self::Ssh => both(installed("ssh-keygen"), installed("sshd")),
            Self::Buildah => version("buildah", &["--version"]),
            Self::Mmdebstrap => version("mmdebstrap", &["--version"]),
            Self::Git => version("git", &["--version"]),
            Self::Archive => reachable("deb.debian.org", 80),
            Self::Network => both(reachable("registry.npmjs.org", 443), reachable("static.crates.io", 443)),
        }
    }
}

/// Whether the machine has all of these.
///
/// # Errors
/// The reasons why not, where none of the missing ones was promised.
///
/// # Panics
/// When a missing one was promised.
pub fn require(needs: &[Capability]) -> Result<(), String> {
    let mut missing = Vec::new();
    for need in needs {
        if let Err(reason) = need.probe() {
            assert!(!need.is_promised(), "`{}` was promised by CLAWBUILD_TEST_REQUIRE, but: {reason}", need.name());
            missing.push(format!("needs {}: {reason}", need.name()));
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
}

fn both(first: Probe, second: Probe) -> Probe {
    Ok(format!("{}, {}", first?, second?))
}

fn root() -> Probe {
    if !rustix::process::geteuid().is_root() {
        return Err(format!("running as uid {}", rustix::process::geteuid().as_raw()));
    }
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .ok_or("/proc/self/status has no CapEff line")?;
    const SYS_ADMIN: u64 = 1 << 21;
    if effective & SYS_ADMIN == 0 { Err("uid 0 without CAP_SYS_ADMIN".into()) } else { Ok("uid 0".into()) }
}

/// As an ordinary user, also where the tests run as root.
fn userns() -> Probe {
    let mut command = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    command.args(["--", "unshare", "--user", "--map-root-user", "--mount", "true"]);
    succeeds(&mut command).map(|_| "an ordinary user can make them".into())
}

fn overlay() -> Probe {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(path(name)).map_err(|error| error.to_string())?;
    }
    let options = format!("userxattr,lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
    let script = format!("mount -t overlay overlay -o {options} {}", path("merged"));
    succeeds(Command::new("unshare").args(["--user", "--map-root-user", "--mount", "sh", "-ec", &script]))
        .map(|_| "mounted one in a user namespace".into())
}

fn docker() -> Probe {
    let host = std::env::var("CLAWBUILD_TEST_DOCKER_HOST")
        .map_err(|_| "CLAWBUILD_TEST_DOCKER_HOST is not set: tests/run starts a daemon for the tests")?;
    succeeds(Command::new(crate::tool("docker")).args(["--host", &host, "version", "--format", "{{.Server.Version}}"]))
}

fn buildkit(variable: &str) -> Probe {
    let address = std::env::var(variable)
        .map_err(|_| format!("{variable} is not set: tests/run starts buildkitds for the tests, where it can"))?;
    let format = "{{range .}}{{.ID}} {{end}}";
    succeeds(Command::new(crate::tool("buildctl")).args(["--addr", &address, "debug", "workers", "--format", format]))
}

fn podman() -> Probe {
    let version = version("podman", &["--version"])?;
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let podman = crate::Podman::new(directory.path());
    let words = ["run", "--rm", "--network", "none", "--volume", "/usr:/usr:ro", "--rootfs"];
    succeeds(podman.command().args(words).arg(podman.rootfs()).arg("true")).map(|_| version)
}

fn registry() -> Probe {
    let mut addresses = Vec::new();
    for variable in ["CLAWBUILD_TEST_REGISTRY", "CLAWBUILD_TEST_REGISTRY_BASIC", "CLAWBUILD_TEST_REGISTRY_TOKEN"] {
        let address = std::env::var(variable)
            .map_err(|_| format!("{variable} is not set: tests/run starts registries for the tests"))?;
        TcpStream::connect(&address).map_err(|error| format!("{address}: {error}"))?;
        addresses.push(address);
    }
    Ok(addresses.join(", "))
}

/// Without running it: sshd with no arguments is a daemon of the whole machine's.
fn installed(tool: &str) -> Probe {
    let path = crate::tool(tool);
    if path.is_absolute() { Ok(path.display().to_string()) } else { Err(format!("{tool} is not installed")) }
}

/// The first line a tool prints when asked for its version.
fn version(tool: &str, arguments: &[&str]) -> Probe {
    let path = crate::tool(tool);
    let output = Command::new(&path)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{tool}: {error}"))?;
    if arguments.is_empty() {
        return Ok(tool.to_owned());
    }
    if !output.status.success() {
        return Err(format!("`{tool} {}` ended with {}", arguments.join(" "), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
}

fn succeeds(command: &mut Command) -> Probe {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", Path::new(command.get_program()).display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A TCP connection, and for port 80 an answer too: a network may swallow what it accepts.
fn reachable(host: &str, port: u16) -> Probe {
    const PATIENCE: Duration = Duration::from_secs(10);
    let refused = |error: std::io::Error| format!("{host}:{port}: {error}");
    let address = (host, port).to_socket_addrs().map_err(refused)?.next().ok_or(format!("{host} has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(refused)?;
    if port == 80 {
        stream.set_read_timeout(Some(PATIENCE)).map_err(refused)?;
        write!(stream, "HEAD / HTTP/1.0\r\nHost: {host}\r\n\r\n").map_err(refused)?;
        stream.read_exact(&mut [0; 4]).map_err(refused)?;
    }
    Ok(format!("{host} answers"))
}
