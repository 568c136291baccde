//! File operations on trees of a temporary directory. Owners are recorded rather than real, so no privileges are needed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use llb::{
    Account, CopyAction, FileActionKind, InputIndex, MkdirAction, MkfileAction, Owner, RmAction, SymlinkAction,
    Timestamp,
};
use oci::layer::Snapshot;
use oci::layer::ownership::Ownership;
use oci::layer::tar::{Entry, Kind, TarWriter};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::{FileOpError, Source, TreeEditor};
use crate::embedded::mount::Root;

const EPOCH: i64 = 1_700_000_000;
const OLD: i64 = 1_000_000_000;

/// Two trees: one that is copied from and one that is changed.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for tree in ["source/fs", "target/fs"] {
            fs::create_dir_all(directory.path().join(tree)).expect("a directory");
        }
        Self { directory }
    }

    fn source(&self) -> PathBuf {
        self.directory.path().join("source/fs")
    }

    fn target(&self) -> PathBuf {
        self.directory.path().join("target/fs")
    }

    /// Files that hold their own path; a slash at the end makes a directory, `->` a link.
    fn with(self, source: &[&str], target: &[&str]) -> Self {
        for (root, paths) in [(self.source(), source), (self.target(), target)] {
            for path in paths {
                let (path, link) = path.split_once("->").map_or((*path, None), |(path, link)| (path, Some(link)));
                let at = root.join(path.trim_end_matches('/'));
                fs::create_dir_all(at.parent().expect("a parent")).expect("a directory");
                match link {
                    Some(link) => symlink(link, at).expect("a link"),
                    None if path.ends_with('/') => fs::create_dir_all(at).expect("a directory"),
                    None => fs::write(at, path).expect("a file"),
                }
            }
            age(&root);
        }
        self
    }

    fn apply(&self, action: &FileActionKind) -> Result<(), FileOpError> {
        let (source, target) = (self.source(), self.target());
        let (source_root, target_root) =
            (fs::File::open(&source).expect("opens"), fs::File::open(&target).expect("opens"));
        let (source_root, target_root) = (Root::new(source_root.as_fd()), Root::new(target_root.as_fd()));
        let snapshot = Snapshot::at(target.parent().expect("a snapshot"));
        let epoch = Timestamp::from_seconds(EPOCH);
        let mut editor = TreeEditor::open(target_root, &snapshot, Ownership::Recorded, epoch).expect("an editor");
        let layers = [source];
        let source = Source { root: source_root, layers: &layers };
        editor.apply(action, Some(source), |InputIndex(input)| (input == 0).then_some(source_root))?;
        editor.finish()
    }

    fn copy(&self, src: &str, dest: &str, change: impl FnOnce(&mut CopyAction)) -> Result<(), FileOpError> {
        let mut action = CopyAction {
            src: src.to_owned(),
            dest: dest.to_owned(),
            owner: None,
            mode: None,
            follow_symlink: false,
            dir_copy_contents: false,
            attempt_unpack: false,
            create_dest_path: true,
            allow_wildcard: true,
            allow_empty_wildcard: false,
            timestamp: None,
            include: Vec::new(),
            exclude: Vec::new(),
            always_replace: false,
        };
        change(&mut action);
        self.apply(&FileActionKind::Copy(action))
    }

    /// What lies in the changed tree: `path` for files, `path/` for directories, `path->target` for links.
    fn listing(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.target(), &self.target(), &mut found);
        found
    }

    fn meta(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.target().join(path)).expect("it is there")
    }

    fn mode(&self, path: &str) -> u32 {
        self.meta(path).permissions().mode() & 0o7777
    }

    fn owner(&self, path: &str) -> String {
        let mut value = [0; 64];
        let length =
            rustix::fs::lgetxattr(self.target().join(path), "user.clawbuild.owner", &mut value[..]).unwrap_or(0);
        String::from_utf8_lossy(&value[..length]).into_owned()
    }
}

fn list(root: &Path, directory: &Path, found: &mut Vec<String>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory).expect("lists").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        let shown = path.strip_prefix(root).expect("below").display().to_string();
        let kind = fs::symlink_metadata(&path).expect("it is there").file_type();
        if kind.is_symlink() {
            found.push(format!("{shown}->{}", fs::read_link(&path).expect("a link").display()));
        } else if kind.is_dir() {
            found.push(format!("{shown}/"));
            list(root, &path, found);
        } else {
            found.push(shown);
        }
    }
}

/// Makes everything below long past.
fn age(directory: &Path) {
    let time = Timespec { tv_sec: OLD, tv_nsec: 5 };
    for entry in fs::read_dir(directory).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.is_symlink() {
            age(&path);
        }
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("times");
    }
}

#[test]
fn where_copies_go() {
    let source = ["file", "other", "dir/a", "dir/deep/b", "empty/"];
    let contents = |action: &mut CopyAction| action.dir_copy_contents = true;
    let exact = |action: &mut CopyAction| action.allow_wildcard = false;
    let directory = |_: &mut CopyAction| {};
    type Change = fn(&mut CopyAction);
    for (src, dest, change, target, expected) in [
        ("/file", "/new", directory as Change, &[][..], &["new"][..]),
        ("/file", "/new/", directory, &[], &["new/", "new/file"]),
        ("/file", "/x/y/new", directory, &[], &["x/", "x/y/", "x/y/new"]),
        ("/file", "/there", directory, &["there/"], &["there/", "there/file"]),
        ("/file", "/there", directory, &["there"], &["there"]),
        ("/file", "/", directory, &[], &["file"]),
        ("/file", "/link", directory, &["link->there", "there/"], &["link->there", "there/", "there/file"]),
        ("/file", "/link", directory, &["link->/dangling/x"], &["dangling/", "dangling/x", "link->/dangling/x"]),
        ("/dir", "/new", directory, &[], &["new/", "new/a", "new/deep/", "new/deep/b"]),
        (
            "/dir",
            "/there",
            directory,
            &["there/"],
            &["there/", "there/dir/", "there/dir/a", "there/dir/deep/", "there/dir/deep/b"],
        ),
        ("/dir", "/there", contents, &["there/x"], &["there/", "there/a", "there/deep/", "there/deep/b", "there/x"]),
        ("/dir/", "/new/", contents, &[], &["new/", "new/a", "new/deep/", "new/deep/b"]),
        ("/dir/.", "/there", exact, &["there/"], &["there/", "there/a", "there/deep/", "there/deep/b"]),
        (
            "/",
            "/all",
            contents,
            &[],
            &[
                "all/",
                "all/dir/",
                "all/dir/a",
                "all/dir/deep/",
                "all/dir/deep/b",
                "all/empty/",
                "all/file",
                "all/other",
            ],
        ),
        ("/*e*", "/in/", directory, &[], &["in/", "in/empty/", "in/file", "in/other"]),
        ("/d*/d??p/[a-c]", "/in/", directory, &[], &["in/", "in/b"]),
        ("/../../file", "/../new", directory, &[], &["new"]),
        // As in BuildKit, `..` in a destination is taken away before links and files on the way are looked at.
        ("/file", "/plain/x/../../new", directory, &["plain"], &["new", "plain"]),
        (
            "/",
            "/plain",
            |action| action.always_replace = true,
            &["plain"],
            &[
                "plain/",
                "plain/dir/",
                "plain/dir/a",
                "plain/dir/deep/",
                "plain/dir/deep/b",
                "plain/empty/",
                "plain/file",
                "plain/other",
            ],
        ),
    ] {
        let bench = Bench::new().with(&source, target);
        bench.copy(src, dest, change).unwrap_or_else(|error| panic!("{src} to {dest}: {error}"));
        assert_eq!(bench.listing(), expected, "{src} to {dest}");
    }
}

#[test]
fn what_is_not_copied() {
    let bench = Bench::new().with(&["file", "dir/a"], &["plain", "there/file/x", "there/dir"]);
    let error = |src: &str, dest: &str, change: fn(&mut CopyAction)| {
        bench.copy(src, dest, change).expect_err("must fail").to_string()
    };
    let nothing = |_: &mut CopyAction| {};
    assert_eq!(error("/missing", "/x", nothing), "`/missing` does not exist");
    assert_eq!(error("/missing/*", "/x", nothing), "`/missing` does not exist");
    assert_eq!(error("/file/x", "/x", nothing), "`/file/x` does not exist");
    assert_eq!(error("/*.txt", "/x", nothing), "nothing matches `/*.txt`");
    assert_eq!(error("/file", "/plain/x", nothing), "`/plain` is not a directory");
    assert_eq!(error("/file", "/there", nothing), "`/there/file` is a directory, which a file cannot replace");
    assert_eq!(error("/dir", "/there", nothing), "`/there/dir` is not a directory");
    assert_eq!(error("/file", "/no/x", |action| action.create_dest_path = false), "`/no` does not exist");
    assert_eq!(
        error("/file", "/x", |action| action.exclude = vec!["[".to_owned()]).split(':').next(),
        Some("`[` is not a pattern")
    );
    bench.copy("/*.txt", "/x", |action| action.allow_empty_wildcard = true).expect("an empty match is allowed");
    bench.copy("/file", "/there", |action| action.always_replace = true).expect("replaces");
    bench.copy("/dir", "/there", |action| action.always_replace = true).expect("replaces");
    assert_eq!(bench.listing(), ["plain", "there/", "there/dir/", "there/dir/a", "there/file"]);
}

#[test]
fn links_are_followed_inside_only() {
    let source = ["secret->/etc/passwd", "etc/passwd", "up->../../../../../../etc/passwd", "into->/real", "real/x"];
    let bench = Bench::new().with(&source, &["out->/etc", "etc/"]);
    let follow = |action: &mut CopyAction| action.follow_symlink = true;
    bench.copy("/secret", "/a", follow).expect("copies");
    bench.copy("/up", "/b", follow).expect("copies");
    bench.copy("/into/x", "/c", |_| {}).expect("copies");
    bench.copy("/secret", "/d", |_| {}).expect("copies");
    bench.copy("/real/x", "/out/e", |_| {}).expect("copies");
    assert_eq!(bench.listing(), ["a", "b", "c", "d->/etc/passwd", "etc/", "etc/e", "out->/etc"]);
    assert_eq!(fs::read_to_string(bench.target().join("b")).expect("reads"), "etc/passwd");
}

#[test]
fn patterns_choose() {
    let source = ["src/a.rs", "src/b.txt", "src/deep/c.rs", "src/deep/d.txt", "src/none/e.txt", "top.rs"];
    let copy = |include: &[&str], exclude: &[&str]| {
        let bench = Bench::new().with(&source, &[]);
        let owned = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        bench
            .copy("/", "/", |action| {
                action.dir_copy_contents = true;
                (action.include, action.exclude) = (owned(include), owned(exclude));
            })
            .expect("copies");
        bench.listing()
    };
    assert_eq!(copy(&["**/*.rs"], &[]), ["src/", "src/a.rs", "src/deep/", "src/deep/c.rs", "top.rs"]);
    assert_eq!(copy(&["src/deep"], &[]), ["src/", "src/deep/", "src/deep/c.rs", "src/deep/d.txt"]);
    assert_eq!(
        copy(&["src"], &["**/*.txt", "!src/b.txt"]),
        ["src/", "src/a.rs", "src/b.txt", "src/deep/", "src/deep/c.rs", "src/none/"]
    );
    assert_eq!(copy(&[], &["src"]), ["top.rs"]);
    assert_eq!(copy(&["nothing"], &[]), [""; 0]);
}

#[test]
fn owner_mode_and_times() {
    let bench = Bench::new().with(&["dir/file", "dir/link->file", "etc/passwd", "etc/group"], &["here/", "kept/dir/"]);
    fs::write(bench.source().join("etc/passwd"), "app:x:1001:1002::/:\n").expect("accounts");
    fs::write(bench.source().join("etc/group"), "staff:x:50:\n").expect("groups");
    fs::set_permissions(bench.source().join("dir/file"), fs::Permissions::from_mode(0o4640)).expect("permissions");
    age(&bench.source());
    let by_name = |name: &str| Some(Account::Name { name: name.to_owned(), input: Some(InputIndex(0)) });

    bench.copy("/dir", "/here/as/is", |_| {}).expect("copies");
    assert_eq!((bench.mode("here/as/is/file"), bench.owner("here/as/is/file")), (0o4640, String::new()));
    for path in ["here/as/is", "here/as/is/file", "here/as/is/link"] {
        assert_eq!((bench.meta(path).mtime(), bench.meta(path).mtime_nsec()), (OLD, 5), "{path}");
    }
    for path in ["here", "here/as"] {
        assert_eq!((bench.meta(path).mtime(), bench.meta(path).mtime_nsec()), (EPOCH, 0), "{path}");
    }

    // A directory made to be copied over is the source's in all but its owner.
    bench.copy("/dir", "/contents/of", |action| action.dir_copy_contents = true).expect("copies");
    assert_eq!((bench.meta("contents/of").mtime(), bench.meta("contents").mtime()), (OLD, EPOCH));

    bench
        .copy("/dir", "/changed/it", |action| {
            action.owner = Some(Owner { user: by_name("app"), group: by_name("staff") });
            action.mode = Some(0o2750);
            action.timestamp = Some(Timestamp(1_234_567_890_000_000_007));
        })
        .expect("copies");
    for path in ["changed", "changed/it", "changed/it/file"] {
        assert_eq!(bench.owner(path), "1001:50", "{path}");
        assert_eq!((bench.meta(path).mtime(), bench.meta(path).mtime_nsec()), (1_234_567_890, 7), "{path}");
    }
    assert_eq!(
        (bench.mode("changed"), bench.mode("changed/it"), bench.mode("changed/it/file")),
        (0o750, 0o2750, 0o2750)
    );
    let owners = fs::read_to_string(bench.target().with_file_name("symlink-owners")).expect("owners of links");
    assert_eq!(owners, "1001:50 changed/it/link\n");

    let numbers = |user| Some(Owner { user: Some(Account::Id(user)), group: None });
    bench.copy("/dir/file", "/kept/dir/", |action| action.owner = numbers(7)).expect("copies");
    assert_eq!((bench.owner("kept/dir/file"), bench.owner("kept/dir")), ("7:7".to_owned(), String::new()));
    let unknown = Some(Owner { user: by_name("nobody"), group: None });
    let error = bench.copy("/dir", "/x", |action| action.owner = unknown).expect_err("no such user");
    assert_eq!(error.to_string(), "no user `nobody` in /etc/passwd");
}

#[test]
fn recorded_owners_travel() {
    let bench = Bench::new().with(&["dir/file", "dir/link->file"], &[]);
    let snapshot = bench.source();
    for path in ["dir", "dir/file"] {
        rustix::fs::lsetxattr(snapshot.join(path), "user.clawbuild.owner", b"12:34", rustix::fs::XattrFlags::empty())
            .expect("an attribute");
    }
    fs::write(snapshot.with_file_name("symlink-owners"), "56:78 dir/link\n").expect("owners of links");
    bench.copy("/dir", "/copy", |_| {}).expect("copies");
    assert_eq!((bench.owner("copy"), bench.owner("copy/file")), ("12:34".to_owned(), "12:34".to_owned()));
    let owners = || fs::read_to_string(bench.target().with_file_name("symlink-owners"));
    assert_eq!(owners().expect("owners of links"), "56:78 copy/link\n");
    let rm = RmAction { path: "/copy".to_owned(), allow_not_found: false, allow_wildcard: false };
    bench.apply(&FileActionKind::Rm(rm)).expect("removes");
    assert!(owners().is_err(), "records of what is gone are gone");
}

#[test]
fn hard_links_and_attributes() {
    let bench = Bench::new().with(&["a/one", "b/"], &["x/b/three"]);
    fs::hard_link(bench.source().join("a/one"), bench.source().join("b/two")).expect("a link");
    fs::hard_link(bench.source().join("a/one"), bench.source().join("b/three")).expect("a link");
    rustix::fs::lsetxattr(bench.source().join("a/one"), "user.note", b"hi", rustix::fs::XattrFlags::empty())
        .expect("an attribute");
    bench.copy("/", "/x", |action| action.dir_copy_contents = true).expect("copies");
    assert_eq!(bench.meta("x/a/one").ino(), bench.meta("x/b/two").ino());
    assert_eq!(bench.meta("x/a/one").ino(), bench.meta("x/b/three").ino());
    assert_ne!(bench.meta("x/a/one").ino(), fs::metadata(bench.source().join("a/one")).expect("it is there").ino());
    let mut value = [0; 2];
    rustix::fs::lgetxattr(bench.target().join("x/b/two"), "user.note", &mut value[..]).expect("an attribute");
    assert_eq!(&value, b"hi");
}

#[test]
fn making_and_removing() {
    let bench = Bench::new().with(&[], &["etc/passwd", "etc/motd->/run/motd", "a1/x", "a2", "b"]);
    fs::set_permissions(bench.target().join("etc/passwd"), fs::Permissions::from_mode(0o600)).expect("permissions");
    let mkfile = |path: &str, data: &str| {
        let owner = Some(Owner::id(1, 2));
        let action = MkfileAction { path: path.to_owned(), mode: 0o664, data: data.into(), owner, timestamp: None };
        bench.apply(&FileActionKind::Mkfile(action))
    };
    mkfile("/etc/new", "content").expect("writes");
    assert_eq!((bench.mode("etc/new"), bench.owner("etc/new")), (0o664, "1:2".to_owned()));
    assert_eq!((bench.meta("etc/new").mtime(), bench.meta("etc").mtime()), (EPOCH, EPOCH));
    mkfile("/etc/passwd", "shorter").expect("overwrites");
    assert_eq!(bench.mode("etc/passwd"), 0o664, "it is another file");
    assert_eq!(fs::read_to_string(bench.target().join("etc/passwd")).expect("reads"), "shorter");
    assert_eq!(mkfile("/no/where", "").expect_err("no directory").to_string(), "`/no` does not exist");
    assert_eq!(
        mkfile("/etc", "").expect_err("a directory").to_string(),
        "`/etc` is a directory, which a file cannot replace"
    );

    let mkdir = |path: &str, make_parents| {
        let action = MkdirAction { path: path.to_owned(), mode: 0o1777, make_parents, owner: None, timestamp: None };
        bench.apply(&FileActionKind::Mkdir(action))
    };
    mkdir("/var/lib/x", true).expect("makes");
    mkdir("/var/lib/x", true).expect("is there");
    mkdir("/var/lib", false).expect("is there");
    assert_eq!(
        (bench.mode("var/lib/x"), bench.meta("var").mtime(), bench.meta("var/lib/x").mtime()),
        (0o777, EPOCH, EPOCH)
    );
    assert!(mkdir("/no/parent", false).is_err());
    assert_eq!(mkdir("/b/x", true).expect_err("a file").to_string(), "`/b` is not a directory");

    let link = SymlinkAction { target: "../x".to_owned(), path: "/etc/motd".to_owned(), owner: None, timestamp: None };
    assert!(bench.apply(&FileActionKind::Symlink(link)).is_err(), "/run is not there");
    let link = SymlinkAction { target: "../x".to_owned(), path: "/etc/link".to_owned(), owner: None, timestamp: None };
    bench.apply(&FileActionKind::Symlink(link)).expect("links");

    let rm = |path: &str, allow_not_found, allow_wildcard| {
        bench.apply(&FileActionKind::Rm(RmAction { path: path.to_owned(), allow_not_found, allow_wildcard }))
    };
    rm("/a?", false, true).expect("removes");
    rm("/nothing*", false, true).expect("nothing matches, which is fine");
    rm("/etc/motd", false, false).expect("removes the link, not what it points to");
    rm("/gone", true, false).expect("is not there");
    assert_eq!(rm("/gone", false, false).expect_err("is not there").to_string(), "`/gone` does not exist");
    assert!(matches!(rm("/etc/../", false, false), Err(FileOpError::RemovesRoot)));
    assert_eq!(
        bench.listing(),
        ["b", "etc/", "etc/link->../x", "etc/new", "etc/passwd", "var/", "var/lib/", "var/lib/x/"]
    );
}

fn archive(entries: &[(Entry, &str)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        match &entry.kind {
            Kind::File { .. } => writer.append_bytes(entry, content.as_bytes()).expect("an entry"),
            _ => writer.append_empty(entry).expect("an entry"),
        }
    }
    writer.finish().expect("an archive")
}

#[test]
fn archives_are_unpacked() {
    let plain = archive(&[
        (Entry::directory("dir").with_mode(0o750).with_mtime(OLD).with_owner(3, 4), ""),
        (Entry::file("dir/file", 5).with_mode(0o4755).with_mtime(OLD + 1), "hello"),
        (Entry::symlink("dir/link", "/dir/file").with_mtime(OLD), ""),
        (Entry::hard_link("again", "dir/file").with_mode(0o4755).with_mtime(OLD + 1), ""),
        (Entry::file("implied/file", 2).with_mtime(OLD), "hi"),
        // The link is the archive's own, and leads to the destination's `dir`.
        (Entry::symlink("out", "/dir"), ""),
        (Entry::file("out/through", 1).with_mtime(OLD), "x"),
    ]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("compresses");
    let archives = BTreeMap::from([
        ("a.tar", plain.clone()),
        ("a.tar.gz", gzip.finish().expect("compresses")),
        ("a.tar.zst", zstd::encode_all(&plain[..], 1).expect("compresses")),
        ("a.tar.xz", XZ_OF_NOTHING.to_vec()),
        ("text", b"no archive".to_vec()),
    ]);
    let unpack = |action: &mut CopyAction| action.attempt_unpack = true;
    for name in ["a.tar", "a.tar.gz", "a.tar.zst"] {
        let bench = Bench::new().with(&[], &["to/dir/kept", "to/again/x"]);
        fs::write(bench.source().join(name), &archives[name]).expect("a file");
        bench.copy(name, "/to", unpack).expect("unpacks");
        let expected = [
            "to/",
            "to/again",
            "to/dir/",
            "to/dir/file",
            "to/dir/kept",
            "to/dir/link->/dir/file",
            "to/dir/through",
            "to/implied/",
            "to/implied/file",
            "to/out->/dir",
        ];
        assert_eq!(bench.listing(), expected, "{name}");
        assert_eq!(bench.meta("to/again").ino(), bench.meta("to/dir/file").ino());
        assert_eq!(
            (bench.mode("to/dir"), bench.mode("to/dir/file"), bench.owner("to/dir")),
            (0o750, 0o4755, "3:4".to_owned())
        );
        assert_eq!((bench.meta("to/dir").mtime(), bench.meta("to/implied").mtime()), (OLD, EPOCH));
    }
    let bench = Bench::new();
    for (name, content) in &archives {
        fs::write(bench.source().join(name), content).expect("a file");
    }
    bench.copy("/text", "/text", unpack).expect("copies what is no archive");
    bench.copy("/a.tar.xz", "/a.tar.xz", unpack).expect("copies what is no archive inside");
    assert_eq!(bench.listing(), ["a.tar.xz", "text"]);
    fs::write(bench.source().join("b.tar.bz2"), b"BZh91AY&SY").expect("a file");
    let error = bench.copy("/b.tar.bz2", "/", unpack).expect_err("not understood");
    assert_eq!(error.to_string(), "`/b.tar.bz2` is compressed with bzip2, which cannot be unpacked");
    fs::write(bench.source().join("cut.tar"), &plain[..2000]).expect("a file");
    assert!(matches!(bench.copy("/cut.tar", "/cut", unpack), Err(FileOpError::Archive { .. })));
}

/// `xz -9 < /dev/null`
const XZ_OF_NOTHING: &[u8] = &[
    0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x00, 0x00, 0x00, 0x00, 0x1c, 0xdf, 0x44,
    0x21, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]
    #[test]
    fn a_copied_tree_is_the_same_tree(paths in proptest::collection::btree_set("[a-c]{1,2}(/[a-c]{1,2}){0,3}(/|->x)?", 0..20)) {
        let bench = Bench::new();
        for path in &paths {
            let (path, link) = path.split_once("->").map_or((path.as_str(), None), |(path, link)| (path, Some(link)));
            let at = bench.source().join(path.trim_end_matches('/'));
            // Paths that go through files, or that are there already, are no trees.
            if fs::create_dir_all(at.parent().expect("a parent")).is_err() || at.symlink_metadata().is_ok() {
                continue;
            }
            match link {
                Some(link) => symlink(link, at).expect("a link"),
                None if path.ends_with('/') => fs::create_dir(at).expect("a directory"),
                None => fs::write(at, path).expect("a file"),
            }
        }
        age(&bench.source());
        bench.copy("/", "/", |action| action.dir_copy_contents = true).expect("copies");
        let mut expected = Vec::new();
        list(&bench.source(), &bench.source(), &mut expected);
        proptest::prop_assert_eq!(bench.listing(), expected);
    }
}
