//! Pushing to real registries, and reading back with other people's tools.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use support::Capability::{Archive, Crane, Docker, Network, Overlay, Registry, Root, Skopeo};
use support::{Built, Capability, Cli, Credentials, Suite, ThreeStages, run};

const PROGRAM: &str = env!("CARGO_BIN_EXE_clawbuild");

/// What every push here needs.
const PUSH: &[Capability] = &[Root, Overlay, Archive, Network, Registry, Skopeo, Crane];

fn main() -> ExitCode {
    Suite::new()
        .test("anonymous over plain HTTP, several tags", PUSH, anonymous)
        .test("what is there is not sent again", PUSH, what_is_there_is_not_sent_again)
        .test("docker pulls it", &[Root, Overlay, Archive, Network, Registry, Docker], docker_pulls_it)
        .test("basic authentication over TLS", PUSH, basic)
        .test("a credential helper", PUSH, credential_helper)
        .test("a wrong password is told as such", PUSH, wrong_password)
        .test("tokens", PUSH, tokens)
        .test("an unknown authority is told as such", PUSH, unknown_authority)
        .test("nobody listening is transient", PUSH, nobody_listening)
        .run()
}

/// The project, built; the lock of the first build for everyone.
fn project() -> Cli {
    static LOCK: OnceLock<Vec<u8>> = OnceLock::new();
    let lock = LOCK.get_or_init(|| {
        let cli = Cli::new(PROGRAM).with_shared_store();
        ThreeStages::write(cli.directory());
        cli.run(["./recipe.toml"]).success();
        fs::read(cli.directory().join("clawbuild.lock")).expect("the build wrote the lock")
    });
    let cli = Cli::new(PROGRAM).with_shared_store();
    ThreeStages::write(cli.directory());
    fs::write(cli.directory().join("clawbuild.lock"), lock).expect("the working directory is writable");
    cli
}

#[track_caller]
fn push(cli: &Cli, repository: &str, tags: &[&str]) -> Built {
    let tags = tags.iter().flat_map(|tag| ["--tag", tag]);
    Built::of(cli.run(["./recipe.toml", "--json", "--push", "--repository", repository].into_iter().chain(tags)))
}

/// The digest of a reference, as crane sees it.
fn crane_digest(reference: &str) -> String {
    run("crane", ["digest", "--insecure", reference]).text().to_owned()
}

fn anonymous() {
    let cli = project();
    let repository = support::Registry::anonymous().repository("anonymous");
    let built = push(&cli, &repository, &["1.0.0", "latest"]);
    for tag in ["1.0.0", "latest"] {
        let reference = format!("{repository}:{tag}");
        assert_eq!(crane_digest(&reference), built.digest);
        let inspected = run("skopeo", ["inspect", "--tls-verify=false", &format!("docker://{reference}")]).json();
        assert_eq!(inspected["Digest"], built.digest.as_str());
        let layers: Vec<&str> =
            inspected["Layers"].as_array().expect("layers").iter().filter_map(|layer| layer.as_str()).collect();
        assert_eq!(layers, built.layers);
    }
    run("crane", ["validate", "--insecure", "--remote", &format!("{repository}:latest")]);
}

fn what_is_there_is_not_sent_again() {
    let cli = project();
    let registry = support::Registry::anonymous();
    let repository = registry.repository("again");
    push(&cli, &repository, &["one"]);
    let before = uploads(&registry, &repository);
    push(&cli, &repository, &["two"]);
    assert_eq!(uploads(&registry, &repository), before, "blobs were uploaded again");
    // Another repository of the same registry takes them over without their being sent: at most a mount each.
    let other = registry.repository("again");
    let built = push(&cli, &other, &["one"]);
    assert_eq!(crane_digest(&format!("{other}:one")), built.digest);
}

/// Requests that carried a blob's bytes to a repository: PATCH, and PUT on an upload.
fn uploads(registry: &support::Registry, repository: &str) -> usize {
    let name = repository.split_once('/').expect("a repository has a host").1;
    let uploads = format!("/v2/{name}/blobs/uploads/");
    let log = fs::read_to_string(registry.log()).expect("the registry writes a log");
    log.lines()
        .filter(|line| ["\"PATCH ", "\"PUT "].iter().any(|method| line.contains(&format!("{method}{uploads}"))))
        .count()
}

fn docker_pulls_it() {
    let cli = project();
    let repository = support::Registry::anonymous().repository("docker");
    let built = push(&cli, &repository, &["1.0.0"]);
    let docker = support::Docker::new();
    let reference = format!("{repository}:1.0.0");
    docker.run(["pull", "--quiet", &reference]);
    let digests = docker.run(["image", "inspect", "--format", "{{.Id}} {{index .RepoDigests 0}}", &reference]);
    assert_eq!(digests.text(), format!("{} {repository}@{}", built.config, built.digest));
}

fn basic() {
    let registry = support::Registry::basic();
    let cli = with_authority(project(), &registry);
    write_docker_config(&cli, &registry, registry.credentials().expect("it wants some"));
    let repository = registry.repository("basic");
    let built = push(&cli, &repository, &["1.0.0"]);
    assert_eq!(read_back(&registry, &repository), built.digest);
}

fn credential_helper() {
    let registry = support::Registry::basic();
    let cli = with_authority(project(), &registry);
    let Credentials { user, password } = registry.credentials().expect("it wants some");
    let bin = cli.scratch().join("helpers");
    fs::create_dir(&bin).expect("the scratch directory is writable");
    let helper = bin.join("docker-credential-tests");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] && read -r server && [ \"$server\" = {} ] || exit 1\n\
         printf '{{\"ServerURL\":\"%s\",\"Username\":\"{user}\",\"Secret\":\"{password}\"}}' \"$server\"\n",
        registry.address()
    );
    fs::write(&helper, script).expect("the scratch directory is writable");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("it is our own file");
    let json = serde_json::json!({"credHelpers": {registry.address(): "tests"}});
    write_config(&cli, &json);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let cli = cli.with_variable("PATH", path);
    let repository = registry.repository("helper");
    let built = push(&cli, &repository, &["1.0.0"]);
    assert_eq!(read_back(&registry, &repository), built.digest);
}

fn wrong_password() {
    let registry = support::Registry::basic();
    let cli = with_authority(project(), &registry);
    let mut credentials = registry.credentials().expect("it wants some").clone();
    credentials.password = "correct horse".to_owned();
    write_docker_config(&cli, &registry, &credentials);
    let repository = registry.repository("wrong");
    let output = cli.run(["./recipe.toml", "--push", "--repository", &repository]).exits(1);
    assert!(output.stderr.contains("error[registry/"), "{}", output.stderr);
    assert!(!output.stderr.contains("correct horse"), "a password is never shown: {}", output.stderr);
}

fn tokens() {
    let registry = support::Registry::token();
    let cli = project();
    write_docker_config(&cli, &registry, registry.credentials().expect("it wants some"));
    for prefix in ["public", "private"] {
        let repository = registry.repository(prefix);
        let built = push(&cli, &repository, &["1.0.0"]);
        assert_eq!(read_back(&registry, &repository), built.digest);
    }
    // Without credentials the token that anyone can have does not let him push.
    let stranger = project();
    let output = stranger.run(["./recipe.toml", "--push", "--repository", &registry.repository("public")]).exits(1);
    assert!(output.stderr.contains("error[registry/"), "{}", output.stderr);
}

fn unknown_authority() {
    let registry = support::Registry::basic();
    let cli = project();
    write_docker_config(&cli, &registry, registry.credentials().expect("it wants some"));
    let output = cli.run(["./recipe.toml", "--push", "--repository", &registry.repository("unknown")]);
    assert_ne!(output.status, Some(0));
    assert!(output.stderr.contains("certificate"), "{}", output.stderr);
}

fn nobody_listening() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let output = project().run(["./recipe.toml", "--push", "--repository", &format!("{address}/x")]).exits(75);
    assert!(output.stderr.contains(&address.to_string()), "{}", output.stderr);
}

/// Trusts the registry's authority, and those the tester trusts.
fn with_authority(cli: Cli, registry: &support::Registry) -> Cli {
    let own = fs::read(registry.ca().expect("it speaks TLS")).expect("the authority can be read");
    let theirs = std::env::var("SSL_CERT_FILE").unwrap_or_else(|_| "/etc/ssl/certs/ca-certificates.crt".to_owned());
    let bundle = cli.scratch().join("authorities.pem");
    let all = [fs::read(theirs).unwrap_or_default(), own].concat();
    fs::write(&bundle, all).expect("the scratch directory is writable");
    cli.with_variable("SSL_CERT_FILE", bundle)
}

fn write_docker_config(cli: &Cli, registry: &support::Registry, credentials: &Credentials) {
    write_config(cli, &serde_json::json!({"auths": {registry.address(): {"auth": credentials.to_base64()}}}));
}

fn write_config(cli: &Cli, json: &serde_json::Value) {
    let directory = cli.home().join(".docker");
    fs::create_dir_all(&directory).expect("the home is writable");
    fs::write(directory.join("config.json"), json.to_string()).expect("the home is writable");
}

/// The digest of `repository:1.0.0` as skopeo sees it, with the registry's own credentials and authority.
fn read_back(registry: &support::Registry, repository: &str) -> String {
    let Credentials { user, password } = registry.credentials().expect("it wants some");
    let mut arguments = vec!["inspect".to_owned(), "--creds".to_owned(), format!("{user}:{password}")];
    match registry.ca().and_then(Path::parent) {
        Some(_) => arguments.push(format!("--cert-dir={}", registry.certificates().display())),
        None => arguments.push("--tls-verify=false".to_owned()),
    }
    arguments.push(format!("docker://{repository}:1.0.0"));
    let inspected = run("skopeo", arguments).json();
    inspected["Digest"].as_str().expect("a digest").to_owned()
}
