//! The same result on either engine.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use diag::Reported as _;
use engine::{Engine as _, FilesOutput, Output, SolveRequest};

use crate::Check;
use crate::base::Parents;
use crate::site::{EPOCH, Site};

pub(crate) const CHECKS: &[Check] = &[
    ("an image is the same: app", || image("app")),
    ("an image is the same: owners", || image("owners")),
    ("an image is the same: part", || image("part")),
    ("an image is the same: merged", || image("merged")),
    ("an image is the same: changes", || image("changes")),
    ("an image is the same: whole-difference", || image("whole-difference")),
    ("an image is the same: base", || image("base")),
    ("an image is the same: nothing", || image("nothing")),
    ("an image is the same: deep", || image("deep 20")),
    ("an image is the same: many", || image("many")),
    ("an image is the same: secret", || image("secret")),
    ("an image is the same: a large layer", || {
        image("shell i=0; while [ $i -lt 40 ]; do cat /lib/*/libc.so.6; echo $i; i=$((i+1)); done > /large")
    }),
    ("several at a time", several),
    ("files are the same", files),
    ("an archive is the same", archive),
    ("what is known is neither made nor sent again", known),
    ("a difference: a dangling link that is removed", dangling),
    ("a difference: directories that a layer only implies", implied),
    ("an image is the same: a step that signals itself", || image("shell kill -KILL $$; echo alive")),
];

fn image(graph: &str) {
    let site = Site::new();
    same_image(&site, || site.request(graph));
}

/// Solves on either engine and compares everything.
#[track_caller]
pub(crate) fn same_image(site: &Site, request: impl Fn() -> SolveRequest) {
    let embedded = site.solve(&site.embedded(), request()).image();
    let buildkit = site.solve(&site.buildkit(), request()).image();
    if embedded != buildkit {
        panic!("{}", difference(site.contents("embedded", &embedded), site.contents("buildkit", &buildkit)));
    }
}

/// What only one of two images has: the embedded engine's, and the other.
pub(crate) fn difference(ours: Vec<String>, theirs: Vec<String>) -> String {
    let only = |these: &[String], those: &[String]| {
        let lines: Vec<&str> = these.iter().filter(|line| !those.contains(line)).map(String::as_str).collect();
        lines.join("\n")
    };
    format!("only embedded:\n{}\nonly the other:\n{}", only(&ours, &theirs), only(&theirs, &ours))
}

fn files() {
    let site = Site::new();
    let at = |engine: &dyn engine::Engine, name: &str| {
        let output = Output::Files(FilesOutput::Directory(site.path(name)));
        site.solve(engine, SolveRequest { output, ..site.request("app") }).outcome();
        let mut lines = Vec::new();
        list(&site.path(name), &mut lines);
        lines
    };
    let (ours, theirs) = (at(&site.embedded(), "ours"), at(&site.buildkit(), "theirs"));
    assert!(ours.len() > 10);
    assert_eq!(ours, theirs);
}

pub(crate) fn list(directory: &Path, lines: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let meta = path.symlink_metadata().unwrap();
        let content = match meta.is_file() {
            true => oci::Digest::of(fs::read(&path).unwrap()).to_string(),
            false => fs::read_link(&path).map(|target| target.display().to_string()).unwrap_or_default(),
        };
        let (mode, uid, gid, mtime) = (meta.mode(), meta.uid(), meta.gid(), meta.mtime());
        lines.push(format!("{} {mode:o} {uid}:{gid} {mtime} {content}", path.file_name().unwrap().display()));
        if meta.is_dir() {
            list(&path, lines);
        }
    }
}

fn archive() {
    let site = Site::new();
    let at = |engine: &dyn engine::Engine, name: &str| {
        let output = Output::Files(FilesOutput::Tar(site.path(name)));
        site.solve(engine, SolveRequest { output, ..site.request("app") }).outcome();
        fs::read(site.path(name)).unwrap()
    };
    let (ours, theirs) = (at(&site.embedded(), "ours.tar"), at(&site.buildkit(), "theirs.tar"));
    assert!(ours == theirs, "{} and {} bytes", ours.len(), theirs.len());
}

fn known() {
    let site = Site::new();
    let engine = site.buildkit();
    let first = site.solve(&engine, site.request("app"));
    let began = std::time::Instant::now();
    let second = site.solve(&engine, site.request("app"));
    let (took, ended) = (began.elapsed(), second.ended());
    let sent = second
        .events
        .iter()
        .any(|event| matches!(event, diag::progress::Event::Transfer { item, .. } if item.starts_with("layer")));
    assert!(!sent, "{:#?}", second.events);
    assert!(
        ended.iter().any(|(name, outcome)| name == "build" && *outcome == diag::progress::Outcome::Cached),
        "{ended:?}"
    );
    assert_eq!(first.image(), second.image());
    assert!(took.as_secs() < 5, "{took:?}");
}

/// BuildKit looks for what a link leads to, on the machine it runs on, before it removes the link. Here the link itself
/// is looked for.
fn dangling() {
    let site = Site::new();
    let ours = site.solve(&site.embedded(), site.request("dangling"));
    let theirs = site.solve(&site.buildkit(), site.request("dangling"));
    ours.image();
    let refused = theirs.diagnostic();
    assert!(refused.message.contains("no such file or directory"), "{refused:#?}");
}

fn several() {
    let site = Site::new();
    let engine = site.buildkit();
    let graphs = ["app", "merged", "changes", "app", "many"];
    let solves = graphs.map(|graph| {
        engine.solve(site.request(graph), diag::progress::Progress::none(), tokio_util::sync::CancellationToken::new())
    });
    let solved = site.runtime.block_on(futures::future::join_all(solves));
    for (graph, outcome) in graphs.into_iter().zip(solved) {
        let found = outcome.unwrap_or_else(|error| panic!("{graph}: {:#?}", error.diagnostic())).result;
        let expected = site.solve(&site.embedded(), site.request(graph)).outcome().result;
        assert_eq!(found, expected, "{graph}");
    }
}

/// A layer of a base may hold a file without an entry for the directory it is in. Where BuildKit unpacks it, the
/// directory gets the time of that; here it keeps the one it has below, which does not depend on when that was. It shows
/// where the base is compared with a tree it was not made of.
fn implied() {
    let site = Site::on(Parents::Implied);
    let request = || site.request("stranger");
    let ours = site.solve(&site.embedded(), request()).image();
    let theirs = site.solve(&site.buildkit(), request()).image();
    let (ours, theirs) = (site.contents("embedded", &ours), site.contents("buildkit", &theirs));
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|line| !line.starts_with("layer") && !those.contains(line)).cloned().collect()
    };
    let (ours, theirs) = (only(&ours, &theirs), only(&theirs, &ours));
    assert_eq!((ours.len(), theirs.len()), (1, 1), "{ours:#?} {theirs:#?}");
    assert!(ours[0].starts_with("etc ") && ours[0].contains("mtime: 0,"), "{ours:#?}");
    assert!(theirs[0].starts_with("etc ") && theirs[0].contains(&format!("mtime: {EPOCH},")), "{theirs:#?}");
}
