//! Builders behind something else than a socket.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use buildkit::address::Address;
use buildkit::builders::Environment;
use buildkit::transport::Process;
use diag::codes;
use engine::{Engine as _, FilesOutput, Output, SolveRequest};
use support::Capability;

use crate::Check;
use crate::site::Site;

pub(crate) const NEEDS: &[Capability] = &[Capability::Root, Capability::BuildKit, Capability::Docker];

pub(crate) const CHECKS: &[Check] = &[
    ("a builder behind the standard streams of a program", stdio),
    ("a builder in a container", container),
    ("containers that hold no builder", no_builder),
];

fn buildkit_address() -> String {
    std::env::var("CLAWBUILD_TEST_BUILDKIT").expect("CLAWBUILD_TEST_BUILDKIT is set")
}

fn docker_host() -> String {
    std::env::var("CLAWBUILD_TEST_DOCKER_HOST").expect("CLAWBUILD_TEST_DOCKER_HOST is set")
}

/// What kubectl, podman and ssh do, without them.
fn stdio() {
    let site = Site::new();
    let dial = Process {
        address: "test://stdio".to_owned(),
        program: support::tool("buildctl").display().to_string(),
        args: vec!["--addr".to_owned(), buildkit_address(), "dial-stdio".to_owned()],
        greets: true,
    };
    let image = site.solve(&site.buildkit_at(Arc::new(dial.clone())), site.request("app")).image();
    assert_eq!(image, site.solve(&site.embedded(), site.request("app")).image());

    let nobody =
        Process { args: vec!["--addr".to_owned(), "unix:///nowhere".to_owned(), "dial-stdio".to_owned()], ..dial };
    let diagnostic = site.solve(&site.buildkit_at(Arc::new(nobody)), site.request("app")).diagnostic();
    assert_eq!(diagnostic.code.slug, codes::engine::UNREACHABLE.slug, "{diagnostic:#?}");
    assert!(diagnostic.related[0].lines.iter().any(|line| line.contains("/nowhere")), "{diagnostic:#?}");
}

/// A container and its image, removed with it.
struct Container {
    name: String,
    image: String,
}

impl Container {
    fn create(site: &Site, arguments: &[&str]) -> Self {
        let archive = site.path("base.tar");
        let output = Output::Files(FilesOutput::Tar(archive.clone()));
        site.solve(&site.embedded(), SolveRequest { output, ..site.request("base") }).outcome();
        let image = docker(&["import", &archive.display().to_string()]);
        let socket = buildkit_address();
        let directory = Path::new(socket.trim_start_matches("unix://")).parent().expect("a directory");
        // Directories of tests have names of their own.
        let name = site.directory.path().file_name().expect("a name").display().to_string();
        let name = format!("clawbuild-test-{}", name.trim_start_matches('.'));
        let volumes = [
            format!("{}:/usr/bin/buildctl:ro", support::tool("buildctl").display()),
            format!("{}:/run/buildkit", directory.display()),
        ];
        let mut all = vec!["create", "--name", &name, "--network", "none", "--env", "PATH=/usr/bin:/bin"];
        all.extend(arguments);
        for volume in &volumes {
            all.extend(["--volume", volume]);
        }
        all.extend([image.trim(), "/bin/sleep", "600"]);
        docker(&all);
        Self { name, image: image.trim().to_owned() }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "--force", &self.name]);
        docker(&["rmi", &self.image]);
    }
}

#[track_caller]
fn docker(arguments: &[&str]) -> String {
    let output = Command::new(support::tool("docker")).args(["--host", &docker_host()]).args(arguments).output();
    let output = output.expect("docker runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn dialed(address: &str) -> Arc<dyn buildkit::transport::Dial> {
    let environment = Environment { docker_host: Some(docker_host()), ..Environment::default() };
    address.parse::<Address>().expect("an address").dial(&environment).expect("a context")
}

/// As buildx's docker-container driver has it, with the daemon's socket mounted into it instead of a daemon.
fn container() {
    let site = Site::new();
    let socket = buildkit_address();
    let name = Path::new(socket.trim_start_matches("unix://")).file_name().expect("a name").to_owned();
    let host = format!("BUILDKIT_HOST=unix:///run/buildkit/{}", name.display());
    let container = Container::create(&site, &["--env", &host]);
    // It has never been started: buildx stops its containers too.
    let engine = site.buildkit_at(dialed(&format!("docker-container://{}", container.name)));
    let image = site.solve(&engine, site.request("app")).image();
    assert_eq!(image, site.solve(&site.embedded(), site.request("app")).image());
}

fn no_builder() {
    let site = Site::new();
    let why = |address: &str| {
        let engine = site.buildkit_at(dialed(address));
        site.runtime.block_on(engine.check_usable()).expect_err(address).why
    };
    let why_not = why("docker-container://clawbuild-test-no-such");
    assert!(why_not.contains("docker exec -i clawbuild-test-no-such buildctl dial-stdio"), "{why_not}");
    assert!(why_not.contains("No such container"), "{why_not}");
    let container = Container::create(&site, &["--env", "BUILDKIT_HOST=unix:///nowhere"]);
    let engine = site.buildkit_at(dialed(&format!("docker-container://{}", container.name)));
    let diagnostic = site.solve(&engine, site.request("app")).diagnostic();
    assert!(diagnostic.related[0].lines.iter().any(|line| line.contains("/nowhere")), "{diagnostic:#?}");
}
