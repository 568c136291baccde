//! Profiles and agents of a small recipe: what images share, what is pushed, and what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitCode;
use std::sync::OnceLock;

use support::Capability::{Archive, BuildKit, Docker, Network, Overlay, Registry, Root};
use support::{Capability, Cli, Output, Suite};

const PROGRAM: &str = env!("CARGO_BIN_EXE_clawbuild");

/// What every build here needs.
const BUILD: &[Capability] = &[Root, Overlay, Archive, Network];

fn main() -> ExitCode {
    Suite::new()
        .test("images share the layers of what they stand on", BUILD, layers_are_shared)
        .test("images are called as the recipe says", BUILD, names)
        .test("the same images on BuildKit", &[Root, Overlay, Archive, Network, BuildKit], the_same_on_buildkit)
        .test("agents are pushed as a config and a layer each", &[Root, Overlay, Archive, Network, Registry], pushed)
        .test("an agent of several processes runs", &[Root, Overlay, Archive, Network, Docker], several_processes_run)
        .run()
}

const RECIPE: &str = r#"schema = 1

[runtime]
name = "sample"
summary = "A program of a line"
license = "MIT"

[source]
path = "."

[build]
language = "custom"

[image]
base = "debian"
user = { name = "app", uid = 1000 }
command = ["/bin/sh", "-c", "cat /home/app/data/sample.json; : >/tmp/ready; sleep 2; echo the end"]
volumes = ["/home/app/data"]

[health]
exec = ["/bin/sh", "-c", "test -e /tmp/ready"]

[config]
file = "sample.json5"
path = "/home/app/data/sample.json"
format = "json5"

[config.members]
table = "agents"
deny = "tools.deny"

[profiles.tools]
summary = "With a tool"
packages = ["tree"]
env = { TOOLS = "1" }

[agents.pair]
summary = "Two agents, and a companion"
profile = "tools"
files = [{ from = "workspace", to = "/home/app/data/workspace" }]
settings = { port = 7 }
members = [{ id = "main", tools = { deny = ["write"] } }, { id = "helper" }]
after = ["setup"]

[agents.pair.processes.setup]
command = ["/bin/sh", "-c", "echo set up"]
restart = "never"
ready = "completed"

[agents.pair.processes.companion]
command = ["/bin/sh", "-c", "test -e /tmp/ready && echo $MINE $TOOLS; tree -i --noreport /home/app/data/workspace; exec sleep 60"]
env = { MINE = "mine" }
after = ["sample"]
"#;

/// The project, with as many further agents in files of their own; the lock of the first build for everyone.
fn project(agents: usize) -> Cli {
    static LOCK: OnceLock<Vec<u8>> = OnceLock::new();
    let lock = LOCK.get_or_init(|| {
        let cli = written(0);
        cli.run(["./recipe.toml@pair"]).success();
        fs::read(cli.directory().join("clawbuild.lock")).expect("the build wrote the lock")
    });
    let cli = written(agents);
    fs::write(cli.directory().join("clawbuild.lock"), lock).expect("the working directory is writable");
    cli
}

fn written(agents: usize) -> Cli {
    let cli = Cli::new(PROGRAM).with_shared_store();
    let write = |name: String, text: String| {
        let path = cli.directory().join(name);
        fs::create_dir_all(path.parent().expect("it lies in a directory")).expect("the working directory is writable");
        fs::write(path, text).expect("the working directory is writable");
    };
    write("recipe.toml".to_owned(), RECIPE.to_owned());
    write("sample.json5".to_owned(), "{\n  port: 1, // kept\n}\n".to_owned());
    write("workspace/AGENTS.md".to_owned(), "# Agents\n".to_owned());
    for number in 0..agents {
        let text = format!(
            "schema = 1\nsummary = \"Agent {number}\"\nprofile = \"tools\"\nsettings = {{ port = {} }}\n",
            100 + number
        );
        write(format!("agents/a{number}.toml"), text);
    }
    cli
}

/// One image that was built.
#[derive(Debug, PartialEq)]
struct Image {
    manifest: String,
    config: String,
    layers: Vec<String>,
}

/// The images of a build, by target.
#[track_caller]
fn images(output: Output) -> BTreeMap<String, Image> {
    let json = output.success().json();
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let products = json.as_array().expect("an array of targets").iter().map(|product| {
        let image = &product["images"][0];
        let layers = image["layers"].as_array().expect("layers").iter().map(|layer| text(&layer["digest"])).collect();
        let image = Image { manifest: text(&image["manifest"]["digest"]), config: text(&image["config"]), layers };
        (text(&product["target"]), image)
    });
    products.collect()
}

const ALL: [&str; 4] = ["./recipe.toml", "./recipe.toml:*", "./recipe.toml@*", "--json"];

fn layers_are_shared() {
    let images = images(project(2).run(ALL));
    assert_eq!(
        images.keys().map(String::as_str).collect::<Vec<_>>(),
        ["sample", "sample:tools", "sample@a0", "sample@a1", "sample@pair"]
    );
    let (runtime, tools) = (&images["sample"].layers, &images["sample:tools"].layers);
    // The packages, and what names the profile.
    assert!(tools.starts_with(runtime) && tools.len() == runtime.len() + 2, "{images:#?}");
    for agent in ["sample@a0", "sample@a1", "sample@pair"] {
        let layers = &images[agent].layers;
        assert!(layers.starts_with(tools) && layers.len() == tools.len() + 1, "{agent} adds one layer: {images:#?}");
    }
    assert_ne!(images["sample@a0"].layers, images["sample@a1"].layers);
}

fn names() {
    let cli = project(0);
    let references = |naming: &str| -> Vec<String> {
        let image = format!("[image]\nrepository = \"ghcr.io/you/sample\"\nnaming = \"{naming}\"\n");
        fs::write(cli.directory().join("recipe.toml"), RECIPE.replace("[image]\n", &image)).expect("it is writable");
        let json = cli.run(ALL).success().json();
        let products = json.as_array().expect("an array of targets").iter();
        products.map(|product| product["references"][0].as_str().expect("text").to_owned()).collect()
    };
    let expected = ["sample", "sample-tools", "sample-pair"].map(|name| format!("ghcr.io/you/{name}:0.0.0"));
    assert_eq!(references("plain"), expected);
    let expected = ["base", "tools", "pair"].map(|name| format!("ghcr.io/you/sample-agent-{name}:0.0.0"));
    assert_eq!(references("agent"), expected);
}

fn the_same_on_buildkit() {
    let cli = project(1);
    let expected = images(cli.run(ALL));
    let address = support::BuildKit::new().address().to_owned();
    assert_eq!(images(cli.run(ALL.into_iter().chain(["--builder", &address]))), expected);
}

fn pushed() {
    let count = if std::env::var_os("CLAWBUILD_TEST_SOAK").is_some() { 100 } else { 20 };
    let cli = project(count);
    let registry = support::Registry::anonymous();
    let repository = registry.repository("tiers");
    let push = |targets: [&str; 1]| {
        images(cli.run(targets.into_iter().chain(["--json", "--push", "--repository", &repository])))
    };
    let profile = push(["./recipe.toml:tools"]).remove("sample:tools").expect("it was built");
    let below: BTreeSet<&String> = profile.layers.iter().collect();
    let before = uploads(&registry, &repository);
    assert_eq!(before.len(), below.len() + 1, "the profile's layers and its config: {before:#?}");
    let agents = push(["./recipe.toml@*"]);
    assert_eq!(agents.len(), count + 1);
    let mut own: Vec<String> = agents.values().map(|image| image.config.clone()).collect();
    own.extend(agents.values().flat_map(|image| &image.layers).filter(|layer| !below.contains(layer)).cloned());
    own.sort();
    let mut sent = uploads(&registry, &repository).split_off(before.len());
    sent.sort();
    assert_eq!(sent, own, "a config and a layer of each agent, and nothing else");
    assert_eq!(own.len(), 2 * agents.len());
}

/// The blobs whose bytes were sent to a repository or one whose name it begins, in order.
fn uploads(registry: &support::Registry, repository: &str) -> Vec<String> {
    let name = repository.split_once('/').expect("a repository has a host").1;
    let log = fs::read_to_string(registry.log()).expect("the registry writes a log");
    let blob = |line: &str| {
        let (_, request) = line.split_once(&format!("\"PUT /v2/{name}"))?;
        let (_, digest) = request.split_once("digest=sha256%3A").or_else(|| request.split_once("digest=sha256:"))?;
        request.contains("/blobs/uploads/").then(|| format!("sha256:{}", &digest[..64]))
    };
    log.lines().filter_map(blob).collect()
}

fn several_processes_run() {
    let cli = project(0);
    cli.run(["./recipe.toml@pair", "--output", "type=docker,dest=pair.tar"]).success();
    let docker = support::Docker::new();
    let archive = cli.directory().join("pair.tar");
    docker.run(["load", "--input", archive.to_str().expect("UTF-8")]);
    let output = docker.run([
        "run",
        "--rm",
        "--network",
        "none",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--volume",
        "/home/app/data",
        "sample-pair:0.0.0",
    ]);
    let lines: Vec<&str> = output.stdout.lines().collect();
    // In this order: each process waits for the one before.
    let expected = [
        "[setup] set up",
        "[sample]   port: 7, // kept",
        "[companion] mine 1",
        "[companion] /home/app/data/workspace",
        "[companion] AGENTS.md",
        "[sample] the end",
    ];
    let mut rest = lines.iter();
    for line in expected {
        assert!(rest.any(|other| *other == line), "`{line}` is missing or too early: {lines:#?}\n{}", output.stderr);
    }
    let members = r#"[sample]   agents: { main: {"tools": {"deny": ["write"]}}, helper: {} },"#;
    assert!(lines.contains(&members), "{lines:#?}");
}
