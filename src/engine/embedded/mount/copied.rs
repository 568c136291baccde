//! Trees without overlayfs: full copies, whose changes are found by comparing.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::fs::{self, File, FileType, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps};
use rustix::process::{Gid, Uid};

use super::{MountError, xattr};

/// The kernel stamps files with a clock that moves on this often at the least (`CONFIG_HZ` is 100 or more).
const CLOCK_TICK: Duration = Duration::from_millis(10);

const OPAQUE: [&CStr; 2] = [c"trusted.overlay.opaque", c"user.overlay.opaque"];

/// Copies the tree of these snapshots, lowest first, into the empty directory `target`.
pub(super) fn flatten(layers: &[&Path], target: &Path) -> Result<(), MountError> {
    layers.iter().try_for_each(|layer| {
        let mut links = HashMap::new();
        merge_directory(layer, target, &mut links).map_err(MountError::io("copy", layer))
    })
}

/// The first copy of each file with several names, by its number in the snapshot.
type Links = HashMap<u64, PathBuf>;

fn merge_directory(source: &Path, target: &Path, links: &mut Links) -> io::Result<()> {
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        merge(&entry.path(), &entry.metadata()?, &target.join(entry.file_name()), links)?;
    }
    copy_attributes(source, &fs::symlink_metadata(source)?, target)
}

fn merge(source: &Path, meta: &Metadata, target: &Path, links: &mut Links) -> io::Result<()> {
    if is_whiteout(meta) {
        return remove(target);
    }
    if meta.is_dir() {
        let merged = fs::symlink_metadata(target).is_ok_and(|below| below.is_dir()) && !is_opaque(source);
        if !merged {
            remove(target)?;
            fs::create_dir(target)?;
        }
        return merge_directory(source, target, links);
    }
    remove(target)?;
    if meta.nlink() > 1 {
        if let Some(first) = links.get(&meta.ino()) {
            return fs::hard_link(first, target);
        }
        links.insert(meta.ino(), target.to_owned());
    }
    copy_inode(source, meta, target)?;
    copy_attributes(source, meta, target)
}

fn copy_inode(source: &Path, meta: &Metadata, target: &Path) -> io::Result<()> {
    if meta.is_file() {
        return io::copy(&mut File::open(source)?, &mut File::create_new(target)?).map(|_| ());
    }
    if meta.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(source)?, target);
    }
    let kind = node_type(meta.file_type());
    Ok(rustix::fs::mknodat(CWD, target, kind, Mode::from_raw_mode(meta.mode()), meta.rdev())?)
}

fn node_type(kind: FileType) -> rustix::fs::FileType {
    match () {
        () if kind.is_char_device() => rustix::fs::FileType::CharacterDevice,
        () if kind.is_block_device() => rustix::fs::FileType::BlockDevice,
        () if kind.is_socket() => rustix::fs::FileType::Socket,
        () => rustix::fs::FileType::Fifo,
    }
}

/// Owner, extended attributes, mode and times, in the order in which each leaves the earlier ones alone.
fn copy_attributes(source: &Path, meta: &Metadata, target: &Path) -> io::Result<()> {
    let owner = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    rustix::fs::chownat(CWD, target, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
    for name in xattr::names(source)?.iter().filter(|name| !xattr::is_overlay(name)) {
        xattr::write(target, name, &xattr::read(source, name)?)?;
    }
    if !meta.is_symlink() {
        fs::set_permissions(target, Permissions::from_mode(meta.mode() & 0o7777))?;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: meta.atime(), tv_nsec: meta.atime_nsec() },
        last_modification: Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() },
    };
    Ok(rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn is_opaque(directory: &Path) -> bool {
    OPAQUE.iter().any(|name| xattr::read(directory, name).is_ok_and(|value| value == b"y"))
}

/// What tells a file from its later self: any change of content or attributes moves the change time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed: (i64, i64),
    directory: bool,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self { inode: meta.ino(), changed: (meta.ctime(), meta.ctime_nsec()), directory: meta.is_dir() }
    }
}

/// A tree as it was before it was handed out.
#[derive(Debug)]
pub(super) struct Baseline {
    stamps: BTreeMap<PathBuf, Stamp>,
    upper: PathBuf,
}

impl Baseline {
    /// Notes the state of `tree`, whose changes are to come into `upper`.
    pub(super) fn take(tree: &Path, upper: &Path) -> Result<Self, MountError> {
        let mut stamps = BTreeMap::new();
        note(tree, Path::new(""), &mut stamps).map_err(MountError::io("read", tree))?;
        // A change within the same tick of the clock would not show.
        std::thread::sleep(CLOCK_TICK);
        Ok(Self { stamps, upper: upper.to_owned() })
    }

    /// Moves what has changed in `tree` into `upper`, and marks there what is gone.
    pub(super) fn collect(&self, tree: &Path) -> Result<(), MountError> {
        self.collect_directory(tree, Path::new("")).map_err(MountError::io("collect the changes of", tree))?;
        let root = fs::symlink_metadata(tree).map_err(MountError::io("read", tree))?;
        copy_attributes(tree, &root, &self.upper).map_err(MountError::io("write", &self.upper))
    }

    /// The entries of one directory that was there before and still is.
    fn collect_directory(&self, tree: &Path, directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(tree.join(directory))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            let now = Stamp::of(&entry.metadata()?);
            match self.stamps.get(&path) {
                Some(before) if now.directory && before.directory && before.inode == now.inode => {
                    if *before != now {
                        self.place_directory(tree, &path)?;
                    }
                    self.collect_directory(tree, &path)?;
                }
                Some(before) if *before == now => {}
                before => {
                    self.place_directory(tree, directory)?;
                    let target = self.upper.join(&path);
                    fs::rename(tree.join(&path), &target)?;
                    if now.directory && before.is_some_and(|before| before.directory) {
                        mark_opaque(&target)?;
                    }
                }
            }
        }
        let below = self.stamps.range(directory.to_owned()..).map(|(path, _)| path);
        let below = below.take_while(|path| path.starts_with(directory));
        for path in below.filter(|path| path.parent() == Some(directory)) {
            let gone =
                fs::symlink_metadata(tree.join(path)).is_err() && fs::symlink_metadata(self.upper.join(path)).is_err();
            if gone {
                self.place_directory(tree, directory)?;
                let kind = rustix::fs::FileType::CharacterDevice;
                rustix::fs::mknodat(CWD, self.upper.join(path), kind, Mode::empty(), 0)?;
            }
        }
        Ok(())
    }

    /// Makes the directory and those above it in `upper`, as they are in the tree.
    fn place_directory(&self, tree: &Path, directory: &Path) -> io::Result<()> {
        let target = self.upper.join(directory);
        if fs::symlink_metadata(&target).is_ok() {
            return Ok(());
        }
        if let Some(parent) = directory.parent() {
            self.place_directory(tree, parent)?;
        }
        fs::create_dir(&target)?;
        let source = tree.join(directory);
        copy_attributes(&source, &fs::symlink_metadata(&source)?, &target)
    }
}

fn mark_opaque(directory: &Path) -> io::Result<()> {
    let [root, user] = OPAQUE;
    match xattr::write(directory, root, b"y") {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => xattr::write(directory, user, b"y"),
        result => result,
    }
}

fn note(tree: &Path, directory: &Path, stamps: &mut BTreeMap<PathBuf, Stamp>) -> io::Result<()> {
    for entry in fs::read_dir(tree.join(directory))? {
        let entry = entry?;
        let path = directory.join(entry.file_name());
        let stamp = Stamp::of(&entry.metadata()?);
        if stamp.directory {
            note(tree, &path, stamps)?;
        }
        stamps.insert(path, stamp);
    }
    Ok(())
}
