//! clawbuild as a BuildKit frontend: a real daemon runs its image, and what comes out is what clawbuild itself makes.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use serde_json::Value;
use support::Capability::{Archive, BuildKit, Buildx, Docker, Git, Network, Overlay, Registry, Root};
use support::{Built, Capability, Cli, Output, Suite, ThreeStages};

const PROGRAM: &str = env!("CARGO_BIN_EXE_clawbuild");

const FRONTEND: &[Capability] = &[Root, Overlay, Archive, Network, Registry, BuildKit];
const BUILDX: &[Capability] = &[Root, Overlay, Archive, Network, Registry, BuildKit, Buildx];
const GIT: &[Capability] = &[Root, Overlay, Archive, Network, Registry, BuildKit, Git];

fn main() -> ExitCode {
    Suite::new()
        .test("the image is the one the embedded engine makes", FRONTEND, same_image)
        .test("the first line of a recipe names the frontend", FRONTEND, syntax_line)
        .test("two platforms in one solve", FRONTEND, two_platforms)
        .test("a recipe below the context, its source elsewhere", FRONTEND, recipe_below_the_context)
        .test("bases given by name", FRONTEND, bases_by_name)
        .test("bases out of OCI layouts", FRONTEND, bases_in_layouts)
        .test("a git repository as the context", GIT, git_context)
        .test("one stage of it", FRONTEND, one_stage)
        .test("an agent on a profile", FRONTEND, agent_on_a_profile)
        .test("mistakes show the recipe's lines", FRONTEND, mistakes)
        .test("a failing step shows the recipe's lines", FRONTEND, failing_step)
        .test("what was published is recorded once, and outdated when the lock moves on", FRONTEND, published)
        .test("a bake definition is one to buildx", BUILDX, bake)
        .test("openclaw, as docker buildx builds it", BUILDX, openclaw)
        .test("options without effect are warned of", BUILDX, warnings)
        .test("Docker 20.10 builds by it too", &[Root, Overlay, Archive, Network, Registry, Docker], old_docker)
        .run()
}

/// What every test here starts from: the frontend in a registry, a lock, and the bases of the project published.
struct Prepared {
    frontend: String,
    lock: Vec<u8>,
}

fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let cli = Cli::new(PROGRAM).with_shared_store();
        ThreeStages::write(cli.directory());
        let registry = support::Registry::anonymous();
        let frontend = format!("{}:test", registry.repository("frontend"));
        cli.run(["frontend-image", "--push", "-t", &frontend]).success();
        let repository = registry.repository("published");
        cli.run(["publish", "./recipe.toml", "--repository", &repository]).success();
        let lock = fs::read(cli.directory().join("clawbuild.lock")).expect("publishing wrote the lock");
        Prepared { frontend, lock }
    })
}

/// The project, locked and published, as a directory to be a build context.
fn project() -> Cli {
    let cli = Cli::new(PROGRAM).with_shared_store();
    ThreeStages::write(cli.directory());
    fs::write(cli.directory().join("clawbuild.lock"), &prepared().lock).expect("the working directory is writable");
    cli
}

/// What this machine is, and its buildkitd.
fn host() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}

fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(path).expect("the project has the file");
    fs::write(path, change(text)).expect("the project is writable");
}

/// `buildctl build` of the project by the frontend, as an OCI layout in `out`.
fn buildctl(cli: &Cli, options: &[&str]) -> Output {
    let source = format!("source={}", prepared().frontend);
    let output = format!("type=oci,tar=false,rewrite-timestamp=true,dest={}", cli.scratch().join("out").display());
    let common = ["build", "--progress=plain", "--frontend=gateway.v0", "--opt", &source];
    let place = ["--local", "context=.", "--local", "dockerfile=.", "--output", &output];
    let words = common.iter().chain(&place).chain(options).copied();
    support::BuildKit::new().buildctl(cli.directory(), words)
}

/// The one manifest of the layout in `out`, with its config.
fn layout(cli: &Cli) -> (Value, Value) {
    let out = cli.scratch().join("out");
    let index = json(&out.join("index.json"));
    let [manifest] = &**index["manifests"].as_array().expect("an index") else { panic!("not one image: {index}") };
    let manifest = blob(&out, &manifest["digest"]);
    let config = blob(&out, &manifest["config"]["digest"]);
    (manifest, config)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("the layout has the file")).expect("JSON")
}

fn blob(layout: &Path, digest: &Value) -> Value {
    let hex = digest.as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("a digest");
    json(&layout.join("blobs/sha256").join(hex))
}

/// The config of an image clawbuild built, out of its store.
fn own_config(cli: &Cli, built: &Built) -> Value {
    blob(cli.store(), &Value::from(built.config.as_str()))
}

fn same_image() {
    let cli = project();
    let built = Built::of(cli.run(["./recipe.toml", "--json"]));
    buildctl(&cli, &["--opt", "filename=recipe.toml"]).success();
    let (_, config) = layout(&cli);
    // History, labels, user, health check, layers: all of it.
    assert_eq!(config, own_config(&cli, &built));
}

fn syntax_line() {
    let cli = project();
    let built = Built::of(cli.run(["./recipe.toml", "--json"]));
    let recipe = cli.directory().join("recipe.toml");
    edit(&recipe, |text| format!("# syntax={}\n{text}", prepared().frontend));
    let output = format!("type=oci,tar=false,rewrite-timestamp=true,dest={}", cli.scratch().join("out").display());
    let words = ["build", "--frontend=dockerfile.v0", "--local", "context=.", "--local", "dockerfile=."];
    let words = words.into_iter().chain(["--opt", "filename=recipe.toml", "--output", &output]);
    support::BuildKit::new().buildctl(cli.directory(), words).success();
    assert_eq!(layout(&cli).1["rootfs"], own_config(&cli, &built)["rootfs"]);
}

fn two_platforms() {
    let cli = project();
    buildctl(&cli, &["--opt", "platform=linux/amd64,linux/arm64"]).success();
    let out = cli.scratch().join("out");
    let index = json(&out.join("index.json"));
    let index = blob(&out, &index["manifests"][0]["digest"]);
    let platforms: Vec<&Value> = index["manifests"]
        .as_array()
        .expect("an index")
        .iter()
        .map(|entry| &entry["platform"]["architecture"])
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    for (entry, platform) in index["manifests"].as_array().expect("an index").iter().zip(["linux/amd64", "linux/arm64"])
    {
        let built = Built::of(cli.run(["./recipe.toml", "--json", "--platform", platform]));
        let manifest = blob(&out, &entry["digest"]);
        assert_eq!(blob(&out, &manifest["config"]["digest"]), own_config(&cli, &built), "{platform}");
    }
}

fn recipe_below_the_context() {
    let cli = project();
    let root = cli.directory();
    fs::create_dir_all(root.join("runtimes/three-stages")).expect("the project is writable");
    fs::rename(root.join("recipe.toml"), root.join("runtimes/three-stages/recipe.toml")).expect("it is there");
    let recipe = root.join("runtimes/three-stages/recipe.toml");
    edit(&recipe, |text| text.replace(r#"path = "source""#, r#"path = "../../source""#));
    fs::write(root.join("source/.dockerignore"), "part-09\n").expect("the project is writable");
    let built = Built::of(cli.run(["three-stages", "--json"]));
    fs::copy(&recipe, root.join("runtimes/three-stages/agent.toml")).expect("the project is writable");
    let output = format!("type=oci,tar=false,rewrite-timestamp=true,dest={}", cli.scratch().join("out").display());
    let source = format!("source={}", prepared().frontend);
    let build = |options: &[&str]| {
        let words = ["build", "--frontend=gateway.v0", "--opt", &source, "--output", &output];
        support::BuildKit::new().buildctl(root, words.iter().chain(options)).success();
        assert_eq!(layout(&cli).1, own_config(&cli, &built));
        fs::remove_dir_all(cli.scratch().join("out")).expect("it was written");
    };
    // As docker and buildx do: the recipe's own directory, and nothing said of where it lies.
    let beside = ["--local", "context=.", "--local", "dockerfile=runtimes/three-stages", "--opt"];
    for name in ["filename=recipe.toml", "filename=agent.toml"] {
        build(&[&beside[..], &[name]].concat());
    }
    // As buildctl's users may.
    let path = "filename=runtimes/three-stages/recipe.toml";
    build(&["--local", "context=.", "--local", "dockerfile=.", "--opt", path]);
    // The source given by name, and nowhere in the context.
    fs::rename(root.join("source"), cli.scratch().join("elsewhere")).expect("they are on one filesystem");
    let elsewhere = format!("elsewhere={}", cli.scratch().join("elsewhere").display());
    let given = ["filename=recipe.toml", "--local", &elsewhere, "--opt", "context:source=local:elsewhere"];
    build(&[&beside[..], &given].concat());
}

/// A lock that knows of nothing published.
fn without_published(text: String) -> String {
    text.split("\n[[published]]").next().expect("a split has a first part").to_owned()
}

fn bases_by_name() {
    let cli = project();
    let built = Built::of(cli.run(["./recipe.toml", "--json"]));
    let lock = cli.directory().join("clawbuild.lock");
    let text = fs::read_to_string(&lock).expect("it was written");
    let published: Vec<(String, String)> = text
        .split("[[published]]")
        .skip(1)
        .filter(|entry| entry.contains(&format!("platform = \"{}\"", host())))
        .map(|entry| {
            let value = |key: &str| {
                let line = entry.lines().find(|line| line.starts_with(key)).expect("entries are complete");
                line.split('"').nth(1).expect("values are quoted").to_owned()
            };
            (value("owner"), value("reference"))
        })
        .collect();
    edit(&lock, without_published);
    let refused = buildctl(&cli, &[]).exits(1);
    assert!(refused.stderr.contains("lock/unpublished"), "{}", refused.stderr);
    let mut options = Vec::new();
    for (owner, reference) in &published {
        options.extend(["--opt".to_owned(), format!("context:{owner}=docker-image://{reference}")]);
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    buildctl(&cli, &options).success();
    assert_eq!(layout(&cli).1, own_config(&cli, &built));
}

fn bases_in_layouts() {
    let cli = project();
    let built = Built::of(cli.run(["./recipe.toml", "--json"]));
    edit(&cli.directory().join("clawbuild.lock"), without_published);
    let mut options = Vec::new();
    for base in ["debian", "init-toolchain"] {
        let layout = cli.scratch().join(base).display().to_string();
        let output = format!("type=oci,dest={layout}");
        let digest = Built::of(cli.run([&format!("base/{base}"), "--json", "-o", &output])).digest;
        options.extend(["--oci-layout".to_owned(), format!("{base}={layout}")]);
        options.extend(["--opt".to_owned(), format!("context:base/{base}=oci-layout://{base}@{digest}")]);
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    buildctl(&cli, &options).success();
    assert_eq!(layout(&cli).1, own_config(&cli, &built));
}

fn git_context() {
    let cli = project();
    let built = Built::of(cli.run(["./recipe.toml", "--json"]));
    let repository = cli.scratch().join("repositories/project");
    fs::create_dir_all(repository.parent().expect("it lies in a directory"))
        .expect("the scratch directory is writable");
    let (work, bare) = (cli.directory().display().to_string(), repository.display().to_string());
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=Tests", "-c", "user.email=tests@example.invalid"];
        support::run("git", identity.iter().chain(&["-C", &work]).chain(words))
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "recipe.toml", "clawbuild.lock", "source"]);
    git(&["commit", "--quiet", "--message", "all of it"]);
    git(&["clone", "--quiet", "--bare", &work, &bare]);
    let daemon = GitDaemon::serve(&repository);
    let source = format!("source={}", prepared().frontend);
    let context = format!("context=git://127.0.0.1:{}/project#main", daemon.port);
    let output = format!("type=oci,tar=false,rewrite-timestamp=true,dest={}", cli.scratch().join("out").display());
    let words = ["build", "--frontend=gateway.v0", "--opt", &source, "--opt", &context, "--output", &output];
    support::BuildKit::new().buildctl(cli.scratch(), words).success();
    assert_eq!(layout(&cli).1, own_config(&cli, &built));
}

/// Serves the repositories beside one on a port of loopback.
struct GitDaemon {
    process: std::process::Child,
    port: u16,
}

impl GitDaemon {
    fn serve(repository: &Path) -> Self {
        // git picks no port itself: one that was free a moment ago.
        let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let port = probe.local_addr().expect("it is bound").port();
        drop(probe);
        let directory = repository.parent().expect("it lies in a directory");
        // Not by `git daemon`, which would leave the daemon behind when it is killed.
        let program = support::run("git", ["--exec-path"]).text().to_owned();
        let mut command = std::process::Command::new(Path::new(&program).join("git-daemon"));
        command.args(["--export-all", "--reuseaddr", "--listen=127.0.0.1", &format!("--port={port}")]);
        command.arg(format!("--base-path={}", directory.display())).arg(directory);
        let process = command.spawn().expect("git has a daemon");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(std::time::Instant::now() < deadline, "git's daemon did not start");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Self { process, port }
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn one_stage() {
    let cli = project();
    let files = cli.scratch().join("files");
    let source = format!("source={}", prepared().frontend);
    let output = format!("type=local,dest={}", files.display());
    let words = ["build", "--frontend=gateway.v0", "--opt", &source, "--opt", "target=collect", "--no-cache"];
    let place = ["--local", "context=.", "--local", "dockerfile=.", "--output", &output];
    support::BuildKit::new().buildctl(cli.directory(), words.into_iter().chain(place)).success();
    assert!(files.join("all.txt").is_file() && !files.join("sum.txt").exists());
}

/// The image of an agent in a file of its own, with its settings in the configuration and a profile's packages below.
fn agent_on_a_profile() {
    let cli = project();
    let tiers = "[config]\nfile = \"sample.json\"\npath = \"/tmp/sample.json\"\nformat = \"json\"\n\
                 [profiles.tools]\nsummary = \"With a tool\"\npackages = [\"tree\"]\n";
    edit(&cli.directory().join("recipe.toml"), |text| format!("{text}\n{tiers}"));
    fs::write(cli.directory().join("sample.json"), "{ \"port\": 1 }\n").expect("the project is writable");
    fs::create_dir(cli.directory().join("agents")).expect("the project is writable");
    let agent = "schema = 1\nsummary = \"An agent\"\nprofile = \"tools\"\nsettings = { port = 2 }\n";
    fs::write(cli.directory().join("agents/main.toml"), agent).expect("the project is writable");
    let repository = support::Registry::anonymous().repository("tiers");
    cli.run(["publish", "./recipe.toml@main", "--repository", &repository]).success();
    let built = Built::of(cli.run(["./recipe.toml@main", "--json"]));
    buildctl(&cli, &["--opt", "filename=recipe.toml", "--opt", "target=@main"]).success();
    assert_eq!(layout(&cli).1, own_config(&cli, &built));
    let unknown = buildctl(&cli, &["--opt", "filename=recipe.toml", "--opt", "target=@mian"]);
    assert_ne!(unknown.status, Some(0));
    assert!(unknown.stderr.contains("did you mean `three-stages@main`?"), "{}", unknown.stderr);
}

fn mistakes() {
    let cli = project();
    let recipe = cli.directory().join("recipe.toml");
    let good = fs::read_to_string(&recipe).expect("the project has a recipe");
    let lock = fs::read(cli.directory().join("clawbuild.lock")).expect("the project has a lock");
    let refused = |options: &[&str], texts: &[&str]| {
        let output = buildctl(&cli, options).exits(1);
        for text in texts {
            assert!(output.stderr.contains(text), "no `{text}` in\n{}", output.stderr);
        }
    };
    fs::write(&recipe, good.replace("summary =", "sumary =")).expect("the project is writable");
    refused(&[], &["recipe.toml:5", ">>> sumary = ", "did you mean `summary`?", "recipe/unknown-key"]);
    fs::write(
        &recipe,
        good.replace(
            r#"base = "debian""#,
            r#"base = "debian""#.to_owned().as_str().replace("debian", "debina").as_str(),
        ),
    )
    .expect("the project is writable");
    refused(&[], &[">>> base = \"debina\"", "recipe/unknown-base"]);
    fs::write(&recipe, good.replace("[image]\n", "[image]\npackages = [\"curl\"]\n")).expect("the project is writable");
    refused(&[], &[">>> packages = [\"curl\"]", "lock/stale", "clawbuild lock"]);
    fs::write(&recipe, &good).expect("the project is writable");
    refused(&["--opt", "filename=other.toml"], &["there is no recipe `other.toml`", "frontend/context"]);
    refused(&["--opt", "platform=linux/riscv64"], &["is not built for linux/riscv64", "frontend/option"]);
    refused(&["--opt", "target=colect"], &["did you mean `collect`?"]);
    refused(&["--opt", "context:base/debia=docker-image://x"], &["did you mean `base/debian`?"]);
    refused(&["--opt", "build-arg:SOURCE_DATE_EPOCH=now"], &["is no number of seconds since 1970"]);
    refused(&["--opt", "requestid=frontend.outline"], &["frontend.outline"]);
    fs::remove_file(cli.directory().join("clawbuild.lock")).expect("the project had one");
    refused(&[], &["lock/missing", ">>> name = \"three-stages\""]);
    fs::write(cli.directory().join("clawbuild.lock"), lock).expect("the project is writable");
    buildctl(&cli, &[]).success();
}

fn failing_step() {
    let cli = project();
    edit(&cli.directory().join("recipe.toml"), |text| text.replace("sha256sum /all.txt", "echo broken >&2; exit 7"));
    let output = buildctl(&cli, &[]).exits(1);
    for text in ["broken", "recipe.toml:", ">>>   { run = ", "exit code: 7"] {
        assert!(output.stderr.contains(text), "no `{text}` in\n{}", output.stderr);
    }
}

fn published() {
    let cli = project();
    let registry = support::Registry::anonymous();
    let lock = cli.directory().join("clawbuild.lock");
    let before = fs::read_to_string(&lock).expect("the project has a lock");
    // What is recorded and pushed again as it is changes nothing, also where nothing may change.
    let repository = before.lines().find_map(|line| line.strip_prefix("reference = \"")?.split("/base/").next());
    let repository = repository.expect("bases are published").to_owned();
    cli.run(["publish", "./recipe.toml", "--locked", "--repository", &repository]).success();
    assert_eq!(fs::read_to_string(&lock).expect("it is still there"), before);
    let other = registry.repository("elsewhere");
    let refused = cli.run(["publish", "./recipe.toml", "--locked", "--repository", &other]).exits(4);
    assert!(refused.stderr.contains("lock/unpublished"), "{}", refused.stderr);
    let log = fs::read_to_string(registry.log()).expect("the registry writes a log");
    let name = other.split_once('/').expect("a repository has a host").1;
    assert!(!log.contains(name), "nothing is pushed that the lock may not name");
    assert_eq!(fs::read_to_string(&lock).expect("it is still there"), before);
    // A base that is pushed by itself is recorded too.
    cli.run(["base/debian", "--push", "--repository", &other]).success();
    let after = fs::read_to_string(&lock).expect("it is still there");
    assert!(after.contains(&format!("reference = \"{other}@sha256:")), "{after}");
    // A package of a base moved on: what is published is another base.
    let digest = after.split("sha256:").nth(1).expect("packages are pinned").split('"').next().expect("quoted");
    edit(&lock, |text| text.replacen(digest, &"0".repeat(64), 1));
    let refused = buildctl(&cli, &[]).exits(1);
    assert!(refused.stderr.contains("is out of date"), "{}", refused.stderr);
}

fn bake() {
    let cli = project();
    let registry = support::Registry::anonymous();
    edit(&cli.directory().join("recipe.toml"), |text| {
        text.replace("[image]\n", &format!("[image]\nrepository = \"{}\"\n", registry.repository("baked")))
    });
    let refused = cli.run(["graph", "./recipe.toml", "--format", "bake"]).exits(2);
    assert!(refused.stderr.contains("--frontend"), "{}", refused.stderr);
    let printed = cli.run(["graph", "./recipe.toml", "--format", "bake", "--frontend", &prepared().frontend]).success();
    fs::write(cli.directory().join("docker-bake.json"), &printed.stdout).expect("the project is writable");
    let target = &printed.json()["target"]["three-stages"];
    let tag = target["tags"][0].as_str().expect("a tag").to_owned();
    buildx(&cli, &["bake", "--push", "--set", &format!("*.platform={}", host())]).success();
    let built = Built::of(cli.run(["./recipe.toml", "--json"]));
    let config = support::run("crane", ["config", "--insecure", &tag]).json();
    assert_eq!(config, own_config(&cli, &built));
}

/// A command of buildx in the project's directory.
fn buildx(cli: &Cli, words: &[&str]) -> Output {
    let configuration = cli.scratch().join("buildx");
    fs::create_dir_all(&configuration).expect("the scratch directory is writable");
    support::BuildKit::new().buildx(&configuration, cli.directory(), words)
}

fn openclaw() {
    let cli = Cli::new(PROGRAM).with_shared_store();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in ["base", "runtimes", "clawbuild.lock"] {
        support::run("cp", [Path::new("-r"), &root.join(part), cli.directory()]);
    }
    let repository = support::Registry::anonymous().repository("openclaw");
    cli.run(["publish", "openclaw", "--repository", &repository]).success();
    let recipe = "runtimes/openclaw/recipe.toml";
    edit(&cli.directory().join(recipe), |text| format!("# syntax={}\n{text}", prepared().frontend));
    let output = format!("type=oci,tar=false,rewrite-timestamp=true,dest={}", cli.scratch().join("out").display());
    let mut words = vec!["build", "--provenance=false", "-f", recipe, "--output", &output];
    // Behind a proxy that intercepts TLS, steps with network have to be told of its authority.
    let authority = std::env::var("SSL_CERT_FILE").map(|file| format!("id=clawbuild.ca,src={file}"));
    words.extend(authority.iter().flat_map(|secret| ["--secret", secret.as_str()]));
    buildx(&cli, &[&words[..], &["."]].concat()).success();
    let built = Built::of(cli.run(["openclaw", "--json"]));
    assert_eq!(layout(&cli).1, own_config(&cli, &built));
}

fn warnings() {
    let cli = project();
    edit(&cli.directory().join("recipe.toml"), |text| format!("# syntax={}\n{text}", prepared().frontend));
    let words = ["build", "--progress=plain", "--build-arg=VERSION=2", "--label=a=b", "-f", "recipe.toml", "."];
    let output = buildx(&cli, &words).success();
    assert!(output.stderr.contains("`build-arg:VERSION` has no effect"), "{}", output.stderr);
}

fn old_docker() {
    let cli = project();
    edit(&cli.directory().join("recipe.toml"), |text| format!("# syntax={}\n{text}", prepared().frontend));
    let built = Built::of(cli.run(["./recipe.toml", "--json"]));
    let docker = support::Docker::new();
    let directory = cli.directory().display().to_string();
    let recipe = format!("{directory}/recipe.toml");
    docker.run(["build", "--quiet", "--tag", "frontend-test", "--file", &recipe, &directory]);
    let inspected = docker.run(["image", "inspect", "frontend-test"]).json();
    let own = own_config(&cli, &built);
    assert_eq!(inspected[0]["Config"]["Entrypoint"], own["config"]["Entrypoint"]);
    assert_eq!(inspected[0]["Config"]["User"], own["config"]["User"]);
    docker.run(["image", "rm", "frontend-test"]);
}
