//! Archives that are unpacked instead of copied, as Docker's `ADD` does it. Spec: moby/go-archive `Unpack`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use oci::layer::DeviceKind;
use oci::layer::compress::Decompressor;
use oci::layer::ownership::{Owner, Place};
use oci::layer::tar::{Entry, Kind, Limits, TarError, TarReader};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};

use super::Source;
use super::error::{FileOpError, shown};
use super::file::proc_path;
use super::target::{NewDirectory, Target, set_times};
use crate::embedded::mount::{Root, is, xattr};

/// Directories an archive means but does not hold.
const IMPLIED: NewDirectory = NewDirectory { mode: 0o755, owner: Some(Owner::ROOT), time: None };

const XZ: &[u8] = b"\xfd7zXZ\0";
const BZIP2: &[u8] = b"BZh";

/// Unpacks what lies at `path` of the source into the directory `dest`, if it is an archive. Says whether it is one.
pub(super) fn unpack(
    target: &mut Target<'_>,
    source: Source<'_>,
    path: &Path,
    dest: &Path,
    owner: Option<Owner>,
    parents: NewDirectory,
) -> Result<bool, FileOpError> {
    let Some(mut file) = open(source.root, path)? else { return Ok(false) };
    let name = shown(path);
    let mut archive = reader(&mut file, &name)?;
    let first = match archive.next_entry() {
        Ok(Some(first)) => first,
        // Not an archive: it is copied as it is.
        Ok(None) | Err(_) => return Ok(false),
    };
    let made = target.make_directories(dest, parents)?;
    let mut unpacking = Unpacking { target, dest, owner, times: BTreeMap::new(), archive: &name };
    let mut entry = Some(first);
    while let Some(current) = entry {
        unpacking.entry(&current, &mut archive)?;
        entry = archive.next_entry().map_err(|source| FileOpError::Archive { path: name.clone(), source })?;
    }
    let times = unpacking.times;
    for (path, time) in times.iter().rev() {
        target.untouch(path);
        target.set_time(path, *time)?;
    }
    for path in made.iter().rev().filter(|path| !times.contains_key(*path)) {
        target.untouch(path);
        target.set_time(path, parents.time.unwrap_or(target.epoch))?;
    }
    Ok(true)
}

/// A regular file of the source, links followed. `None` for anything else.
fn open(root: Root<'_>, path: &Path) -> Result<Option<File>, FileOpError> {
    let look = |error| FileOpError::io("look at", path)(error);
    let resolved = root.resolve(path).map_err(look)?;
    match root.stat(&resolved) {
        Ok(stat) if is(&stat, FileType::RegularFile) => {}
        Ok(_) => return Ok(None),
        // Copying says so better.
        Err(_) => return Ok(None),
    }
    let file = root.open(&resolved, OFlags::RDONLY, Mode::empty()).map_err(FileOpError::io("open", path))?;
    Ok(Some(File::from(file)))
}

type Archive<'f> = TarReader<Box<dyn Read + 'f>>;

fn reader<'f>(file: &'f mut File, name: &str) -> Result<Archive<'f>, FileOpError> {
    let read = |error| FileOpError::io("read", Path::new(name))(error);
    let mut magic = Vec::new();
    file.by_ref().take(8).read_to_end(&mut magic).map_err(read)?;
    file.rewind().map_err(read)?;
    let content: Box<dyn Read + 'f> = if magic.starts_with(XZ) {
        Box::new(liblzma::read::XzDecoder::new_multi_decoder(file))
    } else if magic.starts_with(BZIP2) {
        return Err(FileOpError::Compression { path: name.to_owned(), format: "bzip2" });
    } else {
        Box::new(Decompressor::new(file).map_err(read)?)
    };
    Ok(TarReader::new(content, Limits::default()))
}

struct Unpacking<'u, 't> {
    target: &'u mut Target<'t>,
    dest: &'u Path,
    owner: Option<Owner>,
    /// Times of the archive's directories, which what is unpacked into them moves on.
    times: BTreeMap<PathBuf, Timespec>,
    archive: &'u str,
}

impl Unpacking<'_, '_> {
    /// Unpacks one entry. The destination is a root of its own: no link of the archive leads out of it.
    fn entry(&mut self, entry: &Entry, content: &mut Archive<'_>) -> Result<(), FileOpError> {
        let inside = Path::new(OsStr::from_bytes(&entry.path));
        if inside.as_os_str().is_empty() {
            return Ok(());
        }
        let path = self.place(inside)?;
        let above = path.parent().unwrap_or(Path::new(""));
        self.target.make_directories(above, IMPLIED)?;
        let merges = entry.kind == Kind::Directory;
        let there = self.target.stat(&path)?.map(|there| is(&there, FileType::Directory));
        match there {
            Some(true) if merges => {}
            Some(_) => self.target.remove(&path)?,
            None => {}
        }
        self.make(entry, content, &path, there == Some(true))?;
        self.target.touch(above);
        self.attributes(entry, &path)
    }

    /// Where in the tree a path of the archive lies.
    fn place(&self, inside: &Path) -> Result<PathBuf, FileOpError> {
        let directory = self.target.directory(self.dest)?;
        let resolved =
            Root::new(directory.as_fd()).resolve_parent(inside).map_err(FileOpError::io("look for", inside))?;
        Ok(self.dest.join(resolved))
    }

    fn make(&mut self, entry: &Entry, content: &mut Archive<'_>, path: &Path, there: bool) -> Result<(), FileOpError> {
        let (parent, name) = self.target.parent(path)?;
        let create = |error| FileOpError::io("create", path)(error);
        let place = Place { directory: parent.as_fd(), name: name.as_bytes(), path: path.as_os_str().as_bytes() };
        let made = match &entry.kind {
            Kind::File { .. } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600));
                let mut file = File::from(file.map_err(|error| create(io::Error::from(error)))?);
                return io::copy(content, &mut file).map(drop).map_err(|error| self.content_error(error, path));
            }
            Kind::Directory if there => Ok(()),
            Kind::Directory => rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)).map_err(io::Error::from),
            Kind::Symlink { target } => rustix::fs::symlinkat(&target[..], &parent, name).map_err(io::Error::from),
            Kind::HardLink { target } => {
                let original = self.place(Path::new(OsStr::from_bytes(target)))?;
                self.target.unshare(&original)?;
                let root = self.target.root.directory();
                rustix::fs::linkat(root, &original, &parent, name, AtFlags::empty()).map_err(io::Error::from)
            }
            Kind::CharDevice(device) => self.target.owners.make_device(place, DeviceKind::Char, *device, 0o600),
            Kind::BlockDevice(device) => self.target.owners.make_device(place, DeviceKind::Block, *device, 0o600),
            Kind::Fifo => rustix::fs::mkfifoat(&parent, name, Mode::from_raw_mode(0o600)).map_err(io::Error::from),
        };
        made.map_err(create)
    }

    /// The archive's fault, or the disk's.
    fn content_error(&self, error: io::Error, path: &Path) -> FileOpError {
        match error.downcast::<TarError>() {
            Ok(source) => FileOpError::Archive { path: self.archive.to_owned(), source },
            Err(error) => FileOpError::io("write", path)(error),
        }
    }

    fn attributes(&mut self, entry: &Entry, path: &Path) -> Result<(), FileOpError> {
        let (parent, name) = self.target.parent(path)?;
        let owner = self.owner.unwrap_or(Owner { uid: entry.uid, gid: entry.gid });
        self.target.set_owner(parent.as_fd(), name, path, owner)?;
        let symlink = matches!(entry.kind, Kind::Symlink { .. });
        for (key, value) in &entry.xattrs {
            let place = Place { directory: parent.as_fd(), name: name.as_bytes(), path: path.as_os_str().as_bytes() };
            let set = match key.as_slice() {
                b"security.capability" => self.target.owners.set_capability(place, value),
                key => match std::ffi::CString::new(key) {
                    Ok(key) => xattr::write(&proc_path(parent.as_fd(), name), &key, value),
                    Err(_) => Ok(()),
                },
            };
            match set {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTSUP | libc::EPERM)) => {}
                result => result.map_err(FileOpError::io("set an attribute of", path))?,
            }
        }
        if !symlink {
            let mode = Mode::from_raw_mode(entry.mode & 0o7777);
            rustix::fs::chmodat(&parent, name, mode, AtFlags::empty())
                .map_err(FileOpError::io("set the mode of", path))?;
        }
        let time = Timespec { tv_sec: entry.mtime, tv_nsec: 0 };
        if entry.kind == Kind::Directory {
            self.times.insert(path.to_owned(), time);
        }
        set_times(parent.as_fd(), name, path, &Timestamps { last_access: time, last_modification: time })
    }
}
