//! The main job: `clawbuild openclaw`, and what its image does when it is run.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::Capability::{Archive, Docker, Network, Overlay, Root, Runc, Umoci};
use support::{Built, Capability, Cli, Suite, run};

const PROGRAM: &str = env!("CARGO_BIN_EXE_clawbuild");

const BUILD: &[Capability] = &[Root, Overlay, Archive, Network];

fn main() -> ExitCode {
    Suite::new()
        .test("keeps the conventions of images", BUILD, conventions)
        .test("holds no secret and nothing of this machine", BUILD, holds_nothing_of_this_machine)
        .test("docker runs it read-only until told to stop", &[Root, Overlay, Archive, Network, Docker], docker_runs_it)
        .test(
            "runc runs it read-only until told to stop",
            &[Root, Overlay, Archive, Network, Umoci, Runc],
            runc_runs_it,
        )
        .test("keeps the boot contract", BUILD, keeps_the_boot_contract)
        .test("the graph is printed without building", BUILD, the_graph_is_printed)
        .run()
}

/// The image, built once in a directory that holds nothing: recipe, bases and lock are the program's own.
struct Image {
    cli: Cli,
    built: Built,
}

fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let cli = Cli::new(PROGRAM).with_shared_store();
        let outputs = ["--output", "type=oci,dest=layout", "--output", "type=docker,dest=docker.tar"];
        let built = Built::of(cli.run(["openclaw", "--json"].into_iter().chain(outputs)));
        Image { cli, built }
    })
}

impl Image {
    fn path(&self, name: &str) -> String {
        self.cli.directory().join(name).display().to_string()
    }

    fn reference(&self) -> &str {
        self.built.references.first().expect("an image has a name")
    }

    fn tag(&self) -> &str {
        self.reference().rsplit_once(':').expect("the name has a tag").1
    }

    /// The image config as it is: tools that print it leave out what OCI's own schema does not name, such as the
    /// health check.
    fn config(&self) -> Value {
        let digest = self.built.config.strip_prefix("sha256:").expect("a SHA-256 digest");
        let text = fs::read(self.path(&format!("layout/blobs/sha256/{digest}"))).expect("the layout holds the config");
        serde_json::from_slice(&text).expect("it is JSON")
    }
}

fn conventions() {
    let config = image().config();
    let inner = &config["config"];
    assert_eq!(inner["User"], "1000:1000", "a numeric user who is not root");
    assert_eq!(inner["Entrypoint"].as_array().map(Vec::len), Some(1), "{inner}");
    assert!(inner["Healthcheck"]["Test"].is_array(), "{inner}");
    assert!(inner["ExposedPorts"]["18789/tcp"].is_object(), "{inner}");
    assert!(inner["Volumes"]["/home/node/.openclaw"].is_object(), "{inner}");
    for label in ["title", "description", "licenses", "version", "url", "base.name", "base.digest"] {
        let label = format!("org.opencontainers.image.{label}");
        assert!(
            inner["Labels"][&label].as_str().is_some_and(|value| !value.is_empty()),
            "{label}: {}",
            inner["Labels"]
        );
    }
    let layers = config["rootfs"]["diff_ids"].as_array().expect("diff IDs").len();
    let not_empty = |entry: &&Value| entry["empty_layer"] != true;
    assert_eq!(config["history"].as_array().expect("history").iter().filter(not_empty).count(), layers);
}

fn holds_nothing_of_this_machine() {
    let image = image();
    image.cli.run(["openclaw", "--output", "type=local,dest=files"]).success();
    let files = image.path("files");
    let mut suspicious = vec![image.cli.scratch().display().to_string(), image.cli.store().display().to_string()];
    suspicious.extend(
        fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned()).filter(|name| name.len() > 8),
    );
    for word in suspicious {
        let found = support::Output::of(std::process::Command::new("grep").args(["-rlaF", "--", &word, &files]));
        assert_eq!(found.text(), "", "`{word}` is in the image");
    }
    for absent in ["etc/resolv.conf", "run/clawbuild", "var/lib/apt/lists", "root/.npm", "root/.cache"] {
        let path = Path::new(&files).join(absent);
        let empty = fs::metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0);
        assert!(empty || !path.exists(), "{absent} was left in the image");
    }
    assert!(fs::metadata(Path::new(&files).join("var/lib/dpkg/status")).is_ok(), "scanners need to see the packages");
}

/// How long the gateway may take to become healthy on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

fn docker_runs_it() {
    let image = image();
    let docker = support::Docker::new();
    docker.run(["load", "--input", &image.path("docker.tar")]);
    assert_eq!(docker.run(["image", "inspect", "--format", "{{.Id}}", image.reference()]).text(), image.built.config);
    let options = ["run", "--detach", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"];
    let settings = ["--security-opt", "no-new-privileges", "--env", "OPENCLAW_GATEWAY_TOKEN=tests"];
    let container = docker.run(options.iter().chain(&settings).chain(&[image.reference()])).text().to_owned();
    let state =
        |field: &str| docker.run(["inspect", "--format", &format!("{{{{{field}}}}}"), &container]).text().to_owned();
    let logs = || docker.run(["logs", &container]);
    wait(
        || state(".State.Health.Status") == "healthy",
        || {
            let logs = logs();
            format!(
                "{}\n{}\n{}",
                docker.run(["inspect", "--format", "{{json .State}}", &container]).stdout,
                logs.stdout,
                logs.stderr
            )
        },
    );
    assert_eq!(docker.run(["exec", &container, "cat", "/proc/1/comm"]).text(), "claw-init");
    let answer = docker.run(["exec", &container, "curl", "-sf", "http://127.0.0.1:18789/healthz"]);
    assert!(!answer.text().is_empty());
    assert_ne!(logs().stdout.len() + logs().stderr.len(), 0, "a container logs to its standard streams");
    let asked = Instant::now();
    docker.run(["stop", "--time", "60", &container]);
    assert!(asked.elapsed() < Duration::from_secs(45), "it took {:?} to stop", asked.elapsed());
    let status = state(".State.ExitCode");
    assert!(["0", "143"].contains(&status.as_str()), "it ended with {status}\n{}", logs().stderr);
    docker.run(["rm", "--volumes", &container]);
}

fn runc_runs_it() {
    let image = image();
    let bundle = image.path("bundle");
    run("umoci", ["unpack", "--image", &format!("{}:{}", image.path("layout"), image.tag()), &bundle]);
    let file = format!("{bundle}/config.json");
    let text = fs::read_to_string(&file).expect("umoci wrote it");
    let mut config: Value = serde_json::from_str(&text).expect("it is JSON");
    config["root"]["readonly"] = true.into();
    config["process"]["terminal"] = false.into();
    config["process"]["env"].as_array_mut().expect("an array").push("OPENCLAW_GATEWAY_TOKEN=tests".into());
    let mounts = config["mounts"].as_array_mut().expect("an array");
    mounts.retain(|mount| !["/tmp", "/home/node/.openclaw"].iter().any(|path| mount["destination"] == *path));
    for (path, options) in [("/tmp", "mode=1777"), ("/home/node/.openclaw", "uid=1000,gid=1000,mode=0700")] {
        let options: Vec<&str> = ["nosuid", "nodev"].into_iter().chain(options.split(',')).collect();
        mounts.push(serde_json::json!({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options}));
    }
    fs::write(&file, config.to_string()).expect("the bundle is writable");

    let root = image.path("runc");
    let id = format!("clawbuild-test-{}", std::process::id());
    let log = fs::File::create(image.path("runc.log")).expect("the directory is writable");
    let mut container = std::process::Command::new(support::tool("runc"))
        .args(["--root", &root, "run", "--bundle", &bundle, &id])
        .stdout(log.try_clone().expect("a file can be opened twice"))
        .stderr(log)
        .spawn()
        .expect("runc starts");
    let runc = |arguments: &[&str]| {
        support::Output::of(std::process::Command::new(support::tool("runc")).args(["--root", &root]).args(arguments))
    };
    let probe = ["exec", &id, "curl", "-sf", "http://127.0.0.1:18789/healthz"];
    wait(|| runc(&probe).status == Some(0), || fs::read_to_string(image.path("runc.log")).unwrap_or_default());
    let asked = Instant::now();
    runc(&["kill", &id, "TERM"]).success();
    let status = container.wait().expect("it is our own child");
    assert!(asked.elapsed() < Duration::from_secs(45), "it took {:?} to stop", asked.elapsed());
    assert!([Some(0), Some(143)].contains(&status.code()), "it ended with {status}");
}

/// Waits until it is so.
fn wait(is_so: impl Fn() -> bool, explain: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "still not so after {PATIENCE:?}:\n{}", explain());
        thread::sleep(Duration::from_millis(250));
    }
}

fn keeps_the_boot_contract() {
    let cli = &image().cli;
    let reports = cli.run(["test", "openclaw", "--json"]).success().json();
    let points = reports[0]["points"].as_array().expect("every point");
    assert!(points.len() >= 9 && points.iter().all(|point| point["outcome"] == "passed"), "{reports:#}");
    cli.run(["check", "openclaw"]).success();
}

fn the_graph_is_printed() {
    let image = image();
    let graph = |format: &str| image.cli.run(["graph", "openclaw", "--format", format]).success().stdout;
    assert!(graph("text").contains("openclaw"));
    assert!(graph("dot").starts_with("digraph"));
    assert!(graph("mermaid").starts_with("graph") || graph("mermaid").starts_with("flowchart"));
    assert!(graph("dockerfile").contains("\nFROM ") || graph("dockerfile").starts_with("FROM "));
    let json = graph("json");
    assert!(json.lines().count() > 5 && json.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{json}");
}
