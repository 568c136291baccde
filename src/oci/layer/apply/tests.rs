use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use diag::{Reported as _, codes};
use proptest::prelude::*;

use super::{ApplyError, Options, apply, unpack};
use crate::Digest;
use crate::layer::Snapshot;
use crate::layer::compress::{Compression, LayerWriter};
use crate::layer::tar::{Device, Entry, Kind, LimitKind, Limits, TarError, TarReader};
use crate::layer::testing::{Overlay, REAL, RECORDED, Store, cases, layer, root, tar, tree};

type Members<'a> = &'a [(Entry, &'a [u8])];

fn unpacked(store: &mut Store, members: Members<'_>) -> Snapshot {
    store.unpack(&tar(members), &[], RECORDED).unwrap()
}

fn refused(members: Members<'_>) -> ApplyError {
    let mut store = Store::new();
    let error = store.unpack(&tar(members), &[], RECORDED).unwrap_err();
    assert_eq!(error.diagnostic().code, codes::oci::LAYER_INVALID, "{error}");
    error
}

fn char_device(path: &str, major: u32, minor: u32) -> Entry {
    let mut entry = Entry::directory(path).with_mode(0o600);
    entry.kind = Kind::CharDevice(Device { major, minor });
    entry
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    Some(value[..length].to_vec())
}

fn is_whiteout(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_char_device() && metadata.rdev() == 0)
}

#[test]
fn restores_what_entries_say() {
    let mut store = Store::new();
    let mut attributed = Entry::file("bin/tool", 4).with_mode(0o4751).with_owner(1000, 50).with_mtime(-5);
    attributed.xattrs.insert(b"user.note".to_vec(), b"n".to_vec());
    let snapshot = unpacked(
        &mut store,
        &[
            (Entry::directory("bin").with_mode(0o2750).with_mtime(1234), b""),
            (attributed, b"tool"),
            (Entry::hard_link("bin/same", "bin/tool").with_mode(0o4751).with_owner(1000, 50).with_mtime(-5), b""),
            (Entry::symlink("link", "bin/tool").with_owner(9, 9).with_mtime(77), b""),
            (char_device("null", 1, 3).with_owner(0, 5), b""),
            (Entry::directory("tmp").with_mode(0o1777), b""),
        ],
    );
    let at = |path: &str| snapshot.fs().join(path);
    let tool = at("bin/tool").metadata().unwrap();
    assert_eq!((tool.mode() & 0o7777, tool.mtime(), tool.mtime_nsec(), tool.nlink()), (0o4751, -5, 0, 2));
    assert_eq!(fs::read(at("bin/same")).unwrap(), b"tool");
    assert_eq!(xattr(&at("bin/tool"), "user.note").unwrap(), b"n");
    assert_eq!(xattr(&at("bin/tool"), "user.clawbuild.owner").unwrap(), b"1000:50");
    let bin = at("bin").metadata().unwrap();
    assert_eq!((bin.mode() & 0o7777, bin.mtime(), bin.mtime_nsec()), (0o2750, 1234, 0), "set after its children");
    assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("bin/tool"));
    assert_eq!(at("link").symlink_metadata().unwrap().mtime(), 77);
    assert_eq!(fs::read(snapshot.directory().join("symlink-owners")).unwrap(), b"9:9 link\n");
    assert_eq!(xattr(&at("null"), "user.clawbuild.device").unwrap(), b"c:1:3");
    assert_eq!(at("tmp").metadata().unwrap().mode() & 0o7777, 0o1777);
    let top = snapshot.fs().metadata().unwrap();
    assert_eq!((top.mode() & 0o7777, top.mtime()), (0o755, 0));
}

#[test]
fn real_owners_are_real() {
    if !root("real_owners_are_real") {
        return;
    }
    let mut store = Store::new();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let layer = tar(&[
        (Entry::file("file", 1).with_owner(1000, 50).with_mode(0o6755).with_capability(*capability), b"f"),
        // As other tools write it: without the capability, which must survive it.
        (Entry::hard_link("name", "file").with_owner(1000, 50).with_mode(0o6755), b""),
        (Entry::symlink("link", "file").with_owner(9, 8), b""),
        (char_device("null", 1, 3).with_owner(0, 5), b""),
    ]);
    let snapshot = store.unpack(&layer, &[], REAL).unwrap();
    let at = |path: &str| snapshot.fs().join(path).symlink_metadata().unwrap();
    assert_eq!((at("file").uid(), at("file").gid(), at("file").mode() & 0o7777), (1000, 50, 0o6755));
    assert_eq!(xattr(&snapshot.fs().join("file"), "security.capability").unwrap(), capability);
    assert_eq!((at("link").uid(), at("link").gid()), (9, 8));
    assert!(at("null").file_type().is_char_device() && at("null").gid() == 5);
    assert_eq!(at("null").rdev(), rustix::fs::makedev(1, 3));
}

#[test]
fn every_compression_is_unpacked_and_hashed() {
    let mut store = Store::new();
    let bytes = tar(&[(Entry::file("big", 3 << 20), &vec![b'b'; 3 << 20])]);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut writer = LayerWriter::new(Vec::new(), compression, std::num::NonZeroUsize::MIN);
        writer.write_all(&bytes).unwrap();
        let (written, blob) = writer.finish().unwrap();
        let snapshot = Snapshot::at(store.directory());
        let options = Options { ownership: RECORDED.0, overlay: RECORDED.1, limits: Limits::default(), lower: &[] };
        let unpacked = unpack(&blob[..], &snapshot, &options).unwrap();
        assert_eq!((unpacked.blob, unpacked.blob_size), (written.descriptor.digest, written.descriptor.size));
        assert_eq!((unpacked.diff_id, unpacked.entries), (written.diff_id, 1));
        assert_eq!(fs::metadata(snapshot.fs().join("big")).unwrap().len(), 3 << 20);
        // A blob that is cut, or damaged in the middle.
        for end in [blob.len() / 2, blob.len() / 3] {
            let snapshot = Snapshot::at(store.directory());
            let error = unpack(&blob[..end], &snapshot, &options).unwrap_err();
            assert_eq!(error.diagnostic().code, codes::oci::LAYER_INVALID, "{error}");
        }
    }
}

/// What follows the archive's end is part of the blob, and so of both digests.
#[test]
fn digests_are_over_everything() {
    let mut store = Store::new();
    let bytes = [tar(&[(Entry::directory("d"), b"")]), vec![0; 10_000]].concat();
    let options = Options { ownership: RECORDED.0, overlay: RECORDED.1, limits: Limits::default(), lower: &[] };
    let unpacked = unpack(&bytes[..], &Snapshot::at(store.directory()), &options).unwrap();
    assert_eq!((unpacked.blob, unpacked.diff_id.0), (Digest::of(&bytes), Digest::of(&bytes)));
}

#[test]
fn whiteouts_and_opaque_directories() {
    let mut store = Store::new();
    let snapshot = unpacked(
        &mut store,
        &[
            (Entry::file("etc/.wh.gone", 0), b""),
            (Entry::file("etc/.wh..wh.plnk", 0), b""),
            (Entry::directory("opaque"), b""),
            (Entry::file("opaque/.wh..wh..opq", 0), b""),
            (Entry::file("opaque/new", 0), b""),
            // A directory in the place of something removed, in either order, shows nothing of what was there.
            (Entry::whiteout("replaced"), b""),
            (Entry::directory("replaced"), b""),
            (Entry::directory("replaced-late"), b""),
            (Entry::whiteout("replaced-late"), b""),
            (Entry::whiteout("implied"), b""),
            (Entry::file("implied/file", 0), b""),
            (Entry::file("file", 1), b"f"),
            (Entry::whiteout("file"), b""),
            (char_device("raw-whiteout", 0, 0), b""),
        ],
    );
    let at = |path: &str| snapshot.fs().join(path);
    assert!(is_whiteout(&at("etc/gone")) && is_whiteout(&at("raw-whiteout")));
    assert_eq!(fs::read_dir(at("etc")).unwrap().count(), 1, "marks are no files");
    for opaque in ["opaque", "replaced", "replaced-late", "implied"] {
        assert_eq!(xattr(&at(opaque), "user.overlay.opaque").as_deref(), Some(&b"y"[..]), "{opaque}");
    }
    assert_eq!(xattr(&at("etc"), "user.overlay.opaque"), None);
    assert_eq!(fs::read(at("file")).unwrap(), b"f");
    for name in [".wh.", ".wh..", ".wh...", ".wh.a/b", ".wh..wh..opq/.wh.b"] {
        let error = refused(&[(Entry::file(format!("d/{name}"), 0), b"")]);
        assert!(matches!(error, ApplyError::Whiteout { .. }), "{error}");
    }
}

#[test]
fn an_opaque_root_hides_everything_below() {
    if !root("an_opaque_root_hides_everything_below") {
        return;
    }
    let mut store = Store::new();
    let below = tar(&[
        (Entry::file("old", 0), b""),
        (Entry::directory("both"), b""),
        (Entry::file("both/old", 0), b""),
        (Entry::file("both-files", 0), b""),
    ]);
    let lower = [store.unpack(&below, &[], REAL).unwrap()];
    let above = tar(&[
        (Entry::file(".wh..wh..opq", 0), b""),
        (Entry::directory("both"), b""),
        (Entry::file("both/new", 0), b""),
        (Entry::file("both-files", 1), b"n"),
    ]);
    let upper = store.unpack(&above, &lower, REAL).unwrap();
    let [lower] = lower;
    let overlay = Overlay::mount(&mut store, &[lower, upper], None);
    let names: Vec<_> = tree(overlay.path()).into_keys().collect();
    assert_eq!(names, [&b"both"[..], b"both-files", b"both/new"]);
}

#[test]
fn parents_without_entries_are_like_those_below() {
    let mut store = Store::new();
    let below = tar(&[(Entry::directory("srv").with_mode(0o1770).with_owner(3, 4).with_mtime(99), b"")]);
    let lower = [store.unpack(&below, &[], RECORDED).unwrap()];
    let above = tar(&[(Entry::file("srv/data/file", 0), b"")]);
    let snapshot = store.unpack(&above, &lower, RECORDED).unwrap();
    let (srv, data) = (snapshot.fs().join("srv"), snapshot.fs().join("srv/data"));
    let metadata = srv.metadata().unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o1770, 99));
    assert_eq!(xattr(&srv, "user.clawbuild.owner").unwrap(), b"3:4");
    assert_eq!((data.metadata().unwrap().mode() & 0o7777, data.metadata().unwrap().mtime()), (0o755, 0));
}

#[test]
fn later_entries_replace_earlier_ones() {
    let mut store = Store::new();
    let snapshot = unpacked(
        &mut store,
        &[
            (Entry::directory("a").with_mtime(7), b""),
            (Entry::file("a/x/y", 1), b"y"),
            (Entry::file("a", 3), b"now"),
            (Entry::symlink("link", "/etc/passwd").with_owner(4, 4), b""),
            (Entry::file("link", 4), b"mine"),
            (Entry::file("f", 1), b"1"),
            (Entry::directory("f").with_mode(0o700), b""),
            (Entry::directory("d").with_mode(0o700), b""),
            (Entry::file("d/kept", 1), b"k"),
            (Entry::directory("d").with_mode(0o711).with_mtime(8), b""),
        ],
    );
    let at = |path: &str| snapshot.fs().join(path);
    assert_eq!(fs::read(at("a")).unwrap(), b"now");
    assert_eq!(fs::read(at("link")).unwrap(), b"mine");
    assert!(at("link").symlink_metadata().unwrap().is_file(), "the link was replaced, not followed");
    assert!(!snapshot.directory().join("symlink-owners").exists(), "its record went with it");
    assert_eq!(xattr(&at("f"), "user.overlay.opaque").as_deref(), Some(&b"y"[..]), "as the file hid what is below");
    assert_eq!(fs::read(at("d/kept")).unwrap(), b"k");
    assert_eq!((at("d").metadata().unwrap().mode() & 0o7777, at("d").metadata().unwrap().mtime()), (0o711, 8));
}

#[test]
fn links_stay_inside() {
    let mut store = Store::new();
    let outside = store.directory();
    fs::write(outside.join("victim"), "v").unwrap();
    let out = outside.as_os_str().as_bytes();
    let up: &[u8] = b"../../../../../../../../..";

    // Through a link to an absolute path, and up: both end inside the snapshot.
    let snapshot = unpacked(
        &mut store,
        &[
            (Entry::symlink("absolute", "/real"), b""),
            (Entry::directory("real").with_mtime(3), b""),
            (Entry::file("absolute/one", 1).with_owner(5, 5), b"1"),
            (Entry::symlink("absolute/link", "x").with_owner(6, 6), b""),
            (Entry::file("absolute/made/two", 1), b"2"),
            (Entry::symlink("up", up), b""),
            (Entry::file("up/three", 1), b"3"),
            (Entry::file("up/.wh.four", 0), b""),
        ],
    );
    let at = |path: &str| snapshot.fs().join(path);
    assert_eq!(fs::read(at("real/one")).unwrap(), b"1");
    assert_eq!(fs::read(at("real/made/two")).unwrap(), b"2");
    assert_eq!(at("real").metadata().unwrap().mtime(), 3);
    assert_eq!(fs::read(snapshot.directory().join("symlink-owners")).unwrap(), b"6:6 real/link\n");
    assert_eq!(fs::read(at("three")).unwrap(), b"3");
    assert!(is_whiteout(&at("four")));

    let victim = [out, b"/victim"].concat();
    let dangling = refused(&[(Entry::symlink("out", out), b""), (Entry::file("out/victim", 1), b"x")]);
    assert!(matches!(dangling, ApplyError::Parent { .. }), "{dangling}");
    let through_file = refused(&[(Entry::file("f", 1), b"x"), (Entry::file("f/g", 1), b"x")]);
    assert!(matches!(through_file, ApplyError::Parent { .. }), "{through_file}");
    let in_circles =
        refused(&[(Entry::symlink("a", "b"), b""), (Entry::symlink("b", "a"), b""), (Entry::file("a/f", 0), b"")]);
    assert!(matches!(in_circles, ApplyError::Parent { .. }), "{in_circles}");
    let proc = refused(&[(Entry::symlink("p", "/proc/self/root"), b""), (Entry::file("p/tmp/f", 0), b"")]);
    assert!(matches!(proc, ApplyError::Parent { .. }), "{proc}");

    let hard = |target: &[u8]| {
        vec![
            (Entry::symlink("out", out), &b""[..]),
            (Entry::directory("d"), b""),
            (Entry::whiteout("w"), b""),
            (Entry::hard_link("h", target), b""),
        ]
    };
    for target in [&victim[1..], b"out/victim", b"missing", b"d", b"w", b"h", b"out/../x", b"d/x"] {
        if target.windows(2).any(|two| two == b"..") {
            continue;
        }
        let error = refused(&hard(target));
        assert!(matches!(error, ApplyError::HardLink { .. }), "{error}");
    }
    assert_eq!(fs::read(outside.join("victim")).unwrap(), b"v");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

/// A link to a link is another name of the link.
#[test]
fn hard_links_to_symbolic_links() {
    let mut store = Store::new();
    let snapshot = unpacked(
        &mut store,
        &[
            (Entry::symlink("one", "/etc/passwd").with_owner(5, 6), b""),
            (Entry::hard_link("two", "one").with_owner(5, 6), b""),
        ],
    );
    assert_eq!(fs::read_link(snapshot.fs().join("two")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read(snapshot.directory().join("symlink-owners")).unwrap(), b"5:6 one\n5:6 two\n");
}

#[test]
fn attributes_that_steer_are_not_restored() {
    let mut store = Store::new();
    let mut entry = Entry::directory("d");
    for name in
        ["user.overlay.opaque", "trusted.overlay.redirect", "user.clawbuild.owner", "security.selinux", "user.ok"]
    {
        entry.xattrs.insert(name.as_bytes().to_vec(), b"y".to_vec());
    }
    let snapshot = unpacked(&mut store, &[(entry, b"")]);
    let mut names = [0; 256];
    let length = rustix::fs::listxattr(snapshot.fs().join("d"), &mut names[..]).unwrap();
    assert_eq!(&names[..length], b"user.ok\0");
}

#[test]
fn limits_and_long_names_are_errors() {
    let mut store = Store::new();
    let bytes = tar(&[(Entry::file("a", 100), &[0; 100]), (Entry::file("b", 100), &[0; 100])]);
    let limits = Limits { bytes: 150, ..Limits::default() };
    let options = Options { ownership: RECORDED.0, overlay: RECORDED.1, limits, lower: &[] };
    let snapshot = Snapshot::at(store.directory());
    let error = apply(&mut TarReader::new(&bytes[..], limits), &snapshot, &options).unwrap_err();
    assert!(matches!(error, ApplyError::Tar(TarError::Limit { kind: LimitKind::Bytes, .. })), "{error}");
    assert_eq!(error.diagnostic().code, codes::oci::LAYER_LIMIT);
    // A hundred thousand times as large as it is compressed.
    let bomb = tar(&[(Entry::file("bomb", 64 << 20), &vec![0; 64 << 20])]);
    let bomb = zstd::encode_all(&bomb[..], 1).unwrap();
    let error = unpack(&bomb[..], &Snapshot::at(store.directory()), &options).unwrap_err();
    assert!(matches!(error, ApplyError::Tar(TarError::Limit { .. })), "{error}");

    let long = tar(&[(Entry::file("n".repeat(256), 0), b"")]);
    let error = store.unpack(&long, &[], RECORDED).unwrap_err();
    assert!(
        matches!(&error, ApplyError::Io { source, .. } if source.kind() == std::io::ErrorKind::InvalidFilename),
        "{error}"
    );
    let deep = tar(&[(Entry::file("d/".repeat(2000) + "f", 1), b"f")]);
    let snapshot = store.unpack(&deep, &[], RECORDED).unwrap();
    assert_eq!(layer(&[], &snapshot, None).len(), layer(&[], &snapshot, Some(0)).len());
}

/// A file on a full disk: a tmpfs of 64 KiB.
#[test]
fn a_full_disk_is_told_as_such() {
    if !root("a_full_disk_is_told_as_such") {
        return;
    }
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let mut store = Store::new();
    let at = store.directory();
    mount("none", &at, "tmpfs", MountFlags::empty(), Some(c"size=64k")).unwrap();
    let bytes = tar(&[(Entry::file("big", 1 << 20), &vec![1; 1 << 20])]);
    let options = Options { ownership: REAL.0, overlay: REAL.1, limits: Limits::default(), lower: &[] };
    let result = unpack(&bytes[..], &Snapshot::at(&at), &options);
    unmount(&at, UnmountFlags::DETACH).unwrap();
    assert_eq!(result.unwrap_err().diagnostic().code, codes::oci::FULL);
}

fn hostile_entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let name = prop::sample::select(vec!["a", "b", "c", ".wh.a", ".wh.b", ".wh..wh..opq", "link"]);
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let target =
        prop::sample::select(vec!["a", "b/c", "..", "../..", "/", "/a", "../../victim", "/proc/self/cwd", "link"]);
    let kind = prop_oneof![
        3 => Just(Kind::File { size: 3 }),
        3 => Just(Kind::Directory),
        3 => target.prop_map(|target| Kind::Symlink { target: target.into() }),
        2 => path.clone().prop_map(|path| Kind::HardLink { target: path.into_bytes() }),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::CharDevice(Device { major: 0, minor: 0 })),
    ];
    // Readable, for those who run this as nobody in particular.
    let mode = (0..0o10000_u32).prop_map(|mode| mode | 0o700);
    (path, kind, mode, 0..2000_u32).prop_map(|(path, kind, mode, uid)| {
        let content = if matches!(kind, Kind::File { .. }) { b"abc".to_vec() } else { Vec::new() };
        (Entry { kind, ..Entry::directory(path).with_mode(mode).with_owner(uid, 1) }, content)
    })
}

proptest! {
    #![proptest_config(cases(128))]

    /// Whatever a layer holds, nothing outside its snapshot changes, and unpacking it again gives the same.
    #[test]
    fn nothing_escapes(members in prop::collection::vec(hostile_entry(), 1..25)) {
        let mut store = Store::new();
        let outside = store.path().join("victim");
        fs::write(&outside, "v").unwrap();
        let members: Vec<_> = members.iter().map(|(entry, content)| (entry.clone(), &content[..])).collect();
        let bytes = tar(&members);
        let before = fs::read_dir(store.path()).unwrap().count();
        let first = store.unpack(&bytes, &[], RECORDED);
        let second = store.unpack(&bytes, &[], RECORDED);
        prop_assert_eq!(fs::read_dir(store.path()).unwrap().count(), before + 2);
        let metadata = fs::symlink_metadata(&outside).unwrap();
        prop_assert!(metadata.nlink() == 1 && metadata.permissions().mode() & 0o7777 == 0o644 & metadata.mode());
        prop_assert_eq!(fs::read(&outside).unwrap(), b"v");
        prop_assert_eq!(first.is_ok(), second.is_ok());
        if let (Ok(first), Ok(second)) = (first, second) {
            let layer_of_it = layer(&[], &first, None);
            prop_assert!(layer_of_it == layer(&[], &second, None));
            // What was taken from a snapshot makes that snapshot again.
            let again = store.unpack(&layer_of_it, &[], RECORDED).unwrap();
            prop_assert!(layer(&[], &again, None) == layer_of_it);
        }
    }
}

/// GNU tar and we agree on what an archive with every ordinary kind of entry unpacks to.
#[test]
fn gnu_tar_unpacks_the_same() {
    let mut store = Store::new();
    let bytes = tar(&[
        (Entry::directory("d").with_mode(0o750).with_mtime(5), b""),
        (Entry::file(format!("d/{}", "n".repeat(180)), 2).with_mtime(6), b"nn"),
        (Entry::file("d/é\nx", 2).with_mode(0o600).with_mtime(7), b"xx"),
        (Entry::symlink("l", "t".repeat(150)).with_mtime(8), b""),
        (Entry::hard_link("h", "d/é\nx").with_mode(0o600).with_mtime(7), b""),
    ]);
    let snapshot = store.unpack(&bytes, &[], RECORDED).unwrap();
    let theirs = store.directory();
    let mut tar = std::process::Command::new("tar")
        .args(["--extract", "--preserve-permissions", "--no-same-owner", "--directory"])
        .arg(&theirs)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("GNU tar is on every machine that builds");
    tar.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(tar.wait().unwrap().success());
    assert_eq!(tree(&snapshot.fs()), tree(&theirs));
    let mut nothing = Vec::new();
    fs::File::open(snapshot.fs().join(OsStr::from_bytes("h".as_bytes()))).unwrap().read_to_end(&mut nothing).unwrap();
    assert_eq!(nothing, b"xx");
}
