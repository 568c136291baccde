use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use crate::Digest;
use crate::layer::Snapshot;
use crate::layer::diff::{DiffError, write_layer};
use crate::layer::inode::OverlayFeature;
use crate::layer::tar::{Device, Entry, Kind, TarWriter};
use crate::layer::testing::{Overlay, REAL, RECORDED, Store, any_root, cases, entries, layer, paths, root, tar, tree};

const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn device(path: &str, major: u32, minor: u32) -> Entry {
    let mut entry = Entry::directory(path).with_mode(0o640);
    entry.kind = Kind::BlockDevice(Device { major, minor });
    entry
}

/// A lower and an upper layer that use everything there is.
fn torture() -> (Vec<u8>, Vec<u8>) {
    let long = "d".repeat(120);
    let split = format!("{}/{}", "p".repeat(80), "q".repeat(90));
    let mut fifo = Entry::directory("pipe").with_owner(7, 8);
    fifo.kind = Kind::Fifo;
    let lower: &[(Entry, &[u8])] = &[
        (Entry::directory("keep").with_mtime(5), b""),
        (Entry::file("keep/same", 4).with_mtime(6), b"same"),
        (Entry::file("keep/other", 4).with_mtime(7), b"othe"),
        (Entry::file("keep/gone", 1).with_mtime(7), b"g"),
        (Entry::directory("opaque").with_mtime(8), b""),
        (Entry::file("opaque/a", 1), b"a"),
        (Entry::directory("opaque/sub"), b""),
        (Entry::file("opaque/sub/x", 1), b"x"),
        (Entry::file("opaque/sub.d", 1), b"x"),
        (Entry::file("opaque/linked", 3).with_mtime(9), b"lnk"),
        (Entry::file("opaque/unchanged", 3).with_mtime(9), b"unc"),
        (Entry::directory("was-directory"), b""),
        (Entry::file("was-directory/inside", 1), b"i"),
        (Entry::file("was-file", 1), b"f"),
        (Entry::symlink("was-link", "keep"), b""),
    ];
    let upper: &[(Entry, &[u8])] = &[
        (Entry::directory("keep").with_mtime(5000), b""),
        (Entry::file("keep/same", 4).with_mtime(6), b"same"),
        (Entry::file("keep/other", 4).with_mtime(7), b"OTHE"),
        (Entry::whiteout("keep/gone"), b""),
        (Entry::whiteout("keep/never-was"), b""),
        (Entry::directory("opaque").with_mtime(8), b""),
        (Entry::file("opaque/.wh..wh..opq", 0), b""),
        (Entry::file("opaque/linked", 3).with_mtime(9), b"lnk"),
        (Entry::file("opaque/unchanged", 3).with_mtime(9), b"unc"),
        (Entry::hard_link("opaque/zz-other-name", "opaque/linked").with_mtime(9), b""),
        (Entry::directory("opaque/sub").with_mode(0o700), b""),
        (Entry::file("was-directory", 3).with_mode(0o4755), b"now"),
        (Entry::directory("was-file").with_mode(0o1777), b""),
        (Entry::file("was-file/new", 0).with_owner(3_000_000, 4_000_000), b""),
        (Entry::directory("was-link"), b""),
        (Entry::file("was-link/new", 2), b"nn"),
        (Entry::file(long.clone(), 600).with_mtime(1 << 34), &[b'l'; 600]),
        (Entry::directory("p".repeat(80)).with_owner(0, 3), b""),
        (Entry::file(split, 1).with_mtime(-77), b"s"),
        (Entry::symlink("é", "l".repeat(130)).with_owner(1000, 1000).with_mtime(44), b""),
        (Entry::hard_link("é2", "é").with_owner(1000, 1000).with_mtime(44), b""),
        (device("device", 8, 300).with_owner(0, 6), b""),
        (
            Entry {
                path: b"device-name".to_vec(),
                kind: Kind::HardLink { target: b"device".to_vec() },
                ..device("", 0, 0)
            }
            .with_owner(0, 6),
            b"",
        ),
        (Entry::file("capable", 3).with_mode(0o2755).with_capability(CAPABILITY), b"cap"),
        (Entry::hard_link("capable-too", "capable").with_mode(0o2755).with_capability(CAPABILITY), b""),
        (fifo, b""),
        (Entry::file(b"not\xfftext\nat all".to_vec(), 1), b"n"),
    ];
    (tar(lower), tar(upper))
}

/// The digest is that of the bytes BuildKit's own differ (v0.29.0, `util/overlay.WriteUpperdir`) wrote for the same two
/// snapshots.
const TORTURE: &str = "191f4b9631188f749e64906c741b9252988de7c14c57259c4ef41a731b0c2d36";

#[test]
fn recorded_owners_give_buildkits_bytes() {
    // Without a record a file is whoever's it is, and that must be 0:0.
    if !any_root("recorded_owners_give_buildkits_bytes") {
        return;
    }
    let (lower, upper) = torture();
    let mut store = Store::new();
    let lower = [store.unpack(&lower, &[], RECORDED).unwrap()];
    let upper = store.unpack(&upper, &lower, RECORDED).unwrap();
    let layer = layer(&lower, &upper, None);
    assert_eq!(Digest::of(&layer).hex(), TORTURE, "{:#?}", paths(&layer));
}

#[test]
fn real_owners_give_buildkits_bytes() {
    if !root("real_owners_give_buildkits_bytes") {
        return;
    }
    let (lower, upper) = torture();
    let mut store = Store::new();
    let lower = [store.unpack(&lower, &[], REAL).unwrap()];
    let upper = store.unpack(&upper, &lower, REAL).unwrap();
    let layer = layer(&lower, &upper, None);
    assert_eq!(Digest::of(&layer).hex(), TORTURE, "{:#?}", paths(&layer));
}

#[test]
fn times_are_clamped_down_to_the_epoch() {
    let mut store = Store::new();
    let lower = [store.unpack(&tar(&[(Entry::file("gone", 0), b"")]), &[], RECORDED).unwrap()];
    let upper = tar(&[
        (Entry::file("new", 0).with_mtime(2_000_000_000), b""),
        (Entry::file("old", 0).with_mtime(1000), b""),
        (Entry::whiteout("gone"), b""),
    ]);
    let upper = store.unpack(&upper, &lower, RECORDED).unwrap();
    let times = |epoch| {
        let layer = layer(&lower, &upper, epoch);
        entries(&layer).into_iter().map(|(entry, _)| (entry.display_path(), entry.mtime)).collect::<Vec<_>>()
    };
    let expected = |new| vec![(".wh.gone".to_owned(), 0), ("new".to_owned(), new), ("old".to_owned(), 1000)];
    assert_eq!(times(Some(1_700_000_000)), expected(1_700_000_000));
    assert_eq!(times(None), expected(2_000_000_000));
}

/// A link in a lower layer that points out of it, where the upper has a directory: what lies at its target on this
/// machine must neither be read nor make a difference.
#[test]
fn links_in_lower_layers_are_not_followed() {
    let mut store = Store::new();
    let outside = store.directory();
    fs::write(outside.join("file"), "same").unwrap();
    rustix::fs::utimensat(CWD, outside.join("file"), &seconds(9), AtFlags::empty()).unwrap();
    let link = Entry::symlink("link", outside.as_os_str().as_bytes());
    let lower = [store.unpack(&tar(&[(link, b"")]), &[], RECORDED).unwrap()];
    let upper = store.empty();
    fs::create_dir(upper.fs().join("link")).unwrap();
    fs::copy(outside.join("file"), upper.fs().join("link/file")).unwrap();
    rustix::fs::utimensat(CWD, upper.fs().join("link/file"), &seconds(9), AtFlags::empty()).unwrap();
    assert_eq!(paths(&layer(&lower, &upper, None)), ["link", "link/file"]);
    // A whiteout below it removes nothing.
    fs::remove_file(upper.fs().join("link/file")).unwrap();
    whiteout(&upper.fs().join("link/file"));
    assert_eq!(paths(&layer(&lower, &upper, None)), ["link"]);
}

#[test]
fn features_without_a_layer_form_are_refused() {
    let mut store = Store::new();
    let upper = store.empty();
    fs::create_dir(upper.fs().join("moved")).unwrap();
    rustix::fs::setxattr(upper.fs().join("moved"), "user.overlay.redirect", b"/from", XattrFlags::empty()).unwrap();
    let error = write_layer(&[], &upper, None, &mut TarWriter::new(Vec::new())).unwrap_err();
    assert!(matches!(error, DiffError::Feature { feature: OverlayFeature::Redirect, .. }), "{error}");
}

#[test]
fn a_snapshot_that_is_not_there_is_named() {
    let missing = Snapshot::at("/nowhere/snapshot");
    let error = write_layer(&[], &missing, None, &mut TarWriter::new(Vec::new())).unwrap_err();
    assert!(error.to_string().contains("/nowhere/snapshot"), "{error}");
}

fn seconds(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn whiteout(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

/// Something a build step may do. Those that make no sense where they fall fail and change nothing.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<u8>, Vec<u8>),
    MakeDirectories(Vec<u8>),
    Symlink(Vec<u8>, Vec<u8>),
    HardLink(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    Replace(Vec<u8>),
    Rename(Vec<u8>, Vec<u8>),
    Mode(Vec<u8>, u32),
    Owner(Vec<u8>, u32, u32),
    Time(Vec<u8>, i64),
    Special(Vec<u8>, FileType),
    Capability(Vec<u8>),
}

impl Step {
    fn run(&self, root: &Path) {
        let at = |path: &[u8]| root.join(OsStr::from_bytes(path));
        let is_directory = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        match self {
            // Not through pipes, which would wait for a reader.
            Self::Write(path, _) if at(path).metadata().is_ok_and(|metadata| !metadata.is_file()) => {}
            Self::Write(path, content) => drop(fs::write(at(path), content)),
            Self::MakeDirectories(path) => drop(fs::create_dir_all(at(path))),
            Self::Symlink(path, target) => drop(std::os::unix::fs::symlink(OsStr::from_bytes(target), at(path))),
            Self::HardLink(from, to) => drop(fs::hard_link(at(from), at(to))),
            Self::Remove(path) if is_directory(&at(path)) => drop(fs::remove_dir_all(at(path))),
            Self::Remove(path) => drop(fs::remove_file(at(path))),
            Self::Replace(path) if is_directory(&at(path)) => {
                fs::remove_dir_all(at(path)).unwrap();
                fs::create_dir(at(path)).unwrap();
            }
            Self::Replace(path) => drop(fs::remove_file(at(path)).and_then(|()| fs::create_dir(at(path)))),
            Self::Rename(from, to) => drop(fs::rename(at(from), at(to))),
            Self::Mode(path, _) if at(path).is_symlink() => {}
            Self::Mode(path, mode) => {
                let _ = rustix::fs::chmod(at(path), Mode::from_raw_mode(*mode));
            }
            Self::Owner(path, uid, gid) => {
                let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
                let _ = rustix::fs::chownat(CWD, at(path), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
            }
            Self::Time(path, mtime) => {
                let _ = rustix::fs::utimensat(CWD, at(path), &seconds(*mtime), AtFlags::SYMLINK_NOFOLLOW);
            }
            Self::Special(path, kind) => {
                let _ = rustix::fs::mknodat(CWD, at(path), *kind, Mode::RUSR, rustix::fs::makedev(9, 1234));
            }
            Self::Capability(path) if !at(path).is_file() || at(path).is_symlink() => {}
            Self::Capability(path) => {
                let _ = rustix::fs::setxattr(at(path), "security.capability", CAPABILITY, XattrFlags::empty());
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = prop::sample::select(vec![
        &b"a"[..],
        b"b",
        b"b.c",
        b"b-",
        b"\xff\xfe",
        b"line\nfeed",
        "é".as_bytes(),
        &[b'n'; 130],
        &[b'm'; 255],
    ]);
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join(&b'/'));
    let path = move || path.clone();
    let content = prop_oneof![Just(Vec::new()), Just(b"same".to_vec()), prop::collection::vec(any::<u8>(), 0..2000)];
    let id = || prop::sample::select(vec![0, 1, 1000, 3_000_000]);
    // No sockets: BuildKit leaves them out even where one takes the place of a file, which then is back.
    let special = prop::sample::select(vec![FileType::Fifo, FileType::CharacterDevice, FileType::BlockDevice]);
    let mode = prop::sample::select(vec![0o644, 0o4755, 0o2710, 0o1777, 0]);
    let time = prop::sample::select(vec![-4, 1, 1_700_000_000, 9_000_000_000]);
    // No target leads out of the tree to anything that exists: steps follow links, and tests run as root.
    let target = prop::sample::select(vec![b"a".to_vec(), b"/nowhere/at/all".to_vec(), vec![b't'; 150]]);
    let step = prop_oneof![
        4 => (path(), content).prop_map(|(path, content)| Step::Write(path, content)),
        4 => path().prop_map(Step::MakeDirectories),
        1 => (path(), target).prop_map(|(path, target)| Step::Symlink(path, target)),
        2 => (path(), path()).prop_map(|(from, to)| Step::HardLink(from, to)),
        3 => path().prop_map(Step::Remove),
        2 => path().prop_map(Step::Replace),
        2 => (path(), path()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (path(), mode).prop_map(|(path, mode)| Step::Mode(path, mode)),
        1 => (path(), id(), id()).prop_map(|(path, uid, gid)| Step::Owner(path, uid, gid)),
        2 => (path(), time).prop_map(|(path, time)| Step::Time(path, time)),
        1 => (path(), special).prop_map(|(path, kind)| Step::Special(path, kind)),
        1 => path().prop_map(Step::Capability),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(cases(24))]

    /// Whatever steps do on real overlays: the layers, unpacked over each other, show the very same tree; and they
    /// have the same bytes when taken again from what was unpacked, with real or with recorded owners.
    #[test]
    fn layers_carry_every_change(runs in prop::collection::vec(steps(), 1..4)) {
        if !root("layers_carry_every_change") {
            return Ok(());
        }
        let mut store = Store::new();
        let (mut made, mut real, mut recorded) = (Vec::new(), Vec::new(), Vec::new());
        for steps in &runs {
            let upper = store.empty();
            let overlay = Overlay::mount(&mut store, &made, Some(&upper));
            for step in steps {
                step.run(overlay.path());
            }
            let expected = tree(overlay.path());
            drop(overlay);
            let bytes = layer(&made, &upper, None);
            let unpacked = store.unpack(&bytes, &real, REAL).unwrap();
            let unpacked_recorded = store.unpack(&bytes, &recorded, RECORDED).unwrap();
            prop_assert!(layer(&real, &unpacked, None) == layer(&recorded, &unpacked_recorded, None));
            made.push(upper);
            real.push(unpacked);
            recorded.push(unpacked_recorded);
            let overlay = Overlay::mount(&mut store, &real, None);
            prop_assert_eq!(tree(overlay.path()), expected);
        }
    }
}
