//! Knowing and reading single files after a scan.

use std::fs;
use std::os::unix::fs::symlink;

use oci::Digest;

use super::tests::{Scene, settle};
use super::{Context, ContextError, Entry, Filters};

#[test]
fn each_file_s_digest_is_known_after_a_scan_for_it() {
    let scene = Scene::new();
    scene.write("dir/file", "content");
    scene.write("other", "x");
    let scan = || Context::scan_files(&scene.root(), &Filters::default(), &scene.store, |_| true).expect("scans");
    let digests = |context: &Context| context.entries().iter().map(Entry::digest).collect::<Vec<_>>();
    let expected = [None, Some(Digest::of("content")), Some(Digest::of("x"))];
    let first = scan();
    assert_eq!(digests(&first), expected);
    // Also where the digest of the whole is remembered.
    let memory = super::memory::Memory::new(&scene.store, &first.root, &Filters::default());
    memory.remember(&first.entries, first.digest, first.scanned_at + 1_000_000_000_000);
    assert_eq!(digests(&scene.scan(&Filters::default()).expect("scans")), [None; 3]);
    assert_eq!(digests(&scan()), expected);
    assert_eq!(scan().digest(), first.digest());
}

#[test]
fn contents_read_later_are_those_that_were_scanned() {
    let scene = Scene::new();
    scene.write("file", "scanned");
    let read = |context: &Context| {
        let entry = &context.entries()[0];
        let mut content = context.open(entry)?;
        let (mut all, mut chunk) = (Vec::new(), [0; 3]);
        loop {
            match content.read(&mut chunk)? {
                0 => return Ok(String::from_utf8(all).expect("text")),
                length => all.extend(&chunk[..length]),
            }
        }
    };
    let young = scene.scan(&Filters::default()).expect("scans");
    let mut old = scene.scan(&Filters::default()).expect("scans");
    settle(&mut old);
    for context in [&young, &old] {
        assert_eq!(read(context).expect("reads"), "scanned");
    }
    scene.write("file", "SCANNED");
    for context in [&young, &old] {
        assert!(matches!(read(context), Err::<String, _>(ContextError::Changed { path }) if path.ends_with("file")));
    }
    scene.write("file", "scanned");
    assert_eq!(read(&young).expect("the same content again"), "scanned");
    fs::remove_file(scene.root().join("file")).expect("removes");
    symlink("/etc/passwd", scene.root().join("file")).expect("links");
    for context in [&young, &old] {
        assert!(matches!(read(context), Err(ContextError::Changed { .. })));
    }
}
