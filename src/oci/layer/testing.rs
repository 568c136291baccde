//! What the tests of differ and unpacking share: snapshots in temporary directories, overlay mounts, tree listings.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::apply::{self, Options, OverlayXattrs};
use super::chain;
use super::diff;
use super::inode::{Inode, InodeKind};
use super::ownership::{Owner, Ownership, SymlinkOwners};
use super::snapshot::Snapshot;
use super::tar::{Entry, Limits, TarReader, TarWriter};

/// So many cases; what fails becomes a test of its own, not a line in a file.
pub(crate) fn cases(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() }
}

/// Whether the tests run as root of the machine, which mounts and devices take. Where they do not, this says so, and
/// fails if `CLAWBUILD_TEST_REQUIRE` names `root`.
pub(crate) fn root(test: &str) -> bool {
    // Not the root of a user namespace, who can neither make devices nor give files to everybody.
    let everybody = fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.trim_end().ends_with("4294967295"));
    runs(test, "root (mounts, devices, owners)", namespace_root() && everybody && mounts_work())
}

/// Whether the tests run as any root: also as that of a user namespace, as `unshare -Ur` makes it.
pub(crate) fn any_root(test: &str) -> bool {
    runs(test, "root, if only of a user namespace", namespace_root())
}

fn namespace_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[expect(clippy::print_stderr, reason = "a test that does not run must say so")]
fn runs(test: &str, needs: &str, can: bool) -> bool {
    let required = std::env::var("CLAWBUILD_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|name| name == "root");
    assert!(can || !required, "{test} needs {needs}, which CLAWBUILD_TEST_REQUIRE promises");
    if !can {
        eprintln!("NOT RUN: {test} needs {needs}");
    }
    can
}

fn mounts_work() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let mounted = mount("none", directory.path(), "tmpfs", MountFlags::empty(), None);
    mounted.is_ok() && unmount(directory.path(), UnmountFlags::DETACH).is_ok()
}

/// The two ways to have owners.
pub(crate) const REAL: (Ownership, OverlayXattrs) = (Ownership::Real, OverlayXattrs::Trusted);
pub(crate) const RECORDED: (Ownership, OverlayXattrs) = (Ownership::Recorded, OverlayXattrs::User);

/// A directory of snapshots, removed in the end.
pub(crate) struct Store {
    directory: tempfile::TempDir,
    count: usize,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), count: 0 }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn directory(&mut self) -> PathBuf {
        self.count += 1;
        let path = self.directory.path().join(self.count.to_string());
        fs::create_dir(&path).unwrap();
        path
    }

    /// A snapshot with nothing in it.
    pub(crate) fn empty(&mut self) -> Snapshot {
        let snapshot = Snapshot::at(self.directory());
        fs::create_dir(snapshot.fs()).unwrap();
        snapshot
    }

    /// The layer unpacked over others.
    pub(crate) fn unpack(
        &mut self,
        tar: &[u8],
        lower: &[Snapshot],
        (ownership, overlay): (Ownership, OverlayXattrs),
    ) -> Result<Snapshot, apply::ApplyError> {
        let snapshot = Snapshot::at(self.directory());
        let options = Options { ownership, overlay, limits: Limits::default(), lower };
        apply::unpack(tar, &snapshot, &options).map(|_| snapshot)
    }
}

/// A tar of these entries.
pub(crate) fn tar(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        writer.append(entry, &mut &content[..]).unwrap();
    }
    writer.finish().unwrap()
}

/// The layer between snapshots.
pub(crate) fn layer(lower: &[Snapshot], upper: &Snapshot, epoch: Option<i64>) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    diff::write_layer(lower, upper, epoch, &mut writer).unwrap();
    writer.finish().unwrap()
}

/// What is in a tar.
pub(crate) fn entries(tar: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    let mut reader = TarReader::new(tar, Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        entries.push((entry, content));
    }
    entries
}

/// The paths in a tar, in order, for people.
pub(crate) fn paths(tar: &[u8]) -> Vec<String> {
    entries(tar).iter().map(|(entry, _)| entry.display_path()).collect()
}

/// An overlay mount, gone when dropped.
pub(crate) struct Overlay(PathBuf);

impl Overlay {
    /// Over `lower`, lowest first; writable with an upper snapshot and a work directory.
    pub(crate) fn mount(store: &mut Store, lower: &[Snapshot], upper: Option<&Snapshot>) -> Self {
        let at = store.directory();
        let mut layers: Vec<_> = lower.iter().rev().map(|snapshot| snapshot.fs().display().to_string()).collect();
        // Overlayfs wants at least two where nothing is written.
        layers.push(store.empty().fs().display().to_string());
        let mut options = format!("lowerdir={},index=off,metacopy=off,redirect_dir=off", layers.join(":"));
        if let Some(upper) = upper {
            let work = store.directory();
            options.push_str(&format!(",upperdir={},workdir={}", upper.fs().display(), work.display()));
        } else {
            layers.push(store.empty().fs().display().to_string());
            options = format!("lowerdir={},index=off,metacopy=off,redirect_dir=off", layers.join(":"));
        }
        let options = std::ffi::CString::new(options).unwrap();
        mount("overlay", &at, "overlay", MountFlags::empty(), Some(options.as_c_str())).unwrap();
        Self(at)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // A failure here must not hide the one that ended the test.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// What matters of a file in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    kind: InodeKind,
    mode: u32,
    owner: Owner,
    /// Seconds; none for directories, whose times overlayfs and layers leave open.
    mtime: Option<i64>,
    capability: Option<Vec<u8>>,
    /// A file's bytes, a link's target.
    content: Vec<u8>,
}

/// Everything under a directory, sockets left out.
pub(crate) fn tree(root: &Path) -> BTreeMap<Vec<u8>, Node> {
    let mut nodes = BTreeMap::new();
    list(root, b"", &mut nodes);
    nodes
}

fn list(root: &Path, path: &[u8], nodes: &mut BTreeMap<Vec<u8>, Node>) {
    let directory = File::open(root.join(OsStr::from_bytes(path))).unwrap();
    for name in chain::names(directory.as_fd()).unwrap() {
        let path = chain::join(path, &name);
        let inode = Inode::read(directory.as_fd(), &name, &path, &SymlinkOwners::default()).unwrap().unwrap();
        let content = match inode.kind {
            InodeKind::Socket => continue,
            InodeKind::File => fs::read(root.join(OsStr::from_bytes(&path))).unwrap(),
            InodeKind::Symlink => chain::read_link(directory.as_fd(), &name).unwrap(),
            InodeKind::Directory | InodeKind::Fifo | InodeKind::Device(..) | InodeKind::Whiteout => Vec::new(),
        };
        let mtime = (!inode.is_directory()).then_some(inode.mtime);
        let Inode { kind, mode, owner, ref capability, .. } = inode;
        nodes.insert(path.clone(), Node { kind, mode, owner, mtime, capability: capability.clone(), content });
        if inode.is_directory() {
            list(root, &path, nodes);
        }
    }
}
