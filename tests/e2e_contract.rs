//! `clawbuild test` and `clawbuild check`: a small server that keeps the boot contract and every convention, and others
//! that each break one.

use std::fs;
use std::process::ExitCode;

use serde_json::Value;
use support::Capability::{Archive, Docker, Emulation, Network, Overlay, Root, Userns};
use support::{Capability, Cli, Identity, Output, Suite};

const PROGRAM: &str = env!("CARGO_BIN_EXE_clawbuild");

const RUN: &[Capability] = &[Root, Overlay, Archive, Network];

const EMULATED: &[Capability] = &[Root, Overlay, Archive, Network, Userns, Emulation];

fn main() -> ExitCode {
    Suite::new()
        .test("a good server keeps every point", RUN, a_good_server)
        .test("a good server in docker", &[Root, Overlay, Archive, Network, Docker], a_good_server_in_docker)
        .test("an ordinary user can test", EMULATED, by_an_ordinary_user)
        .test("an image of another architecture is emulated", EMULATED, emulated)
        .test("emulation has to be allowed, and possible", &[Root, Overlay, Archive, Network], not_emulated)
        .test("each broken point is found, and no other", RUN, each_broken_point)
        .test("a leak is found in docker", &[Root, Overlay, Archive, Network, Docker], a_leak_in_docker)
        .test("a good image has no issues", RUN, a_good_image)
        .test("each issue of an image is found", RUN, each_issue_of_an_image)
        .test("a missing library is named with its package", RUN, a_missing_library)
        .test("each issue of a recipe is found", &[], each_issue_of_a_recipe)
        .test("waivers excuse, and are told when needless", RUN, waivers)
        .run()
}

/// The server. `LISTEN`, `START` and `STOP` are replaced.
const SERVER: &str = r#"
const fs = require("fs");
const config = JSON.parse(fs.readFileSync("/data/config.json", "utf8"));
START
const server = require("http").createServer((request, response) => response.end("ok"));
server.listen(LISTEN, () => console.log("listening"));
process.on("SIGTERM", () => { STOP });
"#;

const RECIPE: &str = r#"schema = 1

[runtime]
name = "server"
summary = "A server to be tested"
license = "MIT"

[source]
path = "."
version = "1.0.0"

[build]
language = "custom"

[stages.app]
from = "scratch"
steps = [{ copy = "server.js", to = "/server.js" }]

[image]
base = "node"
user = { name = "app", uid = 1000 }
command = ["/usr/local/bin/node", "/srv/server.js"]
copy = [{ from = "app", path = "/server.js", to = "/srv/server.js" }]
ports = [8080]
volumes = ["/data"]
tmpfs = ["/tmp"]
stop_timeout = "2s"

[health]
http = { port = 8080, port_env = "PORT", path = "/" }
start_period = "10s"

[config]
file = "config.json"
path = "/data/config.json"
format = "json"

[config.overrides]
PORT = { key = "port", type = "integer", doc = "The port" }
GREETING = { key = "texts.0", example = "good evening", doc = "What is said first" }
NAMES = { key = "names", type = "list", doc = "Who is greeted" }
TOKEN = { secret = true, doc = "What clients must know" }
KEY = { key = "key", secret = true, doc = "What the server must know" }
"#;

/// What a server does differently.
#[derive(Clone, Copy)]
struct Server {
    listen: &'static str,
    start: &'static str,
    stop: &'static str,
    contract: &'static str,
}

const GOOD: Server = Server {
    listen: r#"config.port, "0.0.0.0""#,
    start: r#"fs.writeFileSync("/data/state", "x"); fs.writeFileSync("/tmp/scratch", "x");"#,
    stop: "process.exit(0)",
    contract: "",
};
const LEAK: Server = Server { start: "console.log(process.env.TOKEN);", ..GOOD };
const DEAF: Server = Server { stop: "", ..GOOD };

fn write(cli: &Cli, server: Server) {
    let text = SERVER.replace("LISTEN", server.listen).replace("START", server.start).replace("STOP", server.stop);
    let file = |name: &str, text: &str| fs::write(cli.directory().join(name), text).expect("the directory is writable");
    file("server.js", &text);
    file("config.json", r#"{ "port": 8080, "texts": ["good morning"], "key": "" }"#);
    file("recipe.toml", &format!("{RECIPE}{}", server.contract));
}

fn test(cli: &Cli, server: Server, options: &[&str]) -> Output {
    write(cli, server);
    cli.run(["test", "./recipe.toml", "--json"].iter().chain(options))
}

/// The points with an outcome, and what is said about them.
fn points(output: &Output, outcome: &str) -> Vec<(String, String)> {
    let reports: Value = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", output.stdout, output.stderr));
    let points = reports[0]["points"].as_array().expect("every point");
    assert_eq!(points.len(), 9, "{points:?}");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let with = points.iter().filter(|point| point["outcome"] == outcome);
    with.map(|point| (text(&point["point"]), text(&point["detail"]))).collect()
}

#[track_caller]
fn assert_all_pass(output: &Output) {
    let passed: Vec<String> = points(output, "passed").into_iter().map(|(point, _)| point).collect();
    let all =
        ["health", "reachable", "overrides", "user", "random-uid", "read-only-root", "confined", "secrets", "stop"];
    assert_eq!(passed, all, "{}\n{}", output.stdout, output.stderr);
    assert_eq!(output.status, Some(0));
}

fn a_good_server() {
    let cli = Cli::new(PROGRAM).with_shared_store();
    let output = test(&cli, GOOD, &[]);
    assert_all_pass(&output);
    let said =
        |point: &str| points(&output, "passed").into_iter().find(|(name, _)| name == point).expect("it passed").1;
    assert_eq!(said("reachable"), "port 8080 answers 200");
    assert_eq!(said("overrides"), "all 4 overrides are rendered; the runtime follows PORT");
    assert_eq!(said("user"), "all 2 processes are 1000:1000; so they are when it is started as root");
    assert!(said("stop").ends_with("with status 0"), "{}", said("stop"));
    let text = cli.run(["test", "./recipe.toml"]).success().stdout;
    assert!(text.lines().any(|line| line.trim_start().starts_with("confined") && line.contains("passed")), "{text}");
}

fn a_good_server_in_docker() {
    let docker = support::Docker::new();
    let cli = Cli::new(PROGRAM).with_shared_store().with_variable("DOCKER_HOST", docker.host());
    let before = docker.run(["ps", "--all", "--quiet"]).text().lines().count();
    assert_all_pass(&test(&cli, GOOD, &["--engine", "docker"]));
    let after = docker.run(["ps", "--all", "--quiet"]).text().lines().count();
    assert_eq!(after, before, "containers are removed");
}

fn a_leak_in_docker() {
    let docker = support::Docker::new();
    let cli = Cli::new(PROGRAM).with_shared_store().with_variable("DOCKER_HOST", docker.host());
    assert_broken(&test(&cli, LEAK, &["--engine", "docker"]), &[("secrets", "TOKEN is in the log")]);
}

fn by_an_ordinary_user() {
    let shared = Cli::new(PROGRAM).with_shared_store();
    test(&shared, GOOD, &[]).success();
    test(&shared, GOOD, &FOREIGN).success();
    let store = shared.store().to_owned();
    let lock = fs::read(shared.directory().join("clawbuild.lock")).expect("the first build wrote it");
    let cli = Cli::new(PROGRAM);
    // Downloads alone: what root made of them has other owners.
    let blobs = cli.store().join("blobs");
    fs::create_dir_all(&blobs).expect("the store is this test's own");
    support::run(
        "cp",
        ["-a", "--reflink=auto", "--", &store.join("blobs/sha256").display().to_string(), &blobs.display().to_string()],
    );
    fs::write(cli.directory().join("clawbuild.lock"), lock).expect("the directory is writable");
    write(&cli, GOOD);
    let cli = cli.as_identity(Identity::User { id: 43_210, subids: false });
    let native = ["test", "./recipe.toml", "--json"];
    assert_all_pass(&cli.run(native));
    assert_all_pass(&cli.run(native.iter().chain(&FOREIGN)));
}

const FOREIGN: [&str; 3] = ["--platform", "linux/arm64", "--allow-emulation"];

fn emulated() {
    let cli = Cli::new(PROGRAM).with_shared_store();
    let output = test(&cli, GOOD, &FOREIGN);
    assert_all_pass(&output);
    let reports: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(reports[0]["platform"], "linux/arm64");
    assert_eq!(reports[0]["engine"], "embedded sandbox, emulated");
    let health = points(&output, "passed").into_iter().find(|(point, _)| point == "health").expect("it passed").1;
    assert!(health.ends_with(" of 100.0 s"), "start periods are ten times as long: {health}");
    // What breaks is told as on this machine's own architecture.
    let broken = test(&cli, Server { start: "process.exit(7);", ..GOOD }, &FOREIGN);
    assert_broken(&broken, &[("health", "it ended with status 7")]);
}

fn not_emulated() {
    let cli = Cli::new(PROGRAM).with_shared_store();
    let output = test(&cli, GOOD, &FOREIGN[..2]);
    assert_eq!(output.status, Some(3), "{}", output.stderr);
    assert!(output.stderr.contains("--allow-emulation"), "{}", output.stderr);
    let without = cli.with_variable("PATH", "/nowhere");
    let output = test(&without, GOOD, &FOREIGN);
    assert_eq!(output.status, Some(3), "{}", output.stderr);
    for part in ["error[engine/emulation]", "`qemu-aarch64-static` is not on the PATH", "qemu-user-static"] {
        assert!(output.stderr.contains(part), "{}", output.stderr);
    }
}

#[track_caller]
fn assert_broken(output: &Output, expected: &[(&str, &str)]) {
    let failed = points(output, "failed");
    let names: Vec<&str> = failed.iter().map(|(point, _)| point.as_str()).collect();
    let wanted: Vec<&str> = expected.iter().map(|(point, _)| *point).collect();
    assert_eq!(names, wanted, "{}\n{}", output.stdout, output.stderr);
    for ((_, detail), (_, part)) in failed.iter().zip(expected) {
        assert!(detail.contains(part), "`{detail}` does not say `{part}`");
    }
    assert_eq!(output.status, Some(4), "{}", output.stderr);
    assert!(output.stderr.contains("contract/broken"), "{}", output.stderr);
    let shown = format!("{}{}", output.stdout, output.stderr);
    assert!(!shown.contains("canary-"), "no secret is shown: {shown}");
}

fn each_broken_point() {
    let cli = Cli::new(PROGRAM).with_shared_store();
    let on_loopback = Server { listen: r#"config.port, "127.0.0.1""#, ..GOOD };
    let stray = r#"try { fs.writeFileSync("/home/app/stray", "x") } catch {}"#;
    let needy = r#"fs.writeFileSync("/home/app/needed", "x");"#;
    let choosy = "if (process.getuid() !== 1000) process.exit(1);";
    let refusing = r#"if (process.env.TOKEN) { console.log("I like no tokens"); process.exit(3) }"#;
    for (server, expected) in [
        (on_loopback, &[("reachable", "port 8080 cannot be reached")][..]),
        (Server { listen: r#"8080, "0.0.0.0""#, ..GOOD }, &[("overrides", "with PORT=8087")]),
        (Server { start: choosy, ..GOOD }, &[("random-uid", "as 57113:0, it ended with status 1")]),
        (
            Server { start: needy, ..GOOD },
            &[
                ("random-uid", "as 57113:0, it ended with status 1"),
                ("read-only-root", "it ended with status 1"),
                ("confined", "`/home/app/needed`"),
            ],
        ),
        (Server { start: stray, ..GOOD }, &[("confined", "writes outside of its volumes: `/home/app/stray`")]),
        (LEAK, &[("secrets", "TOKEN is in the log")]),
        (Server { start: refusing, ..GOOD }, &[("secrets", "given TOKEN, it ended with status 3")]),
        (DEAF, &[("stop", "had to be killed")]),
        (Server { contract: "\n[image.env]\nCLAW_UID = \"0\"\n", ..GOOD }, &[("user", "started as root, `")]),
        (Server { start: "process.exit(7);", ..GOOD }, &[("health", "it ended with status 7")]),
    ] {
        assert_broken(&test(&cli, server, &[]), expected);
    }
}

fn waivers() {
    let cli = Cli::new(PROGRAM).with_shared_store();
    let contract = "\n[contract]\nwaive = { stop = \"it saves for ten seconds\", user = \"no reason\" }\n";
    let output = test(&cli, Server { contract, ..DEAF }, &[]).success();
    assert_eq!(points(&output, "waived"), [("stop".to_owned(), "it saves for ten seconds".to_owned())]);
    assert_eq!(points(&output, "failed"), []);
    assert!(output.stderr.contains("the recipe waives `user`, which holds"), "{}", output.stderr);
    write(&cli, Server { contract: "\n[contract]\nwaive = { sotp = \"x\" }\n", ..GOOD });
    let output = cli.run(["test", "./recipe.toml"]);
    assert_eq!(output.status, Some(1));
    assert!(output.stderr.contains("did you mean `stop`?"), "{}", output.stderr);
}

/// The code and message of each issue, recipe's and image's.
fn issues(output: &Output) -> Vec<(String, String)> {
    let checked: Value = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", output.stdout, output.stderr));
    let all = checked.as_array().expect("all that was looked at").iter().flat_map(|one| one["issues"].as_array());
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    all.flatten().map(|issue| (text(&issue["code"]), text(&issue["message"]))).collect()
}

fn a_good_image() {
    let cli = Cli::new(PROGRAM).with_shared_store();
    write(&cli, GOOD);
    let output = cli.run(["check", "./recipe.toml", "--json", "--platform", "linux/amd64,linux/arm64"]);
    assert_eq!(issues(&output), [], "{}", output.stderr);
    assert_eq!(output.status, Some(0));
    let looked_at = output.success().json();
    for image in &looked_at.as_array().expect("a recipe and two images")[1..] {
        let extent = image["extent"].as_str().expect("text");
        assert!(!extent.ends_with(" 0 programs and libraries"), "{extent}");
    }
}

fn each_issue_of_an_image() {
    let cli = Cli::new(PROGRAM).with_shared_store();
    write(&cli, GOOD);
    let file = |name: &str, bytes: &[u8]| fs::write(cli.directory().join(name), bytes).expect("it is writable");
    let mut program = fs::read("/bin/true").expect("every machine has it");
    program[18..20].copy_from_slice(&243_u16.to_le_bytes());
    file("foreign", &program);
    program[18..20].copy_from_slice(&62_u16.to_le_bytes());
    let library = program.windows(10).position(|bytes| bytes == b"libc.so.6\0").expect("it needs the C library");
    program[library..library + 9].copy_from_slice(b"libX.so.6");
    file("lacking", &program);
    file("id", b"-----BEGIN OPENSSH PRIVATE KEY-----\nnot really\n");
    let steps = r#"steps = [
  { copy = "server.js", to = "/server.js" },
  { copy = "foreign", to = "/more/foreign" },
  { copy = "lacking", to = "/more/lacking" },
  { copy = "id", to = "/more/id" },
  { write = "/more/open", text = "x", mode = "0666" },
  { write = "/more/gone", text = "x", mode = "0666" },
  { remove = "/more/gone" },
  { directory = "/cache" },
  { write = "/cache/pkgcache.bin", text = "x" },
]"#;
    let copy = r#"  { from = "app", path = "/more", to = "/srv/more" },
  { from = "app", path = "/cache", to = "/var/cache/apt" },
]
ports"#;
    let recipe = RECIPE.replace(r#"steps = [{ copy = "server.js", to = "/server.js" }]"#, steps);
    let recipe = recipe.replace("copy = [{", "copy = [\n  {").replace("}]\nports", &format!("}},\n{copy}"));
    fs::write(cli.directory().join("recipe.toml"), recipe).expect("it is writable");
    let output = cli.run(["check", "./recipe.toml", "--json"]);
    let found = issues(&output);
    let expected = [
        ("check/machine", "`/srv/more/foreign` is for riscv64"),
        ("check/missing-library", "`/srv/more/lacking` needs the library `libX.so.6`"),
        ("check/world-writable", "`/srv/more/open`"),
        ("check/package-cache", "`/var/cache/apt/pkgcache.bin`"),
        ("check/private-key", "`/srv/more/id`"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}\n{}", output.stderr);
    for ((code, message), (expected, part)) in found.iter().zip(expected) {
        assert_eq!(code, expected);
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
    assert_eq!(output.status, Some(4));
}

fn a_missing_library() {
    let cli = Cli::new(PROGRAM).with_shared_store();
    write(&cli, GOOD);
    let mut program = fs::read("/bin/true").expect("every machine has it");
    let library = program.windows(10).position(|bytes| bytes == b"libc.so.6\0").expect("it needs the C library");
    program[library..library + 9].copy_from_slice(b"libz.so.1");
    fs::write(cli.directory().join("lacking"), program).expect("it is writable");
    // The stage's base has the library, the image's has not.
    let recipe = RECIPE
        .replace("base = \"node\"", "base = \"cc\"")
        .replace("from = \"scratch\"", "from = \"debian\"")
        .replace("copy = \"server.js\", to = \"/server.js\"", "copy = \"lacking\", to = \"/server.js\"");
    fs::write(cli.directory().join("recipe.toml"), recipe).expect("it is writable");
    let output = cli.run(["check", "./recipe.toml"]);
    assert_eq!(output.status, Some(4), "{}", output.stderr);
    for part in
        ["error[check/missing-library]", "needs the library `libz.so.1`", "add \"zlib1g\" to `[image] packages`"]
    {
        assert!(output.stderr.contains(part), "`{part}`: {}", output.stderr);
    }
}

fn each_issue_of_a_recipe() {
    let cli = Cli::new(PROGRAM);
    write(&cli, GOOD);
    let recipe = RECIPE
        .replace("\"MIT\"", "\"MITT\"")
        .replace("ports = [8080]", "ports = [80]")
        .replace("path = \"/data/config.json\"", "path = \"/etc/server/config.json\"")
        .replace("\"2s\"", "\"0s\"")
        .replace("[config.overrides]", "[config.overrides]\nOTHER_TOKEN = { doc = \"Another\" }");
    let health = recipe.find("[health]").expect("a health check")..recipe.find("[config]").expect("a configuration");
    let recipe = [&recipe[..health.start], &recipe[health.end..]].concat();
    fs::write(cli.directory().join("recipe.toml"), recipe).expect("it is writable");
    let output = cli.run(["check", "./recipe.toml", "--recipe-only", "--json"]);
    let codes: Vec<String> = issues(&output).into_iter().map(|(code, _)| code).collect();
    let expected =
        ["check/license", "check/health", "check/stop-timeout", "check/port", "check/config-path", "check/secret"];
    assert_eq!(codes, expected, "{}", output.stderr);
    assert_eq!(output.status, Some(1));
    assert!(output.stderr.contains("recipe.toml:"), "the place is shown: {}", output.stderr);
}
