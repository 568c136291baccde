//! What a real buildkitd asks for during a solve, and what it gets.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use diag::progress::{Event, Outcome, Progress, TaskId};
use engine::{CacheKind, CacheSpec, Engine, FilesOutput, Output, SolveRequest};
use llb::{Bind, Definition, Exec, Graph, LocalSource, NetworkMode, Secret, Ssh};
use oci::layout::Layout;
use oci::{Platform, Repository};
use registry::download::Downloader;
use registry::http::{Http, HttpSettings};
use registry::image::{Credential, ImageSettings, Images, Keychain, Push};
use support::{Credentials, Registry};

use crate::Check;
use crate::base;
use crate::node::Node;
use crate::site::{Site, buildkitd};

pub(crate) const CHECKS: &[Check] = &[
    ("a context arrives as it is", context),
    ("only what the patterns select arrives", patterns),
    ("a change that keeps size and time is seen", same_size_and_time),
    ("a context that cannot be sent is told as by the embedded engine", unreadable),
    ("a secret that is missing is told as by the embedded engine", no_secret),
    ("an SSH agent signs in a step, and keeps its keys", agent),
    ("an SSH agent that is missing is told", no_agent),
    ("a layout that lacks content is told as by the embedded engine", torn_layout),
    ("a cache in a directory is written and read", cache),
];

/// Those that need registries too.
pub(crate) const REGISTRY_CHECKS: &[Check] = &[("an image is pulled with a token that is fetched here", token)];

fn write(root: &Path, path: &str, content: &str, mode: u32) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(&path, content).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permissions");
}

fn date(path: &Path, nanoseconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds);
    File::open(path).expect("a file").set_modified(time).expect("a time");
}

/// A context with everything that a context can hold.
fn fill(root: &Path) {
    write(root, "plain", "plain\n", 0o644);
    write(root, "run.sh", "#!/bin/sh\n", 0o755);
    write(root, "set/uid", "x", 0o4755);
    write(root, "set/gid", "x", 0o2711);
    write(root, "private/secret", "x", 0o600);
    write(root, "naïve/ö", "x", 0o644);
    write(root, "large", &"0123456789".repeat(50_000), 0o644);
    write(root, "empty", "", 0o644);
    fs::write(root.join(OsStr::from_bytes(b"odd\xff name")), "odd").expect("a file");
    fs::create_dir_all(root.join("hollow/inner")).expect("a directory");
    fs::set_permissions(root.join("hollow"), fs::Permissions::from_mode(0o1777)).expect("permissions");
    fs::set_permissions(root.join("private"), fs::Permissions::from_mode(0o700)).expect("permissions");
    for (target, link) in [("/etc/passwd", "absolute"), ("../../..", "climbs"), ("plain", "near"), ("gone", "dangling")]
    {
        symlink(target, root.join(link)).expect("a link");
    }
    fs::hard_link(root.join("plain"), root.join("twin")).expect("a link");
    // Older than what layers may be dated at: these times show.
    date(&root.join("plain"), 1_234_567_890_123_456_789);
    date(&root.join("run.sh"), 1_234_567_890_999_999_999);
    date(&root.join("empty"), 499_162_500_000_000_000);
    date(&root.join("large"), 499_162_500_000_000_000);
    date(&root.join("set"), 1_000_000_000_500_000_000);
    date(&root.join("hollow"), 1_000_000_000_000_000_000);
}

fn graph() -> Graph {
    Graph::new(Platform::host().expect("a known platform"))
}

/// An image of what a local source selects, without anything below it.
fn copied(source: LocalSource) -> Definition {
    let graph = graph();
    let context = graph.local(source).with_name("context");
    let copy = llb::File::on(llb::Tree::Scratch).copy(&context, "/", "/").with_name("copy");
    graph.definition(&graph.file(copy)).expect("a valid graph")
}

/// Solves on both engines, and compares.
fn compare(site: &Site, source: LocalSource) -> Vec<String> {
    let request = || site.request_of(copied(source.clone()));
    let embedded = site.solve(&site.embedded(), request());
    let buildkit = site.solve(&site.buildkit(), request());
    let [ours, theirs] = [embedded, buildkit].map(crate::site::Solution::outcome);
    assert_eq!(ours.materials, theirs.materials);
    let [ours, theirs] = [ours, theirs].map(|outcome| match outcome.result {
        engine::Solved::Image(image) => image,
        other => panic!("no image: {other:?}"),
    });
    let contents = site.contents("embedded", &ours);
    assert_eq!(contents.join("\n"), site.contents("buildkit", &theirs).join("\n"));
    assert_eq!(ours, theirs);
    contents
}

fn context() {
    let site = Site::new();
    fill(&site.path("context"));
    let contents = compare(&site, LocalSource::new("context"));
    assert!(contents.iter().any(|line| line.contains("set/uid")), "{contents:#?}");
}

fn patterns() {
    let site = Site::new();
    fill(&site.path("context"));
    let list = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>();
    let all = LocalSource::new("context");
    let many: Vec<String> = (0..3000).map(|number| format!("some/directory/number/{number}")).collect();
    for (source, expected) in [
        (LocalSource { include: list(&["naïve", "set/*", "!set/gid"]), ..all.clone() }, Some("set/uid")),
        (LocalSource { exclude: list(&["*", "!naïve/ö"]), ..all.clone() }, Some("naïve")),
        (LocalSource { follow_paths: list(&["near", "hollow"]), ..all.clone() }, Some("plain")),
        (LocalSource { include: list(&["**/secret"]), exclude: many, ..all.clone() }, Some("private/secret")),
        (LocalSource { include: list(&["nothing"]), ..all }, None),
    ] {
        let contents = compare(&site, source.clone());
        let found = expected.is_none_or(|path| contents.iter().any(|line| line.contains(path)));
        assert!(found, "{source:?}: {contents:#?}");
    }
}

fn same_size_and_time() {
    let site = Site::new();
    let context = site.path("context");
    let mut seen = Vec::new();
    for version in ["1.2.3", "1.2.4"] {
        write(&context, "package.json", version, 0o644);
        date(&context.join("package.json"), 499_162_500_000_000_000);
        seen.push(compare(&site, LocalSource::new("context")));
    }
    assert_ne!(seen[0], seen[1]);
}

fn unreadable() {
    let site = Site::new();
    let context = site.path("context");
    let diagnostics = || {
        let request = || site.request_of(copied(LocalSource::new("context")));
        let ours = site.solve(&site.embedded(), request()).diagnostic();
        let theirs = site.solve(&site.buildkit(), request()).diagnostic();
        assert_eq!(ours, theirs);
        ours
    };
    let made = Command::new("mkfifo").arg(context.join("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    assert!(diagnostics().message.contains("FIFO"));
    fs::remove_dir_all(&context).expect("removes");
    assert!(diagnostics().message.contains("is not a directory"));
}

fn no_secret() {
    let site = Site::new();
    let request = || {
        let graph = graph();
        let base = graph.oci_layout("base", site.base, None);
        // Of a name that no other test has: what was built once with a secret is built.
        let exec = Exec::on(&base, ["/bin/cat", "/secret"]).mount("/secret", Secret::new("nobody-has-it"));
        let read = graph.exec(exec.with_name("read"));
        site.request_of(graph.definition(read.rootfs()).expect("a valid graph"))
    };
    let ours = site.solve(&site.embedded(), request()).diagnostic();
    let theirs = site.solve(&site.buildkit(), request()).diagnostic();
    assert_eq!(ours, theirs);
    assert!(ours.message.contains("nobody-has-it"), "{ours:#?}");
}

fn torn_layout() {
    let site = Site::new();
    let request = || {
        let graph = graph();
        let base = graph.oci_layout("base", oci::Digest::of("nobody has it"), None).with_name("base");
        let output = Output::Files(FilesOutput::Directory(site.path("out")));
        SolveRequest { output, ..site.request_of(graph.definition(&base).expect("a valid graph")) }
    };
    let ours = site.solve(&site.embedded(), request()).diagnostic();
    let theirs = site.solve(&site.buildkit(), request()).diagnostic();
    assert_eq!(ours, theirs);
}

/// An agent of the test's own, with a key.
struct SshAgent {
    process: Child,
}

impl SshAgent {
    fn start(site: &Site) -> Self {
        let socket = site.path("agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null());
        let process = command.spawn().expect("ssh-agent runs");
        let key = site.path("key");
        let run = |command: &mut Command| assert!(command.status().expect("it runs").success());
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f"]).arg(&key));
        while !socket.exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        run(Command::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket));
        Self { process }
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        // It has ended already if it cannot be stopped.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A step that talks to its agent.
fn asking(site: &Site, script: &str) -> SolveRequest {
    let tools = site.path("context");
    for program in ["ssh-add", "ssh-keygen"].map(|name| Path::new("/usr/bin").join(name)) {
        for file in base::libraries(&program).into_iter().chain([program]) {
            let copy = tools.join(file.strip_prefix("/").expect("absolute"));
            fs::create_dir_all(copy.parent().expect("a parent")).expect("a directory");
            fs::copy(&file, copy).expect("copies");
        }
    }
    if site.path("key.pub").exists() {
        fs::copy(site.path("key.pub"), tools.join("key.pub")).expect("copies");
    }
    let graph = graph();
    let base = graph.oci_layout("base", site.base, None);
    let tools = graph.local(LocalSource::new("context"));
    let with_tools = graph.file(llb::File::on(&base).copy(&tools, "/", "/"));
    let exec = Exec::on(&with_tools, ["/bin/sh", "-ec", script])
        .env("PATH", "/bin:/usr/bin")
        .env("SSH_AUTH_SOCK", "/agent")
        .network(NetworkMode::None)
        .mount("/agent", Ssh::new("default"))
        .mount("/out", Bind::scratch())
        .with_name("ask");
    let asked = graph.exec(exec);
    let definition = graph.definition(asked.output("/out").expect("an output")).expect("a valid graph");
    SolveRequest { output: Output::Files(FilesOutput::Directory(site.path("out"))), ..site.request_of(definition) }
}

fn agent() {
    let site = Site::new();
    let agent = SshAgent::start(&site);
    let script = "ssh-add -L > /out/keys; \
                  if ssh-add -D; then echo gone > /out/removed; fi; \
                  ssh-keygen -Y sign -f /key.pub -n tests < /key.pub > /out/signature; \
                  ssh-add -L > /out/keys-after";
    let agents = BTreeMap::from([("default".to_owned(), site.path("agent"))]);
    let request = SolveRequest { agents, ..asking(&site, script) };
    site.solve(&site.buildkit(), request).outcome();
    let read = |name: &str| fs::read_to_string(site.path("out").join(name)).expect("a file");
    let key = fs::read_to_string(site.path("key.pub")).expect("a key");
    assert_eq!((read("keys"), read("keys-after")), (key.clone(), key));
    assert!(read("signature").starts_with("-----BEGIN SSH SIGNATURE-----"));
    assert!(!site.path("out/removed").exists());
    drop(agent);
}

fn no_agent() {
    let site = Site::new();
    let diagnostic = |agents: BTreeMap<_, _>| {
        let request = SolveRequest { agents, ..asking(&site, "true") };
        site.solve(&site.buildkit(), request).diagnostic()
    };
    assert!(diagnostic(BTreeMap::new()).message.contains("default"));
    let dead = diagnostic(BTreeMap::from([("default".to_owned(), site.path("nobody"))]));
    assert!(format!("{dead:?}").contains("nobody"), "{dead:#?}");
}

fn cache() {
    let site = Site::new();
    let directory = site.path("cache").display().to_string();
    let spec = |key: &str| CacheSpec {
        kind: CacheKind::Local,
        attributes: BTreeMap::from([(key.to_owned(), directory.clone()), ("mode".to_owned(), "max".to_owned())]),
    };
    let warnings = |engine: &dyn Engine, from: bool, to: bool| {
        let request = SolveRequest {
            cache_from: from.then(|| spec("src")).into_iter().collect(),
            cache_to: to.then(|| spec("dest")).into_iter().collect(),
            ..site.request("app")
        };
        let solution = site.solve(engine, request);
        let warnings: Vec<_> = solution
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Warning { message, .. } => Some(message.clone()),
                _ => None,
            })
            .collect();
        solution.outcome();
        warnings
    };
    let buildkit = site.buildkit();
    let none = warnings(&buildkit, true, false);
    assert!(none.iter().any(|message| message.contains("there is none yet")), "{none:?}");
    assert_eq!(warnings(&buildkit, false, true), [""; 0]);
    let layout = Layout::open(&site.path("cache")).expect("a layout");
    assert_eq!(layout.root(Some("latest")).expect("a cache").media_type, oci::media_type::MANIFEST);
    assert_eq!(warnings(&buildkit, true, true), [""; 0]);
    // Another builder, which knows nothing itself.
    let directory = site.path("node");
    fs::create_dir(&directory).expect("a directory");
    let node = Node::start(&directory, &directory.join("root"));
    let request = SolveRequest { cache_from: vec![spec("src")], ..site.request("app") };
    let found = site.solve(&site.buildkit_at(Arc::new(node.dial())), request).ended();
    assert!(found.contains(&("build".to_owned(), Outcome::Cached)), "{found:?}");
    fs::remove_dir_all(site.path("cache/blobs")).expect("removes");
    assert!(!warnings(&buildkit, true, false).is_empty(), "a torn cache is a miss");
}

fn token() {
    let (site, registry) = (Site::new(), Registry::token());
    let repository: Repository = registry.repository("private").parse().expect("a repository");
    let Credentials { user, password } = registry.credentials().expect("a user").clone();
    let keychain = |password: String| {
        let credential = Credential::Password { user: user.clone(), password: password.into() };
        Keychain::empty().with(registry.address(), credential)
    };
    // An image that no builder has seen.
    let unique = llb::MkfileAction::new("/unique", site.path("").display().to_string());
    let graph = graph();
    let head = graph.file(llb::File::on(llb::Tree::Scratch).mkfile(unique));
    let made = site.request_of(graph.definition(&head).expect("a valid graph"));
    let image = site.solve(&site.embedded(), made).image();
    let downloader = Downloader::new(Http::new(HttpSettings::default()), site.store("embedded"));
    let settings = ImageSettings { keychain: keychain(password.clone()), ..ImageSettings::default() };
    let push = Push { image: &image.manifest, repository: &repository, tags: &[], fixed_tags: &[], mount_from: &[] };
    let pushed = site
        .runtime
        .block_on(Images::new(downloader, settings).push(&push, &Progress::none().task(TaskId::new("push"), "push")));
    pushed.expect("pushes");

    let pulled = graph.image(repository, image.manifest.digest).with_name("pull");
    let definition = graph.definition(&pulled).expect("a valid graph");
    let solve = |keychain: Keychain| {
        let output = Output::Files(FilesOutput::Directory(site.path("pulled")));
        let request = SolveRequest { output, ..site.request_of(definition.clone()) };
        site.solve(&site.buildkit_of(Arc::new(buildkitd()), keychain), request)
    };
    let anonymous = solve(Keychain::empty()).diagnostic();
    let refused = solve(keychain("wrong".to_owned())).diagnostic();
    for diagnostic in [anonymous, refused] {
        let text = format!("{diagnostic:?}");
        assert!(text.contains("401") || text.contains("authoriz") || text.contains("refuses"), "{diagnostic:#?}");
        assert!(!text.contains(&password), "a password is told");
    }
    let broken = site.path("auth.json");
    fs::write(&broken, "{").expect("writes");
    let unreadable = solve(Keychain::from_environment(|name| match name {
        "REGISTRY_AUTH_FILE" => Some(broken.clone().into()),
        _ => None,
    }));
    let diagnostic = format!("{:?}", unreadable.diagnostic());
    assert!(diagnostic.contains("auth.json"), "{diagnostic}");
    solve(keychain(password)).outcome();
    assert!(site.path("pulled/unique").exists());
}
