//! What can go wrong.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use buildkit::transport::{Dial, Identity, Tcp, Tls, Unix};
use diag::progress::Event;
use diag::{Diagnostic, Exit};
use engine::{ContextSpec, Engine as _, SolveError};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use crate::Check;
use crate::node::{Node, listener};
use crate::site::{Site, Watch};

pub(crate) const CHECKS: &[Check] = &[
    ("a failed step is told as by the embedded engine", step),
    ("a missing secret is told as by the embedded engine", secret),
    ("a missing agent", agent),
    ("a missing context is told as by the embedded engine", context),
    ("TLS with certificates on both sides", tls),
    ("nobody is there", unreachable),
    ("certificates that are not accepted", certificates),
    ("another protocol", protocol),
    ("something else that speaks gRPC", not_buildkit),
    ("a builder that dies", dies),
    ("a connection that breaks off", breaks_off),
    ("a builder that comes back", comes_back),
    ("a builder whose disk is full", full),
    ("a result that cannot be written", unwritable),
    ("an interrupted build ends on the builder", cancel),
];

fn step() {
    let site = Site::new();
    // To one of its outputs: a builder reads each by itself, and what came first in one is not known in the other.
    for script in ["echo one >&2; echo two >&2; exit 42", "echo -n half; exit 137", "not-a-program"] {
        let graph = format!("fail {script}");
        let ours = site.solve(&site.embedded(), site.request(&graph)).diagnostic();
        let theirs = site.solve(&site.buildkit(), site.request(&graph)).diagnostic();
        assert_eq!(ours, theirs);
        assert_eq!(ours.code.slug, "engine/step-failed");
        assert!(!ours.labels.is_empty());
    }
}

fn secret() {
    let site = Site::new();
    // What was done with a secret is known without it.
    let without = || engine::SolveRequest { secrets: Default::default(), no_cache: true, ..site.request("secret") };
    let ours = site.solve(&site.embedded(), without()).diagnostic();
    let theirs = site.solve(&site.buildkit(), without()).diagnostic();
    assert_eq!(ours, theirs);
    assert_eq!(ours.code.slug, "engine/no-secret");
}

fn agent() {
    let site = Site::new();
    let found = site.solve(&site.buildkit(), site.request("agent")).diagnostic();
    assert_eq!(found.code.slug, "engine/no-agent", "{found:#?}");
}

fn context() {
    let site = Site::new();
    let moved = || {
        let contexts = [("context".to_owned(), ContextSpec { root: PathBuf::from("/nowhere/at/all") })].into();
        engine::SolveRequest { contexts, ..site.request("app") }
    };
    let ours = site.solve(&site.embedded(), moved()).diagnostic();
    let theirs = site.solve(&site.buildkit(), moved()).diagnostic();
    assert_eq!(ours, theirs);
    assert_eq!(ours.code.slug, "engine/context-missing");
    let none = engine::SolveRequest { contexts: Default::default(), ..site.request("app") };
    assert_eq!(site.solve(&site.buildkit(), none).diagnostic().code.slug, "engine/request");
}

/// The port with TLS of the buildkitd the tests are given.
fn tls_port() -> (Tcp, PathBuf) {
    let address = std::env::var("CLAWBUILD_TEST_BUILDKIT_TLS").expect("CLAWBUILD_TEST_BUILDKIT_TLS is set");
    let (host, port) = address.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')).expect("a TCP address");
    let certificates = std::env::var("CLAWBUILD_TEST_BUILDKIT_CERTIFICATES").expect("certificates");
    (Tcp { host: host.to_owned(), port: port.parse().expect("a port"), tls: None }, certificates.into())
}

fn known(certificates: &std::path::Path) -> Tls {
    let path = |name: &str| certificates.join(name);
    let identity = Identity { certificate: path("cert.pem"), key: path("key.pem") };
    Tls { authority: Some(path("ca.pem")), identity: Some(identity), server_name: None }
}

fn tls() {
    let site = Site::new();
    let (port, certificates) = tls_port();
    let dial = Tcp { tls: Some(known(&certificates)), ..port };
    let over_tls = site.solve(&site.buildkit_at(Arc::new(dial)), site.request("app")).image();
    assert_eq!(over_tls, site.solve(&site.embedded(), site.request("app")).image());
}

#[track_caller]
fn refused(dial: impl Dial + 'static, code: &str, exit: Exit) -> Diagnostic {
    let site = Site::new();
    let engine = site.buildkit_at(Arc::new(dial));
    let began = Instant::now();
    let found = site.solve(&engine, site.request("app")).diagnostic();
    assert!(began.elapsed() < Duration::from_secs(15));
    assert_eq!((found.code.slug, found.code.exit), (code, exit), "{found:#?}");
    assert!(!found.help.is_empty(), "{found:#?}");
    let unavailable = site.runtime.block_on(engine.check_usable()).expect_err("it cannot be used");
    assert!(unavailable.why.contains(&found.message), "{unavailable}");
    found
}

fn unreachable() {
    let found = refused(Unix { path: "/nowhere/buildkitd.sock".into() }, "engine/unreachable", Exit::Engine);
    assert_eq!(found.causes, ["No such file or directory (os error 2)"]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let found = refused(Tcp { host: "127.0.0.1".to_owned(), port, tls: None }, "engine/unreachable", Exit::Engine);
    assert!(found.causes[0].contains("refused"), "{found:#?}");
    refused(Tcp { host: "no.such.host.invalid".to_owned(), port, tls: None }, "engine/unreachable", Exit::Engine);
}

fn certificates() {
    let (port, certificates) = tls_port();
    let with = |tls: Tls| Tcp { tls: Some(tls), ..port.clone() };
    let known = known(&certificates);
    // The builder's own is not signed by whom this side trusts.
    let own = Tls { authority: Some(certificates.join("cert.pem")), ..known.clone() };
    refused(with(own), "engine/tls", Exit::Engine);
    // It is for another host.
    refused(with(Tls { server_name: Some("example.org".to_owned()), ..known.clone() }), "engine/tls", Exit::Engine);
    // This side shows none.
    let found = refused(with(Tls { identity: None, ..known.clone() }), "engine/tls", Exit::Engine);
    assert!(found.causes.iter().any(|cause| cause.contains("CertificateRequired")), "{found:#?}");
    let missing = Tls { authority: Some(certificates.join("nowhere.pem")), ..known.clone() };
    refused(with(missing), "engine/tls", Exit::Engine);
    let identity = Some(Identity { certificate: certificates.join("ca.pem"), key: certificates.join("ca.pem") });
    refused(with(Tls { identity, ..known }), "engine/tls", Exit::Engine);
}

fn protocol() {
    // Without TLS to a port with TLS, and the other way around.
    let (port, certificates) = tls_port();
    refused(port, "engine/protocol", Exit::Engine);
    let web = listener(|mut stream| {
        let mut request = [0; 64];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let web = Tcp { host: "127.0.0.1".to_owned(), port: web, tls: None };
    refused(web.clone(), "engine/protocol", Exit::Engine);
    refused(Tcp { tls: Some(known(&certificates)), ..web }, "engine/protocol", Exit::Engine);
}

struct Healthy;

#[tonic::async_trait]
impl Health for Healthy {
    async fn check(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
        Ok(tonic::Response::new(HealthCheckResponse::default()))
    }

    async fn list(
        &self,
        _: tonic::Request<HealthListRequest>,
    ) -> Result<tonic::Response<HealthListResponse>, tonic::Status> {
        Ok(tonic::Response::new(HealthListResponse::default()))
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, tonic::Status>>;

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, tonic::Status> {
        Ok(tonic::Response::new(tokio_stream::empty()))
    }
}

fn not_buildkit() {
    let site = Site::new();
    let path = site.path("other.sock");
    let _context = site.runtime.enter();
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = tonic::transport::Server::builder().add_service(HealthServer::new(Healthy));
    site.runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    drop(_context);
    refused(Unix { path }, "engine/not-buildkit", Exit::Engine);
}

fn dies() {
    let site = Site::new();
    let node = Node::start(site.directory.path(), &site.path("node"));
    let pid = rustix::process::Pid::from_raw(i32::try_from(node.id()).unwrap()).unwrap();
    let watch = Watch::new("begun", move || {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    });
    let engine = site.buildkit_at(Arc::new(node.dial()));
    let request = site.request("long 61");
    let result = site.solve_watched(&engine, request, CancellationToken::new(), watch);
    let found = result.diagnostic();
    assert_eq!((found.code.slug, found.code.exit), ("engine/connection-lost", Exit::Transient), "{found:#?}");
    end_processes("sleep 61");
}

/// Builds that a builder is at.
fn running_builds(node: &Node) -> usize {
    let address = format!("unix://{}", node.dial().path.display());
    let output = support::run("buildctl", ["--addr", &address, "debug", "histories"]).stdout;
    assert!(output.starts_with("TYPE"), "{output}");
    output.lines().filter(|line| line.starts_with("STARTED")).count()
}

/// A port that leads to another one until it is told to cut.
fn relay(to: String, cut: CancellationToken) -> u16 {
    listener(move |here| {
        let there = std::net::TcpStream::connect(&to).unwrap();
        let streams = [(here.try_clone().unwrap(), there.try_clone().unwrap()), (there, here)];
        for (mut from, mut to) in streams {
            let cut = cut.clone();
            std::thread::spawn(move || {
                from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                let mut piece = vec![0; 1 << 16];
                while !cut.is_cancelled() {
                    match from.read(&mut piece) {
                        Ok(0) => break,
                        Ok(count) => to.write_all(&piece[..count]).unwrap(),
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        Err(_) => break,
                    }
                }
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    })
}

fn breaks_off() {
    let site = Site::new();
    let address = std::env::var("CLAWBUILD_TEST_BUILDKIT_OTHER_TCP").expect("it is set");
    let cut = CancellationToken::new();
    let port = relay(address.strip_prefix("tcp://").unwrap().to_owned(), cut.clone());
    let watch = Watch::new("begun", move || cut.cancel());
    let engine = site.buildkit_at(Arc::new(Tcp { host: "127.0.0.1".to_owned(), port, tls: None }));
    let began = Instant::now();
    let solution = site.solve_watched(&engine, site.request("long 63"), CancellationToken::new(), watch);
    let found = solution.diagnostic();
    assert_eq!((found.code.slug, found.code.exit), ("engine/connection-lost", Exit::Transient), "{found:#?}");
    assert!(began.elapsed() < Duration::from_secs(20));
    // The builder notices too, and ends the step.
    let waiting = Instant::now();
    while count_processes("sleep 63") > 0 {
        assert!(waiting.elapsed() < Duration::from_secs(20), "the step still runs");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn comes_back() {
    let site = Site::new();
    let node = Node::start(site.directory.path(), &site.path("node"));
    let engine = site.buildkit_at(Arc::new(node.dial()));
    let first = site.solve(&engine, site.request("app")).image();
    drop(node);
    let found = site.solve(&engine, site.request("app")).diagnostic();
    assert_eq!(found.code.slug, "engine/unreachable", "{found:#?}");
    let _node = Node::start(site.directory.path(), &site.path("node"));
    assert_eq!(site.solve(&engine, site.request("app")).image(), first);
}

fn unwritable() {
    let site = Site::new();
    fs::write(site.path("file"), "in the way").unwrap();
    let output = || engine::Output::Files(engine::FilesOutput::Tar(site.path("file").join("out.tar")));
    let ours = site.solve(&site.embedded(), engine::SolveRequest { output: output(), ..site.request("app") });
    let theirs = site.solve(&site.buildkit(), engine::SolveRequest { output: output(), ..site.request("app") });
    // The causes name a file of random name.
    let (ours, theirs) = (ours.diagnostic(), theirs.diagnostic());
    assert_eq!((ours.code, ours.message), (theirs.code, theirs.message));
}

fn full() {
    let site = Site::new();
    let disk = site.path("disk");
    fs::create_dir(&disk).unwrap();
    support::run("mount", ["-t", "tmpfs", "-o", "size=24m", "tmpfs", disk.to_str().unwrap()]);
    fs::write(site.path("context").join("app"), vec![7; 40 << 20]).unwrap();
    let found = {
        let node = Node::start(site.directory.path(), &disk.join("node"));
        site.solve(&site.buildkit_at(Arc::new(node.dial())), site.request("app")).diagnostic()
    };
    support::run("umount", ["-l", disk.to_str().unwrap()]);
    assert_eq!(found.code.slug, "engine/builder-full", "{found:#?}");
}

fn cancel() {
    let site = Site::new();
    let cancel = CancellationToken::new();
    let watch = Watch::new("begun", {
        let cancel = cancel.clone();
        move || cancel.cancel()
    });
    let node = Node::start(site.directory.path(), &site.path("node"));
    let engine = site.buildkit_at(Arc::new(node.dial()));
    let began = Instant::now();
    let solution = site.solve_watched(&engine, site.request("long 62"), cancel, watch);
    assert!(matches!(solution.result, Err(SolveError::Canceled)), "{:?}", solution.result);
    assert!(began.elapsed() < Duration::from_secs(20));
    let open = solution.events.iter().fold(0, |open, event| match event {
        Event::Started { .. } => open + 1,
        Event::Finished { .. } => open - 1,
        _ => open,
    });
    assert_eq!(open, 0, "every task ends");
    assert!(end_processes("sleep 62") == 0, "the step still runs");
    // It lists a build as ended a moment after it told so.
    let ended = (0..200).any(|_| {
        let ended = running_builds(&node) == 0;
        if !ended {
            std::thread::sleep(Duration::from_millis(50));
        }
        ended
    });
    assert!(ended, "the builder still has the build");
}

fn count_processes(command: &str) -> usize {
    each_process(command, |_| {})
}

/// Ends what a builder that was killed left behind; gives how many there were.
fn end_processes(command: &str) -> usize {
    each_process(command, |pid| {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    })
}

fn each_process(command: &str, act: impl Fn(rustix::process::Pid)) -> usize {
    let mut found = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(arguments) = fs::read(entry.path().join("cmdline")) else { continue };
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if arguments.trim_end() == command {
            found += 1;
            act(rustix::process::Pid::from_raw(pid).unwrap());
        }
    }
    found
}
