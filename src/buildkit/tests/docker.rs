//! Docker's own BuildKit: the same results although the daemon lacks half of what makes them.

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use buildkit::docker::{DockerEngine, DockerOptions, Endpoint, Storage};
use diag::codes;
use diag::progress::{Event, Outcome};
use engine::{CacheKind, CacheSpec, Engine, FilesOutput, Output, SolveRequest};
use llb::{
    CopyAction, Definition, Exec, File, Graph, LocalSource, MkdirAction, MkfileAction, NetworkMode, Owner, RmAction,
    SymlinkAction, Timestamp, Tree,
};
use oci::Platform;
use registry::download::Downloader;
use registry::http::{Http, HttpSettings};
use registry::image::{ImageSettings, Images, Keychain};
use support::Capability;

use crate::Check;
use crate::equal::{difference, list};
use crate::site::Site;

pub(crate) const NEEDS: &[Capability] = &[Capability::Root, Capability::Docker];

pub(crate) const CHECKS: &[Check] = &[
    ("docker: an image is the same: app", || image("app")),
    ("docker: an image is the same: owners", || image("owners")),
    ("docker: an image is the same: part", || image("part")),
    ("docker: an image is the same: merged", || image("merged")),
    ("docker: an image is the same: changes", || image("changes")),
    ("docker: an image is the same: base", || image("base")),
    ("docker: an image is the same: deep", || image("deep 20")),
    ("docker: an image is the same: many", || image("many")),
    ("docker: an image is the same: secret", || image("secret")),
    ("docker: an image is the same: patterns", || image_of(patterns)),
    ("docker: an image is the same: overlay", || image_of(overlay)),
    ("docker: an image is the same: stubs", || image_of(stubs)),
    ("docker: an image is the same: steps on merges", || image_of(steps_on_merges)),
    ("docker: what old copies do to directories", old_directories),
    ("docker: files are the same", files),
    ("docker: what is known is not made again", known),
    ("docker: a difference of strangers is refused before anything runs", strangers),
    ("docker: a step that fails", failing),
    ("docker: caches that are not written are told", caches),
    ("docker: nothing is left behind", nothing_left),
    ("docker: a daemon that is not there", nobody),
];

/// Those that need a registry besides.
pub(crate) const REGISTRY_NEEDS: &[Capability] =
    &[Capability::Root, Capability::Docker, Capability::Registry, Capability::Skopeo];

pub(crate) const REGISTRY_CHECKS: &[Check] = &[("docker: a base in a registry keeps its layers", registry_base)];

impl Site {
    pub(crate) fn docker(&self) -> DockerEngine {
        let host = std::env::var("CLAWBUILD_TEST_DOCKER_HOST").expect("CLAWBUILD_TEST_DOCKER_HOST is set");
        self.docker_at(host.strip_prefix("unix://").expect("a unix socket"))
    }

    fn docker_at(&self, socket: &str) -> DockerEngine {
        let store = self.store("docker");
        let http = Http::new(HttpSettings::default());
        let images = Images::new(Downloader::new(http, store.clone()), ImageSettings::default());
        let threads = NonZeroUsize::new(2).expect("not zero");
        let options = DockerOptions { threads, images, keychain: Keychain::default() };
        DockerEngine::new(Endpoint::Unix(PathBuf::from(socket)), store, options)
    }

    fn graph(&self, build: fn(&Graph, &llb::Output) -> llb::Output) -> Definition {
        let graph = Graph::new(Platform::host().expect("a known platform"));
        let base = graph.oci_layout("base", self.base, None).with_name("base");
        let head = build(&graph, &base);
        graph.definition(&head).expect("a valid graph")
    }
}

fn image(graph: &str) {
    let site = Site::new();
    same(&site, site.request(graph));
}

fn image_of(build: fn(&Graph, &llb::Output) -> llb::Output) {
    let site = Site::new();
    let definition = site.graph(build);
    same(&site, site.request_of(definition));
}

#[track_caller]
fn same(site: &Site, request: SolveRequest) {
    let embedded = site.solve(&site.embedded(), request.clone()).image();
    let docker = site.solve(&site.docker(), request).image();
    if embedded != docker {
        panic!("{}", difference(site.contents("embedded", &embedded), site.contents("docker", &docker)));
    }
}

/// Both pull it: the daemon to run steps on it, this side for its blobs.
fn registry_base() {
    let site = Site::new();
    let repository = crate::registries::push(&site, &support::Registry::anonymous(), "docker/base");
    let embedded = site.solve(&site.embedded(), site.request("made-on-base")).image();
    let request = SolveRequest { layouts: Default::default(), ..site.request(&format!("made-on {repository}")) };
    assert_eq!(site.solve(&site.docker(), request).image(), embedded);
}

/// Debian 12's Docker writes none.
fn caches() {
    let site = Site::new();
    let directory = site.path("cache");
    let attributes = [("dest".to_owned(), directory.display().to_string())].into();
    let cache_to = vec![CacheSpec { kind: CacheKind::Local, attributes }];
    let engine = site.docker();
    let storage = site.runtime.block_on(engine.storage()).expect("it answers");
    let solution = site.solve(&engine, SolveRequest { cache_to, ..site.request("app") });
    let told = solution
        .events
        .iter()
        .any(|event| matches!(event, Event::Warning { message, .. } if message.contains("`--cache-to` does nothing")));
    solution.image();
    assert_ne!(told, directory.join("index.json").exists(), "either it is written or it is said that it is not");
    assert!(told || storage == Storage::Containerd, "graph drivers have no caches");
}

fn shell(script: &str) -> [&str; 3] {
    ["/bin/sh", "-ec", script]
}

/// The time clawbuild's own recipes give everything.
fn time() -> Timestamp {
    Timestamp::from_seconds(crate::site::EPOCH)
}

/// Copies that leave things out, of what a step made and of the context.
fn patterns(graph: &Graph, base: &llb::Output) -> llb::Output {
    let script = "mkdir -p /m/a/t /m/b/t /m/empty /m/x/y; cd /m; echo 1 > a/i.js; echo 2 > a/i.js.map; \
                  echo 3 > a/i.d.ts; echo 4 > a/t/deep.map; echo 5 > b/t/lib.d.ts; echo 6 > 'b/odd[1].map'; \
                  ln -s ../a/i.js b/link; ln a/i.js b/hard; echo 7 > x/y/z; chmod 700 x";
    let made = graph.exec(Exec::on(base, shell(script)).network(NetworkMode::None).with_name("make"));
    let context = graph.local(LocalSource::new("context")).with_name("context");
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let copy = |src: &str, dest: &str| CopyAction {
        dir_copy_contents: true,
        create_dest_path: true,
        timestamp: Some(time()),
        ..CopyAction::new(src, dest)
    };
    graph.file(
        File::on(base)
            .timestamp(time())
            .mkdir(MkdirAction::new("/out"))
            .copy_with(
                made.rootfs(),
                CopyAction {
                    exclude: texts(&["**/*.map", "**/*.d.ts", "!b/t/**", "x/y"]),
                    ..copy("/m", "/out/excluded")
                },
            )
            .copy_with(
                made.rootfs(),
                CopyAction {
                    include: texts(&["a/*.js", "x/**"]),
                    owner: Some(Owner::id(7, 8)),
                    ..copy("/m", "/out/included")
                },
            )
            .copy_with(
                &context,
                CopyAction { exclude: texts(&["sub"]), mode: Some(0o750), ..copy("/", "/out/context/") },
            )
            .symlink(SymlinkAction { owner: Some(Owner::id(3, 4)), ..SymlinkAction::new("excluded", "/out/latest") })
            .with_name("place"),
    )
}

/// All that differs from other engines: directories that are older than the epoch, or get a copy's mode.
fn old_directories() {
    let site = Site::new();
    let request = site.request_of(site.graph(|graph, base| {
        let script =
            "mkdir -p /m/a/t; echo 1 > /m/a/i; echo 2 > /m/a/t/x; touch -d @100 /m/a/i /m/a/t/x /m/a/t /m/a /m";
        let made = graph.exec(Exec::on(base, shell(script)).network(NetworkMode::None).with_name("make"));
        let copy =
            |dest: &str| CopyAction { dir_copy_contents: true, create_dest_path: true, ..CopyAction::new("/m", dest) };
        let time = Some(Timestamp::from_seconds(5));
        graph.file(
            File::on(Tree::Scratch)
                .copy_with(made.rootfs(), copy("/plain"))
                .copy_with(made.rootfs(), CopyAction { timestamp: time, ..copy("/timed") })
                .copy_with(made.rootfs(), CopyAction { mode: Some(0o700), ..copy("/mode") })
                .copy_with(made.rootfs(), CopyAction { exclude: vec!["a/t".to_owned()], ..copy("/excluded") })
                .copy_with(
                    made.rootfs(),
                    CopyAction { include: vec!["a/i".to_owned()], timestamp: time, ..copy("/included") },
                )
                .with_name("copy"),
        )
    }));
    let embedded = site.solve(&site.embedded(), request.clone()).image();
    let docker = site.solve(&site.docker(), request).image();
    let shown = |store: &str, image: &engine::SolvedImage| {
        let mut lines = Vec::new();
        site.each_entry(store, image, |entry| {
            lines.push(format!("{} {:o} {}", entry.display_path(), entry.mode, entry.mtime));
        });
        lines
    };
    let (ours, theirs) = (shown("embedded", &embedded), shown("docker", &docker));
    let differing: Vec<String> = ours
        .iter()
        .zip(&theirs)
        .filter(|(ours, theirs)| ours != theirs)
        .map(|(ours, theirs)| format!("{ours} -> {theirs}"))
        .collect();
    assert_eq!(ours.len(), theirs.len());
    let known = [
        // What something was left out of, or what was made to be copied into.
        "excluded 755 100 -> excluded 755 1700000000",
        "excluded/a 755 100 -> excluded/a 755 1700000000",
        "included 755 5 -> included 755 1700000000",
        // Made on the way to something included.
        "included/a 755 1700000000 -> included/a 755 5",
        "mode 700 100 -> mode 755 1700000000",
        "plain 755 100 -> plain 755 1700000000",
        "timed 755 5 -> timed 755 1700000000",
    ];
    let host = std::env::var("CLAWBUILD_TEST_DOCKER_HOST").expect("a host");
    let version = std::process::Command::new(support::tool("docker"))
        .args(["--host", &host, "version", "--format", "{{.Server.Version}}"])
        .output()
        .expect("docker runs");
    if String::from_utf8_lossy(&version.stdout).starts_with("20.10.") {
        assert_eq!(differing, known);
    } else {
        // Later ones have less to differ in.
        let path = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        let known: Vec<String> = known.iter().map(|line| path(line)).collect();
        assert!(differing.iter().all(|line| known.contains(&path(line))), "{differing:#?}");
    }
}

/// What only overlays tell: removals, replacements, directories that are opaque, hard links, copied-up files.
fn overlay(graph: &Graph, base: &llb::Output) -> llb::Output {
    let first = "mkdir -p /w/keep /w/gone/deep /w/opaque /w/swap; echo a > /w/keep/a; echo b > /w/gone/deep/b; \
                 echo c > /w/opaque/c; echo d > /w/opaque/d; mkdir /w/opaque/sub; echo e > /w/opaque/sub/e; \
                 echo f > /w/swap/f; echo g > /w/file; echo h > /w/h1; ln /w/h1 /w/h2; ln /w/h1 /w/h3; chmod 4755 /w/file; \
                 touch -d @1000 /w/old /w/keep/old";
    let second = "rm -r /w/gone; rm -r /w/opaque; mkdir /w/opaque; echo c2 > /w/opaque/c; rm -r /w/swap; \
                  echo now-a-file > /w/swap; rm /w/file; mkdir /w/file; echo x > /w/file/x; chown 5:6 /w/h2; \
                  chmod 600 /w/keep/a; chmod 644 /w/keep/a; echo t > /w/keep/t; rm /w/keep/t; ln -sf nowhere /w/dangling; \
                  touch -d @500 /w/old; mkdir /w/empty; mv /w/keep/old /w/keep/new";
    let one = graph.exec(Exec::on(base, shell(first)).network(NetworkMode::None).with_name("one"));
    let two = graph.exec(Exec::on(one.rootfs(), shell(second)).network(NetworkMode::None).with_name("two"));
    graph.file(
        File::on(two.rootfs())
            .timestamp(time())
            .rm(RmAction::new("/w/h1"))
            .mkfile(MkfileAction::new("/w/h4", "h4"))
            .with_name("three"),
    )
}

/// Mount points that were not there.
fn stubs(graph: &Graph, base: &llb::Output) -> llb::Output {
    let exec = Exec::on(base, shell("cat /run/secrets/deep/token > /dev/null; echo x > /var-made; echo y > /cache/y"))
        .network(NetworkMode::None)
        .mount("/run/secrets/deep/token", llb::Secret::new("token"))
        .mount("/cache", llb::Cache::new("docker-stubs", llb::CacheSharing::Locked))
        .mount("/scratch/tmp", llb::Tmpfs::new())
        .cwd("/work/dir")
        .with_name("mounted");
    graph.exec(exec).rootfs().clone()
}

/// Steps that stand on merges, and merges of such steps.
fn steps_on_merges(graph: &Graph, base: &llb::Output) -> llb::Output {
    let part = |name: &str| {
        graph.file(
            File::on(Tree::Scratch)
                .timestamp(time())
                .mkdir(MkdirAction::new("/opt"))
                .mkfile(MkfileAction::new(format!("/opt/{name}"), name.to_owned()))
                .with_name(name.to_owned()),
        )
    };
    let lower = graph.merge(base, [&part("a"), &part("b")]).with_name("lower");
    let step = graph.exec(
        Exec::on(&lower, shell("cat /opt/a /opt/b > /opt/both; rm /opt/a"))
            .network(NetworkMode::None)
            .with_name("step"),
    );
    let change = graph.diff(&lower, step.rootfs());
    let upper = graph.merge(base, [&part("c"), &change]).with_name("upper");
    graph.file(File::on(&upper).timestamp(time()).mkfile(MkfileAction::new("/opt/last", "last")).with_name("last"))
}

fn files() {
    let site = Site::new();
    let at = |engine: &dyn Engine, name: &str| {
        let output = Output::Files(FilesOutput::Directory(site.path(name)));
        site.solve(engine, SolveRequest { output, ..site.request("app") }).outcome();
        let mut lines = Vec::new();
        list(&site.path(name), &mut lines);
        lines
    };
    let (ours, theirs) = (at(&site.embedded(), "ours"), at(&site.docker(), "theirs"));
    assert!(ours.len() > 10);
    assert_eq!(ours, theirs);
    let tar = |engine: &dyn Engine, name: &str| {
        let output = Output::Files(FilesOutput::Tar(site.path(name)));
        site.solve(engine, SolveRequest { output, ..site.request("merged") }).outcome();
        fs::read(site.path(name)).expect("an archive")
    };
    assert!(tar(&site.embedded(), "ours.tar") == tar(&site.docker(), "theirs.tar"));
    let tree = SolveRequest { output: Output::Tree, ..site.request("app") };
    site.solve(&site.docker(), tree).outcome();
}

fn known() {
    let site = Site::new();
    let definition = site.graph(patterns);
    let engine = site.docker();
    let first = site.solve(&engine, site.request_of(definition.clone()));
    let began = std::time::Instant::now();
    let second = site.solve(&engine, site.request_of(definition));
    let (took, ended) = (began.elapsed(), second.ended());
    let is_layer = |event: &Event| matches!(event, Event::Transfer { item, .. } if item.starts_with("layer"));
    assert!(!second.events.iter().any(is_layer), "{:#?}", second.events);
    let cached = |name: &str| ended.iter().any(|(ended, outcome)| ended == name && *outcome == Outcome::Cached);
    assert!(cached("make") && cached("place") && cached("[docker] load base"), "{ended:?}");
    let (first, second) = (first.outcome(), second.outcome());
    assert_eq!(first.result, second.result);
    assert_eq!(first.materials, second.materials);
    assert!(second.cache.hits > 0, "{:?} {ended:?}", second.cache);
    assert!(took.as_secs() < 10, "{took:?}");
}

fn strangers() {
    let site = Site::new();
    let solution = site.solve(&site.docker(), site.request("whole-difference"));
    if solution.result.is_ok() {
        // A daemon whose images lie in containerd can do it.
        let embedded = site.solve(&site.embedded(), site.request("whole-difference")).image();
        assert_eq!(solution.image(), embedded);
        return;
    }
    assert!(solution.events.is_empty(), "{:?}", solution.events);
    let diagnostic = solution.diagnostic();
    assert_eq!(diagnostic.code.slug, codes::engine::MISSING_CAPABILITY.slug);
    assert!(diagnostic.message.contains("`diffop`"), "{diagnostic:?}");
}

fn failing() {
    let site = Site::new();
    let solution = site.solve(&site.docker(), site.request("fail echo said; echo why >&2; exit 3"));
    let diagnostic = solution.diagnostic();
    assert_eq!(diagnostic.code.slug, codes::engine::STEP_FAILED.slug, "{diagnostic:#?}");
    assert!(diagnostic.message.contains("exited with status 3"), "{diagnostic:#?}");
    assert!(diagnostic.related[0].lines.contains(&"why".to_owned()), "{diagnostic:#?}");
    assert_eq!(diagnostic.labels.len(), 1, "{diagnostic:#?}");
}

fn nothing_left() {
    let site = Site::new();
    let engine = site.docker();
    let dangling = || {
        let host = std::env::var("CLAWBUILD_TEST_DOCKER_HOST").expect("a host");
        let output = std::process::Command::new(support::tool("docker"))
            .args(["--host", &host, "images", "--all", "--quiet", "--filter", "dangling=true"])
            .output()
            .expect("docker runs");
        String::from_utf8_lossy(&output.stdout).lines().count()
    };
    let before = dangling();
    site.solve(&engine, site.request("app")).image();
    assert_eq!(dangling(), before);
}

fn nobody() {
    let site = Site::new();
    let engine = site.docker_at("/nowhere/docker.sock");
    let unavailable = site.runtime.block_on(engine.check_usable()).expect_err("nobody is there");
    assert_eq!(unavailable.engine, "docker");
    assert!(unavailable.why.contains("unix:///nowhere/docker.sock cannot be reached"), "{unavailable:?}");
    let diagnostic = site.solve(&engine, site.request("app")).diagnostic();
    assert_eq!(diagnostic.code.slug, codes::engine::UNREACHABLE.slug);
}
