//! The files of a result, outside of the store.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use oci::layer::rewrite::rewrite;
use oci::layer::tar::{Entry, Kind, Limits, TarReader, TarWriter};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::ExportError;
use crate::FilesOutput;

/// Writes the files of an archive where the output says, no time later than `epoch`.
///
/// # Errors
/// [`ExportError`].
pub fn files(output: &FilesOutput, epoch: Option<i64>, source: impl Read) -> Result<(), ExportError> {
    match output {
        FilesOutput::Tar(path) => archive(path, |tar| {
            rewrite(&mut TarReader::new(source, Limits::default()), epoch, tar)?;
            Ok(())
        }),
        FilesOutput::Directory(path) => directory(path, epoch, source),
    }
}

/// Writes an archive to `path`: all of it, or nothing.
///
/// # Errors
/// [`ExportError`], those of `write` among them.
pub fn archive(
    path: &Path,
    write: impl FnOnce(&mut TarWriter<BufWriter<tempfile::NamedTempFile>>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let place = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    let file = tempfile::NamedTempFile::new_in(place).map_err(ExportError::io("create a file in", place))?;
    let mut tar = TarWriter::new(BufWriter::with_capacity(1 << 20, file));
    write(&mut tar)?;
    let buffer = tar.finish()?;
    let file = buffer.into_inner().map_err(|error| ExportError::io("write", path)(error.into_error()))?;
    file.as_file().sync_data().map_err(ExportError::io("write", path))?;
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(file.path(), mode).map_err(ExportError::io("change the mode of", path))?;
    file.persist(path).map_err(|error| ExportError::io("write", path)(error.error))?;
    Ok(())
}

/// Writes the files of an archive below a directory, no time later than `epoch`. They belong to whoever runs this; what
/// only root can make is left out.
///
/// # Errors
/// [`ExportError`].
pub fn directory(root: &Path, epoch: Option<i64>, archive: impl Read) -> Result<(), ExportError> {
    fs::create_dir_all(root).map_err(ExportError::io("create", root))?;
    let (directories, parents, files) = (Vec::new(), HashSet::new(), HashSet::new());
    Unpacker { root, epoch, directories, parents, files }.unpack(archive)
}

struct Unpacker<'a> {
    root: &'a Path,
    epoch: Option<i64>,
    /// Directories, whose modes and times are set when everything in them is there.
    directories: Vec<Entry>,
    /// Where something may be put, and what may be linked to: directories and files of the archive itself, so that
    /// nothing leads out of the root through a link.
    parents: HashSet<Vec<u8>>,
    files: HashSet<Vec<u8>>,
}

impl Unpacker<'_> {
    fn unpack(mut self, archive: impl Read) -> Result<(), ExportError> {
        let mut reader = TarReader::new(archive, Limits::default());
        while let Some(entry) = reader.next_entry()? {
            if !entry.path.is_empty() {
                self.entry(entry, &mut reader)?;
            }
        }
        for entry in std::mem::take(&mut self.directories).iter().rev() {
            self.finish(entry)?;
        }
        Ok(())
    }

    fn path(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }

    fn entry(&mut self, entry: Entry, content: &mut impl Read) -> Result<(), ExportError> {
        let path = self.path(&entry.path);
        self.check(&entry)?;
        clear(&path, entry.kind == Kind::Directory).map_err(ExportError::io("replace", &path))?;
        match &entry.kind {
            Kind::Directory => {
                if !path.is_dir() {
                    fs::create_dir(&path).map_err(ExportError::io("create", &path))?;
                }
                self.parents.insert(entry.path.clone());
                self.directories.push(entry);
                return Ok(());
            }
            Kind::File { .. } => {
                let mut file = File::create_new(&path).map_err(ExportError::io("create", &path))?;
                io::copy(content, &mut file).map_err(ExportError::io("write", &path))?;
                self.files.insert(entry.path.clone());
            }
            Kind::Symlink { target } => {
                symlink(OsStr::from_bytes(target), &path).map_err(ExportError::io("create", &path))?;
            }
            Kind::HardLink { target } => {
                fs::hard_link(self.path(target), &path).map_err(ExportError::io("create", &path))?;
                self.files.insert(entry.path.clone());
                return Ok(());
            }
            Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo => return Ok(()),
        }
        self.finish(&entry)
    }

    fn check(&self, entry: &Entry) -> Result<(), ExportError> {
        let parent = entry.path.iter().rposition(|&byte| byte == b'/').map(|slash| &entry.path[..slash]);
        let linked = match &entry.kind {
            Kind::HardLink { target } => Some(target),
            _ => None,
        };
        let leads_out = parent.is_some_and(|parent| !self.parents.contains(parent))
            || linked.is_some_and(|target| !self.files.contains(target));
        if leads_out {
            let problem =
                io::Error::new(io::ErrorKind::InvalidData, "the archive does not hold what it lies in or links to");
            return Err(ExportError::io("write", &self.path(&entry.path))(problem));
        }
        Ok(())
    }

    fn finish(&self, entry: &Entry) -> Result<(), ExportError> {
        let path = self.path(&entry.path);
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            // Without setuid and setgid: the owner they were meant for is another here.
            let mode = fs::Permissions::from_mode(entry.mode & 0o1777);
            fs::set_permissions(&path, mode).map_err(ExportError::io("change the mode of", &path))?;
        }
        let seconds = self.epoch.map_or(entry.mtime, |epoch| entry.mtime.min(epoch));
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| ExportError::io("set the time of", &path)(errno.into()))
    }
}

/// Makes room: what lies there goes, except a directory where one is wanted.
fn clear(path: &Path, want_directory: bool) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() && want_directory => Ok(()),
        Ok(meta) if meta.is_dir() => store::remove_tree(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(entries: &[Entry]) -> Vec<u8> {
        let mut tar = TarWriter::new(Vec::new());
        for entry in entries {
            tar.append_empty(entry).unwrap();
        }
        tar.finish().unwrap()
    }

    #[test]
    fn nothing_is_written_through_links() {
        let temp = tempfile::tempdir().unwrap();
        let (root, outside) = (temp.path().join("out"), temp.path().join("outside"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        let link = Entry::symlink("link", outside.as_os_str().as_bytes());
        for bad in [Entry::file("link/file", 0), Entry::hard_link("stolen", "link/secret")] {
            assert!(directory(&root, None, &tar(&[link.clone(), bad])[..]).is_err());
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert!(!root.join("stolen").exists());
    }
}
