//! Several builders as one engine, and machines that build apart.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use buildkit::BuildKitOptions;
use buildkit::transport::Unix;
use diag::Reported as _;
use diag::progress::Progress;
use engine::fleet::{Fleet, Node};
use engine::{Engine as _, FilesOutput, Layout, SolveRequest};
use llb::{Exec, File, Graph, Tree};
use oci::Platform;
use registry::image::Keychain;
use store::Store;
use support::Capability::{Archive, BuildKit, Crane, Docker, Emulation, Network, Overlay, Registry, Root};
use support::{Built, Capability, Cli, OneStep, Output, Suite, run};
use tokio_util::sync::CancellationToken;

const PROGRAM: &str = env!("CARGO_BIN_EXE_clawbuild");

const NATIVE: &[Capability] = &[Root, Overlay, Archive, Network, BuildKit, Emulation];
const DOCTOR: &[Capability] = &[Root, Docker, BuildKit];
const FLEET: &[Capability] = &[Root, Overlay, Archive, Network, Registry, BuildKit, Crane];

fn main() -> ExitCode {
    Suite::new()
        .test("work is shared among nodes", FLEET, work_is_shared)
        .test("a node that is gone is done without", FLEET, a_node_that_is_gone)
        .test("no node for a platform", FLEET, no_node_for_a_platform)
        .test("machines that build apart are joined", FLEET, machines_apart)
        .test("what builds nothing needs no engine", FLEET, no_engine_needed)
        .test("steps run on the node of their platform", NATIVE, native_steps)
        .test("doctor looks at every engine", DOCTOR, doctor)
        .test("images that do not fit together are refused", FLEET, images_that_do_not_fit)
        .run()
}

fn project() -> Cli {
    let cli = Cli::new(PROGRAM).with_shared_store();
    OneStep::write(cli.directory());
    cli.run(["./recipe.toml", "--quiet"]).success();
    cli
}

fn node(name: &str) -> String {
    std::env::var(name).expect("tests/run starts two nodes")
}

/// Two nodes, said to run what this machine does: the other one has an emulator that starts no further programs.
fn nodes() -> [String; 2] {
    ["CLAWBUILD_TEST_BUILDKIT", "CLAWBUILD_TEST_BUILDKIT_OTHER"]
        .map(|name| format!("{},platform=linux/amd64", node(name)))
}

/// The digest of the only target: of the manifest, or of the index of several.
fn root(output: Output) -> String {
    let output = output.success();
    output.json()[0]["root"]["digest"].as_str().expect("a digest").to_owned()
}

const BOTH: [&str; 4] = ["./recipe.toml", "--json", "--platform", "linux/amd64,linux/arm64"];

fn work_is_shared() {
    let cli = project();
    let here = root(cli.run(BOTH));
    let [one, other] = nodes();
    let words = ["--builder", &one, "--builder", &other, "--no-cache", "--progress", "plain"];
    let output = cli.run(BOTH.into_iter().chain(words)).success();
    let ran_on = |node: &str| output.stderr.lines().any(|line| line.contains(node) && line.contains("sh -c"));
    assert!(ran_on(&node("CLAWBUILD_TEST_BUILDKIT")), "{}", output.stderr);
    assert!(ran_on(&node("CLAWBUILD_TEST_BUILDKIT_OTHER")), "{}", output.stderr);
    assert_eq!(root(output), here, "nodes make what this machine makes");
}

fn a_node_that_is_gone() {
    let cli = project();
    let here = Built::of(cli.run(["./recipe.toml", "--json"]));
    let dead = "tcp://127.0.0.1:1,platform=linux/amd64";
    let alive = format!("{},platform=linux/amd64", node("CLAWBUILD_TEST_BUILDKIT"));
    let words = ["./recipe.toml", "--json", "--builder", dead, "--builder", &alive, "--progress", "plain"];
    let output = cli.run(words).success();
    assert!(output.stderr.contains("tcp://127.0.0.1:1 is gone"), "{}", output.stderr);
    assert_eq!(Built::of(output).digest, here.digest);
}

fn no_node_for_a_platform() {
    let cli = project();
    let other = format!("{},platform=linux/riscv64", node("CLAWBUILD_TEST_BUILDKIT"));
    let output = cli.run(["./recipe.toml", "--builder", &other]);
    assert_ne!(output.status, Some(0));
}

/// Builds one platform and pushes it under its digest; gives the metadata file's name.
fn build_apart(cli: &Cli, platform: &str, repository: &str) -> String {
    let file = format!("{}.json", platform.replace('/', "-"));
    let words = ["./recipe.toml", "--quiet", "--push", "--by-digest", "--platform", platform];
    let more = ["--repository", repository, "-t", "1.0.0", "-t", "latest", "--metadata-file", &file];
    cli.run(words.into_iter().chain(more)).success();
    file
}

fn machines_apart() {
    let cli = project();
    let registry = support::Registry::anonymous();
    let repository = registry.repository("apart");
    let files = ["linux/amd64", "linux/arm64"].map(|platform| build_apart(&cli, platform, &repository));
    let tags = Output::of(std::process::Command::new(support::tool("crane")).args(["ls", "--insecure", &repository]));
    assert_eq!(tags.stdout.trim(), "", "nothing has a tag yet");
    // Elsewhere, with nothing but the files.
    let elsewhere = Cli::new(PROGRAM);
    for file in &files {
        fs::copy(cli.directory().join(file), elsewhere.directory().join(file)).expect("the file was written");
    }
    elsewhere.run(["merge", &files[0], &files[1]]).success();
    let here = root(cli.run(BOTH));
    for tag in ["1.0.0", "latest"] {
        let digest = run("crane", ["digest", "--insecure", &format!("{repository}:{tag}")]);
        assert_eq!(digest.text(), here, "{tag}");
    }
}

fn no_engine_needed() {
    let cli = project();
    let repository = support::Registry::anonymous().repository("engineless");
    let files = ["linux/amd64", "linux/arm64"].map(|platform| build_apart(&cli, platform, &repository));
    let layout = cli.scratch().join("layout").display().to_string();
    let here = root(cli.run(["./recipe.toml", "--json", "-o", &format!("type=oci,dest={layout}")]));
    let dead = cli.clone().with_variable("BUILDKIT_HOST", "tcp://127.0.0.1:1");
    let refused = dead.run(["./recipe.toml"]).exits(3);
    assert!(refused.stderr.contains("error[engine/unreachable]"), "{}", refused.stderr);
    dead.run(["push", &layout, "-t", &format!("{repository}:layout")]).success();
    let digest = run("crane", ["digest", "--insecure", &format!("{repository}:layout")]);
    assert_eq!(digest.text(), here);
    cli.run(["merge", &files[0], &files[1], "-t", "merged", "--builder", "tcp://127.0.0.1:1"]).success();
    // The lock answers everything, so nothing has to run.
    dead.run(["lock", "--check", "./recipe.toml"]).success();
}

/// Each on the node that runs it natively, children and all: a graph of one step on Debian for that platform. (Not a
/// recipe: its node would compile claw-init with a rustc of its own platform, which takes qemu many minutes.)
fn native_steps() {
    let cli = Cli::new(PROGRAM).with_shared_store();
    let store = Store::open(&cli.scratch().join("nodes")).expect("a store");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let nodes = ["CLAWBUILD_TEST_BUILDKIT", "CLAWBUILD_TEST_BUILDKIT_ARM64"].map(|variable| {
        let address = node(variable);
        let path = address.strip_prefix("unix://").expect("a unix socket").into();
        let options = BuildKitOptions { threads: NonZeroUsize::MIN, keychain: Keychain::default() };
        let engine = buildkit::BuildKit::new(Arc::new(Unix { path }), store.clone(), options);
        Node::new(variable, Arc::new(engine), Vec::new())
    });
    let fleet = Fleet::new(nodes.into());
    for (platform, machine) in [(Platform::LINUX_AMD64, "x86_64"), (Platform::LINUX_ARM64, "aarch64")] {
        let path = |name: &str| cli.scratch().join(format!("{name}-{machine}"));
        let output = format!("type=oci,dest={}", path("layout").display());
        let base = cli.run(["base/debian", "--json", "--platform", &platform.to_string(), "-o", &output]);
        let digest = Built::of(base).digest.parse().expect("a digest");
        let graph = Graph::new(platform);
        let base = graph.oci_layout("base", digest, None);
        let step = graph.exec(Exec::on(&base, ["/bin/sh", "-ec", "mkdir /out; uname -m | tee /out/machine"]));
        let head = graph.file(File::on(Tree::Scratch).copy(step.rootfs(), "/out/machine", "/machine"));
        let request = SolveRequest {
            definition: Arc::new(graph.definition(&head).expect("a graph")),
            platform,
            contexts: BTreeMap::new(),
            layouts: BTreeMap::from([("base".to_owned(), Layout::Directory(path("layout")))]),
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            output: engine::Output::Files(FilesOutput::Directory(path("out"))),
            no_cache: false,
            source_date_epoch: None,
        };
        let solving = fleet.solve(request, Progress::none(), CancellationToken::new());
        runtime.block_on(solving).unwrap_or_else(|error| panic!("{platform}: {:#?}", error.diagnostic()));
        assert_eq!(fs::read_to_string(path("out").join("machine")).expect("the step wrote it").trim(), machine);
    }
}

/// The row of a check, as `doctor --json` prints them.
fn row(output: &Output, check: &str) -> serde_json::Value {
    let rows = output.json();
    let rows = rows.as_array().expect("rows");
    rows.iter().find(|row| row["check"] == check).unwrap_or_else(|| panic!("no `{check}`: {rows:#?}")).clone()
}

fn doctor() {
    let docker = support::Docker::new();
    let cli = Cli::new(PROGRAM).with_variable("DOCKER_HOST", docker.host());
    let (here, other) = (node("CLAWBUILD_TEST_BUILDKIT"), node("CLAWBUILD_TEST_BUILDKIT_OTHER"));
    let output = cli.run(["doctor", "--json", "--builder", &here, "--builder", &other]).success();
    let version = docker.run(["version", "--format", "{{.Server.Version}}"]);
    let daemon = row(&output, "docker");
    assert_eq!(daemon["address"], docker.host());
    let said = daemon["version"].as_str().expect("a version");
    assert!(said.starts_with(&format!("Docker {},", version.text())), "{said}");
    for (address, platform) in [(&here, "linux/amd64"), (&other, "linux/arm64")] {
        let builder = row(&output, &format!("builder {address}"));
        assert_eq!(builder["state"], "ok", "{builder:#}");
        assert_eq!(builder["platforms"][0], platform, "{builder:#}");
        let said = builder["version"].as_str().expect("a version");
        assert!(said.starts_with("BuildKit v"), "{said}");
    }
    // The one chosen with `docker buildx use`, of nodes that are not there.
    let buildx = cli.home().join("buildx");
    fs::create_dir_all(buildx.join("instances")).expect("the home is writable");
    let node = r#"{"Name":"ci0","Endpoint":"tcp://127.0.0.1:1","Platforms":null,"DriverOpts":null,"Flags":null}"#;
    let instance = format!(r#"{{"Name":"ci","Driver":"remote","Nodes":[{node}],"Dynamic":false}}"#);
    fs::write(buildx.join("instances/ci"), instance).expect("the home is writable");
    let current = format!(r#"{{"Key":"{}","Name":"ci","Global":false}}"#, docker.host());
    fs::write(buildx.join("current"), current).expect("the home is writable");
    let cli = cli.with_variable("BUILDX_CONFIG", &buildx);
    let builder = row(&cli.run(["doctor", "--json"]).success(), "builder ci0");
    assert_eq!((&builder["state"], &builder["address"]), (&"limited".into(), &"tcp://127.0.0.1:1".into()));
    // Asked for, it is missed.
    let builder = row(&cli.run(["doctor", "--json", "--builder", "ci"]).exits(3), "builder ci0");
    assert_eq!(builder["state"], "missing", "{builder:#}");
    assert!(!cli.store().join("format").exists(), "nothing is made");
}

fn images_that_do_not_fit() {
    let cli = project();
    let registry = support::Registry::anonymous();
    let repository = registry.repository("one");
    let file = build_apart(&cli, "linux/amd64", &repository);
    let text = fs::read_to_string(cli.directory().join(&file)).expect("the file was written");
    let elsewhere = text.replace(&repository, &registry.repository("two"));
    fs::write(cli.directory().join("elsewhere.json"), elsewhere).expect("writable");
    let output = cli.run(["merge", &file, "elsewhere.json"]);
    assert_eq!(output.status, Some(1));
    assert!(output.stderr.contains("were not pushed to one repository"), "{}", output.stderr);
    fs::write(cli.directory().join("none.json"), "{}").expect("writable");
    let output = cli.run(["merge", "none.json"]);
    assert!(output.stderr.contains("is no metadata file"), "{}", output.stderr);
}
