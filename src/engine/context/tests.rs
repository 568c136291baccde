//! Scanning and copying real directories.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use oci::Digest;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use store::Store;
use tempfile::TempDir;

use super::entry::Kind;
use super::patterns::{Inherited, Patterns};
use super::{Context, ContextError, Filters};

pub(super) struct Scene {
    directory: TempDir,
    pub(super) store: Store,
}

impl Scene {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join("root")).expect("creates");
        let store = Store::open(&directory.path().join("store")).expect("opens");
        Self { directory, store }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(super) fn write(&self, path: &str, content: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("creates");
        fs::write(path, content).expect("writes");
    }

    pub(super) fn scan(&self, filters: &Filters) -> Result<Context, ContextError> {
        Context::scan(&self.root(), filters, &self.store)
    }

    fn digest(&self) -> Digest {
        self.scan(&Filters::default()).expect("scans").digest()
    }

    fn paths(&self, filters: &Filters) -> Vec<String> {
        paths(&self.scan(filters).expect("scans"))
    }
}

fn paths(context: &Context) -> Vec<String> {
    context.entries().iter().map(|entry| entry.path().to_str().expect("text").to_owned()).collect()
}

fn exclude(patterns: &[&str]) -> Filters {
    Filters { exclude: owned(patterns), ..Filters::default() }
}

fn owned(patterns: &[&str]) -> Vec<String> {
    patterns.iter().map(|pattern| (*pattern).to_owned()).collect()
}

/// Moves a file's change time out of the time in which it could change unnoticed: waiting would take seconds.
pub(super) fn settle(context: &mut Context) {
    context.scanned_at += 1_000_000_000_000;
}

#[test]
fn parents_come_first_and_names_in_byte_order() {
    let scene = Scene::new();
    for path in ["b/x", "a/z", "a-b", "a/b/c", "B", "é"] {
        scene.write(path, path);
    }
    assert_eq!(
        scene.paths(&Filters::default()),
        ["B", "a", "a/b", "a/b/c", "a/z", "a-b", "b", "b/x", "é"].sorted_by_parts()
    );
}

trait SortedByParts {
    fn sorted_by_parts(self) -> Vec<String>;
}

impl<const N: usize> SortedByParts for [&str; N] {
    fn sorted_by_parts(self) -> Vec<String> {
        let mut paths = owned(&self);
        paths.sort_by(|a, b| a.split('/').cmp(b.split('/')));
        paths
    }
}

#[test]
fn exceptions_bring_their_directories_back() {
    let scene = Scene::new();
    for path in ["docs/a/keep", "docs/a/drop", "docs/b/drop", "src/x", "src/y.tmp"] {
        scene.write(path, path);
    }
    assert_eq!(
        scene.paths(&exclude(&["docs", "!docs/a/keep", "**/*.tmp"])),
        ["docs", "docs/a", "docs/a/keep", "src", "src/x"]
    );
    assert_eq!(scene.paths(&exclude(&["*", "!src/x"])), ["src", "src/x"]);
    assert_eq!(scene.paths(&exclude(&["*"])), [""; 0]);
}

#[test]
fn includes_and_followed_paths() {
    let scene = Scene::new();
    for path in ["a/b/c", "a/d", "e/f", "real/file", "real/other"] {
        scene.write(path, path);
    }
    for (target, link) in [
        ("real/file", "relative"),
        ("/real", "absolute"),
        ("../../../e", "a/climbs"),
        ("loop2", "loop1"),
        ("loop1", "loop2"),
        ("nowhere", "dangling"),
    ] {
        symlink(target, scene.root().join(link)).expect("links");
    }
    let include = |patterns: &[&str]| scene.paths(&Filters { include: owned(patterns), ..Filters::default() });
    assert_eq!(include(&["a/b"]), ["a", "a/b", "a/b/c"]);
    assert_eq!(include(&["**/f", "!e"]), ["e", "e/f"]);
    assert_eq!(include(&["a", "!a/d"]), ["a", "a/b", "a/b/c", "a/climbs"]);
    let follow = |paths: &[&str]| scene.paths(&Filters { follow_paths: owned(paths), ..Filters::default() });
    assert_eq!(follow(&["relative"]), ["real", "real/file", "relative"]);
    assert_eq!(follow(&["absolute/file"]), ["absolute", "real", "real/file"]);
    assert_eq!(follow(&["a/climbs/f"]), ["a", "a/climbs", "e", "e/f"]);
    assert_eq!(follow(&["loop1"]), ["loop1", "loop2"]);
    assert_eq!(follow(&["dangling"]), ["dangling"]);
    assert_eq!(follow(&["rel*"]), ["real", "real/file", "relative"]);
    assert_eq!(follow(&["missing"]), [""; 0]);
    assert_eq!(follow(&["../a/d"]), ["a", "a/d"]);
    assert_eq!(follow(&["."]).len(), scene.paths(&Filters::default()).len());
}

#[test]
fn the_digest_is_of_what_counts_and_of_nothing_else() {
    let scene = Scene::new();
    scene.write("dir/file", "content");
    scene.write("other", "x");
    symlink("dir/file", scene.root().join("link")).expect("links");
    let digest = scene.digest();
    assert_eq!(scene.digest(), digest);

    let elsewhere = Scene::new();
    elsewhere.write("other", "x");
    symlink("dir/file", elsewhere.root().join("link")).expect("links");
    elsewhere.write("dir/file", "content");
    assert_eq!(elsewhere.digest(), digest, "another place, another order, other times");

    let file = fs::File::options().write(true).open(scene.root().join("dir/file")).expect("opens");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).expect("sets");
    assert_eq!(scene.digest(), digest, "other times");

    let differs = |what: &str, change: &dyn Fn(&Scene)| {
        let scene = Scene::new();
        scene.write("dir/file", "content");
        scene.write("other", "x");
        symlink("dir/file", scene.root().join("link")).expect("links");
        assert_eq!(scene.digest(), digest);
        change(&scene);
        assert_ne!(scene.digest(), digest, "{what}");
    };
    let mode = |path: &'static str, mode| {
        move |scene: &Scene| {
            fs::set_permissions(scene.root().join(path), fs::Permissions::from_mode(mode)).expect("sets");
        }
    };
    differs("content", &|scene| scene.write("dir/file", "CONTENT"));
    differs("a new file", &|scene| scene.write("dir/new", ""));
    differs("a new directory", &|scene| fs::create_dir(scene.root().join("new")).expect("creates"));
    differs("a removed file", &|scene| fs::remove_file(scene.root().join("other")).expect("removes"));
    differs("a renamed file", &|scene| {
        fs::rename(scene.root().join("other"), scene.root().join("another")).expect("renames");
    });
    differs("a file's mode", &mode("other", 0o755));
    differs("a directory's mode", &mode("dir", 0o700));
    differs("a link", &|scene| {
        fs::remove_file(scene.root().join("link")).expect("removes");
        symlink("other", scene.root().join("link")).expect("links");
    });
}

#[test]
fn a_change_in_the_same_instant_is_seen() {
    let scene = Scene::new();
    let path = scene.root().join("file");
    let mut digests = BTreeSet::new();
    for round in 0..200 {
        // Same size, in place, as fast as can be: file times often do not move in between.
        fs::write(&path, format!("{round:03}")).expect("writes");
        assert!(digests.insert(scene.digest()), "round {round}");
    }
}

#[test]
fn old_files_are_not_read_again_and_young_ones_are() {
    let scene = Scene::new();
    scene.write("file", "old");
    let context = scene.scan(&Filters::default()).expect("scans");
    let stamp = context.entries[0].stamp;
    let memory = super::memory::Memory::new(&scene.store, &context.root, &Filters::default());
    assert!(memory.files().is_empty(), "too young to be remembered");
    assert_eq!(memory.tree(&super::memory::stamps(&context.entries)), None);

    let later = stamp.ctime + 3_000_000_000;
    let wrong = Digest::of("wrong on purpose");
    let mut entries = context.entries.clone();
    entries[0].kind = Kind::File(Some(wrong));
    memory.remember(&entries, wrong, later);
    let again = scene.scan(&Filters::default()).expect("scans");
    assert_eq!(again.digest(), wrong, "what is remembered is believed");
    let other = scene.scan(&exclude(&["x"])).expect("scans");
    assert_eq!(other.digest(), context.digest(), "each selection has a memory of its own");

    scene.write("second", "new");
    let third = scene.scan(&Filters::default()).expect("scans");
    assert_eq!(third.entries[0].kind, Kind::File(Some(wrong)), "file by file too");
    assert_eq!(third.entries[1].kind, Kind::File(Some(Digest::of("new"))));
    scene.write("file", "new");
    assert_ne!(scene.scan(&Filters::default()).expect("scans").entries[0].kind, Kind::File(Some(wrong)));
}

#[test]
fn copies_have_contents_modes_times_and_links() {
    let scene = Scene::new();
    scene.write("dir/file", "content");
    scene.write("dir/run.sh", "#!/bin/sh\n");
    scene.write("empty", "");
    scene.write("large", &"0123456789".repeat(100_000));
    symlink("/etc/passwd", scene.root().join("escapes")).expect("links");
    let root = scene.root();
    let set = |path: &str, mode| fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).expect("sets");
    set("dir/run.sh", 0o755);
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    fs::File::open(root.join("dir/file")).expect("opens").set_modified(time).expect("sets");
    fs::File::open(root.join("dir")).expect("opens").set_modified(time).expect("sets");
    set("dir", 0o555);
    let context = scene.scan(&Filters::default()).expect("scans");
    for attempt in ["young", "old"] {
        let mut context = scene.scan(&Filters::default()).expect("scans");
        if attempt == "old" {
            settle(&mut context);
        }
        let into = scene.directory.path().join(attempt);
        fs::create_dir(&into).expect("creates");
        context.materialise(&into).expect("copies");
        for entry in context.entries() {
            let [from, to] = [&root, &into].map(|base| base.join(entry.path()));
            let [source, copy] = [&from, &to].map(|path| fs::symlink_metadata(path).expect("stats"));
            assert_eq!((source.mode(), source.len().min(copy.len())), (copy.mode(), copy.len().min(source.len())));
            assert_eq!((source.mtime(), source.mtime_nsec()), (copy.mtime(), copy.mtime_nsec()), "{}", to.display());
            if source.is_file() {
                assert_eq!(fs::read(&from).expect("reads"), fs::read(&to).expect("reads"));
            }
        }
        assert_eq!(fs::read_link(into.join("escapes")).expect("a link"), Path::new("/etc/passwd"));
        let copied = Context::scan(&into, &Filters::default(), &scene.store).expect("scans");
        assert_eq!(copied.digest(), context.digest());
        set_writable(&into.join("dir"));
    }
    assert_eq!(context.entries()[0].size(), 0);
    set("dir", 0o755);
}

/// So that the temporary directory can be removed by others than root.
fn set_writable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("sets");
}

#[test]
fn a_file_that_changed_since_the_scan_is_not_copied_as_if_it_had_not() {
    let scene = Scene::new();
    scene.write("file", "scanned");
    let context = scene.scan(&Filters::default()).expect("scans");
    let copy = |name: &str| {
        let into = scene.directory.path().join(name);
        fs::create_dir(&into).expect("creates");
        context.materialise(&into)
    };
    scene.write("file", "changed");
    assert!(matches!(copy("1"), Err(ContextError::Changed { path }) if path.ends_with("file")));
    scene.write("file", "scanned");
    copy("2").expect("the same content again");
    fs::remove_file(scene.root().join("file")).expect("removes");
    assert!(matches!(copy("3"), Err(ContextError::Changed { .. })));
    symlink("/etc/passwd", scene.root().join("file")).expect("links");
    assert!(matches!(copy("4"), Err(ContextError::Changed { .. })));
}

#[test]
fn a_directory_swapped_for_a_link_does_not_lead_out() {
    let scene = Scene::new();
    scene.write("dir/file", "inside");
    let outside = scene.directory.path().join("outside");
    fs::create_dir(&outside).expect("creates");
    fs::write(outside.join("file"), "inside").expect("writes");
    let context = scene.scan(&Filters::default()).expect("scans");
    fs::rename(scene.root().join("dir"), scene.root().join("moved")).expect("renames");
    symlink(&outside, scene.root().join("dir")).expect("links");
    let into = scene.directory.path().join("into");
    fs::create_dir(&into).expect("creates");
    assert!(matches!(context.materialise(&into), Err(ContextError::Changed { .. })));
}

#[test]
fn what_cannot_be_part_of_a_build() {
    let scene = Scene::new();
    let _listener = std::os::unix::net::UnixListener::bind(scene.root().join("socket")).expect("binds");
    assert_eq!(scene.paths(&Filters::default()), [""; 0], "sockets are left out");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        scene.root().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("makes");
    assert!(matches!(scene.scan(&Filters::default()), Err(ContextError::SpecialFile { kind: "FIFO", .. })));
    scene.scan(&exclude(&["pipe"])).expect("left out, it does not matter");
    let missing = Context::scan(&scene.root().join("missing"), &Filters::default(), &scene.store);
    assert!(matches!(missing, Err(ContextError::NotADirectory { .. })));
    scene.write("file", "");
    let file = Context::scan(&scene.root().join("file"), &Filters::default(), &scene.store);
    assert!(matches!(file, Err(ContextError::NotADirectory { .. })));
    assert!(matches!(scene.scan(&exclude(&["["])), Err(ContextError::Pattern(_))));
}

#[test]
fn the_root_may_be_a_link_and_names_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt as _;
    let scene = Scene::new();
    let name = std::ffi::OsStr::from_bytes(b"odd\xff\nname");
    fs::write(scene.root().join(name), "x").expect("writes");
    let link = scene.directory.path().join("link");
    symlink(scene.root(), &link).expect("links");
    let context = Context::scan(&link, &Filters::default(), &scene.store).expect("scans");
    assert_eq!(context.entries()[0].path().as_os_str(), name);
    assert_eq!(context.digest(), scene.digest());
    let into = scene.directory.path().join("into");
    fs::create_dir(&into).expect("creates");
    context.materialise(&into).expect("copies");
    assert!(into.join(name).exists());
}

#[test]
fn an_excluded_directory_nobody_can_read_does_not_matter() {
    // Root reads everything; only an ordinary user meets the error. Both must get the same list.
    let scene = Scene::new();
    scene.write("secret/file", "x");
    scene.write("a", "x");
    let secret = scene.root().join("secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).expect("sets");
    assert_eq!(scene.paths(&exclude(&["secret"])), ["a"]);
    assert_eq!(scene.paths(&exclude(&["secret", "!secret/other"])), ["a"]);
    set_writable(&secret);
}

fn path_part() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just("ab"), Just(".c")].prop_map(str::to_owned)
}

fn filter_patterns() -> impl Strategy<Value = Vec<String>> {
    let part = prop_oneof![3 => path_part(), 1 => Just("*".to_owned()), 1 => Just("**".to_owned()), 1 => Just("a*".to_owned())];
    let pattern = (any::<bool>(), proptest::collection::vec(part, 1..4))
        .prop_map(|(negated, parts)| format!("{}{}", if negated { "!" } else { "" }, parts.join("/")));
    proptest::collection::vec(pattern, 0..4)
}

/// Skipping directories that cannot hold anything selected must not change what is selected.
#[test]
fn a_walk_selects_what_the_patterns_say() {
    let scene = Scene::new();
    let files = proptest::collection::btree_set(proptest::collection::vec(path_part(), 1..4), 1..10);
    let cases = (files, filter_patterns(), filter_patterns());
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) });
    let result = runner.run(&cases, |(files, include, exclude)| {
        let root = tempfile::tempdir_in(scene.root()).expect("a directory");
        for parts in &files {
            // A file where a directory is needed, or the other way round: the first one stays.
            let path = root.path().join(parts.join("/"));
            if fs::create_dir_all(path.parent().expect("a parent")).is_ok() && !path.is_dir() {
                fs::write(&path, "x").expect("writes");
            }
        }
        let scan = |filters: &Filters| paths(&Context::scan(root.path(), filters, &scene.store).expect("scans"));
        let all = scan(&Filters::default());
        let lists =
            [&include, &exclude].map(|list| Patterns::parse(list.iter().map(String::as_str)).expect("patterns"));
        let verdict = |patterns: &Patterns, path: &str| {
            let mut inherited = Inherited::default();
            let mut is_match = false;
            for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
                (is_match, inherited) = patterns.matches(&path[..end], &inherited);
            }
            is_match
        };
        let selected: Vec<&String> = all
            .iter()
            .filter(|path| (lists[0].is_empty() || verdict(&lists[0], path)) && !verdict(&lists[1], path))
            .collect();
        let expected: Vec<&String> = all
            .iter()
            .filter(|path| selected.iter().any(|chosen| chosen == path || chosen.starts_with(&format!("{path}/"))))
            .collect();
        let found = scan(&Filters { include, exclude, follow_paths: Vec::new() });
        prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected);
        Ok(())
    });
    result.expect("every case holds");
}
