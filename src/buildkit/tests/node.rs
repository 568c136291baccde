//! Builders of a test's own, to be killed, filled and lied to.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use buildkit::transport::Unix;

/// A buildkitd of a test's own.
pub(crate) struct Node {
    daemon: Child,
    directory: PathBuf,
}

impl Node {
    /// Starts one that keeps its state in `root`.
    pub(crate) fn start(directory: &Path, root: &Path) -> Self {
        Self::start_with(directory, root, Path::new("/dev/null"))
    }

    /// Starts one with a configuration.
    pub(crate) fn start_with(directory: &Path, root: &Path, config: &Path) -> Self {
        let socket = directory.join("node.sock");
        let log = File::create(directory.join("node.log")).expect("a log");
        let daemon = Command::new(support::tool("buildkitd"))
            .arg("--config")
            .arg(config)
            .args(["--oci-worker-binary", "runc", "--oci-worker-gc=false"])
            .arg("--containerd-worker=false")
            .arg(format!("--addr=unix://{}", socket.display()))
            .arg("--root")
            .arg(root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("buildkitd starts");
        let node = Self { daemon, directory: directory.to_owned() };
        let began = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", node.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        node
    }

    pub(crate) fn dial(&self) -> Unix {
        Unix { path: self.directory.join("node.sock") }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("node.log")).unwrap_or_default()
    }

    pub(crate) fn id(&self) -> u32 {
        self.daemon.id()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Asked first, so that it takes its mounts away.
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            if !matches!(self.daemon.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A port on which something answers as `answer` does.
pub(crate) fn listener(answer: impl Fn(std::net::TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    port
}
