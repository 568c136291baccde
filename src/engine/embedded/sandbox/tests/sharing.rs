//! Copies that are the snapshots' own files: that they are, that nobody can tell, and that snapshots do not change.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::Check;
use crate::fixture::{ALL, Bench, Who, files};

pub(crate) const CHECKS: &[Check] = &[
    ("unchanged files are shared", ALL, unchanged_files_are_shared),
    ("changed files are not shared", ALL, changed_files_are_not_shared),
    ("sharing makes no hard links", ALL, sharing_makes_no_hard_links),
    ("shared files are not changed in place", ALL, shared_files_are_not_changed_in_place),
];

/// Snapshots with these files, each holding its own path.
fn snapshots(bench: &Bench, who: Who, contents: &[&[&str]]) -> Vec<PathBuf> {
    let directory = bench.directory(who);
    let mut layers = Vec::new();
    for (number, paths) in contents.iter().enumerate() {
        let layer = directory.join(number.to_string()).join("fs");
        fs::create_dir_all(&layer).expect("a directory");
        for path in *paths {
            let at = layer.join(path);
            fs::create_dir_all(at.parent().expect("a parent")).expect("a directory");
            fs::write(&at, path).expect("a file");
            fs::set_permissions(&at, fs::Permissions::from_mode(0o640)).expect("permissions");
        }
        layers.push(layer);
    }
    for path in files(&directory) {
        bench.give(&path, who);
    }
    layers
}

/// Copies, and gives the snapshot made and what the tree showed.
fn copy(
    bench: &Bench,
    who: Who,
    source: &[PathBuf],
    target: &[PathBuf],
    copies: &[(&str, &str)],
    more: &Value,
) -> (PathBuf, String) {
    let directory = bench.directory(who);
    for name in ["process", "snapshot", "snapshot/fs"] {
        fs::create_dir(directory.join(name)).expect("a directory");
        bench.give(&directory.join(name), who);
    }
    let mut input = json!({
        "directory": directory.join("process"),
        "source": source,
        "target": target,
        "snapshot": directory.join("snapshot"),
        "single": who == Who::Single,
        "share": true,
        "copies": copies,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        input[key] = value.clone();
    }
    let shown = bench.tool(who, "copy", &input);
    (directory.join("snapshot/fs"), shown)
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).expect("it is there").ino()
}

/// Which paths are the same file, apart from anything outside.
fn linked(directory: &Path) -> Vec<Vec<String>> {
    let mut names: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for path in files(directory).iter().filter(|path| path.is_file()) {
        let name = path.strip_prefix(directory).expect("below").display().to_string();
        names.entry(inode(path)).or_default().push(name);
    }
    let mut linked: Vec<Vec<String>> = names.into_values().filter(|names| names.len() > 1).collect();
    for names in &mut linked {
        names.sort();
    }
    linked.sort();
    linked
}

fn unchanged_files_are_shared(bench: &Bench, who: Who) {
    let source =
        snapshots(bench, who, &[&["app/old", "app/deep/hidden", "app/deep/kept"], &["app/new", "app/deep/hidden"]]);
    let target = snapshots(bench, who, &[&["etc/x", "there/file"]]);
    let copies = [("/app", "/opt/app"), ("/app", "/there")];
    let (upper, shown) = copy(bench, who, &source, &target, &copies[..1], &json!({}));
    assert_eq!(
        shown,
        "etc/x etc/x\nopt/app/deep/hidden app/deep/hidden\nopt/app/deep/kept app/deep/kept\nopt/app/new app/new\nopt/app/old app/old\nthere/file there/file"
    );
    for (path, layer) in [("old", 0), ("new", 1), ("deep/hidden", 1), ("deep/kept", 0)] {
        assert_eq!(inode(&upper.join("opt/app").join(path)), inode(&source[layer].join("app").join(path)), "{path}");
    }
    // What is in a directory that was there before goes through the overlay.
    let (upper, shown) = copy(bench, who, &source, &target, &copies[1..], &json!({}));
    assert!(shown.contains("there/new app/new\nthere/old app/old"));
    assert_ne!(inode(&upper.join("there/new")), inode(&source[1].join("app/new")));
    assert_eq!(inode(&upper.join("there/deep/kept")), inode(&source[0].join("app/deep/kept")));
}

fn changed_files_are_not_shared(bench: &Bench, who: Who) {
    let source = snapshots(bench, who, &[&["app/deep/file"]]);
    let (upper, _) = copy(bench, who, &source, &[], &[("/app", "/app")], &json!({ "mode": 0o600 }));
    assert_ne!(inode(&upper.join("app/deep/file")), inode(&source[0].join("app/deep/file")));
    let mode = fs::metadata(source[0].join("app/deep/file")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    // From a tree into itself: it would see the file twice.
    let (upper, _) = copy(bench, who, &source, &source, &[("/app", "/again")], &json!({}));
    assert_ne!(inode(&upper.join("again/deep/file")), inode(&source[0].join("app/deep/file")));
}

fn sharing_makes_no_hard_links(bench: &Bench, who: Who) {
    let source = snapshots(bench, who, &[&["app/deep/file", "app/one"]]);
    fs::hard_link(source[0].join("app/one"), source[0].join("app/deep/two")).expect("a link");
    // Twice in one operation: one snapshot gets both.
    let (upper, _) = copy(bench, who, &source, &[], &[("/app", "/a"), ("/app", "/b")], &json!({}));
    let expected = |top: &str| [format!("{top}/deep/two"), format!("{top}/one")];
    assert_eq!(linked(&upper), [expected("a"), expected("b")], "links are those of the source");
    // Twice in two operations, seen in one tree and copied as a whole from there.
    let (first, _) = copy(bench, who, &source, &[], &[("/app", "/a")], &json!({}));
    let (second, _) = copy(bench, who, &source, std::slice::from_ref(&first), &[("/app", "/b")], &json!({}));
    assert_eq!(inode(&first.join("a/deep/file")), inode(&second.join("b/deep/file")));
    for share in [true, false] {
        let (whole, _) =
            copy(bench, who, &[first.clone(), second.clone()], &[], &[("/", "/whole")], &json!({ "share": share }));
        assert_eq!(linked(&whole.join("whole")), [expected("a"), expected("b")], "sharing: {share}");
    }
}

fn shared_files_are_not_changed_in_place(bench: &Bench, who: Who) {
    let source = snapshots(bench, who, &[&["app/deep/file"]]);
    let (upper, shown) = copy(bench, who, &source, &[], &[("/app", "/app")], &json!({ "overwrite": "/app/deep/file" }));
    assert_eq!(shown, "app/deep/file overwritten");
    let read = |root: &Path| fs::read_to_string(root.join("app/deep/file")).expect("it can be read");
    assert_eq!((read(&upper).as_str(), read(&source[0]).as_str()), ("overwritten", "app/deep/file"));
    let mode = fs::metadata(upper.join("app/deep/file")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "a file made over another is a new one");
}
