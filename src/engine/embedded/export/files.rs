//! The files of a result, outside of the store.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::layer::Snapshot;
use oci::layer::diff::write_tree;
use oci::layer::tar::{Entry, Kind, Limits, TarReader, TarWriter};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::ExportError;
use crate::FilesOutput;
use crate::embedded::chain::Chain;
use crate::embedded::solver::Solve;
use crate::embedded::unpack;

/// Writes the tree where the output says.
pub(crate) async fn files(solve: &Arc<Solve>, chain: &Chain, output: &FilesOutput) -> Result<(), ExportError> {
    let tree = unpack::snapshots(solve, chain.parts()).await?;
    let (output, epoch) = (output.clone(), solve.request.source_date_epoch);
    solve
        .blocking(move || match &output {
            FilesOutput::Tar(path) => archive(&tree, epoch, path),
            FilesOutput::Directory(path) => directory(&tree, epoch, path),
        })
        .await
}

/// Writes an archive: all of it, or nothing.
fn archive(tree: &[Snapshot], epoch: Option<i64>, path: &Path) -> Result<(), ExportError> {
    let place = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    let file = tempfile::NamedTempFile::new_in(place).map_err(ExportError::io("create a file in", place))?;
    let mut tar = TarWriter::new(BufWriter::with_capacity(1 << 20, file));
    write_tree(tree, epoch, &mut tar).map_err(ExportError::Layer)?;
    let buffer = tar.finish().map_err(|error| ExportError::Layer(error.into()))?;
    let file = buffer.into_inner().map_err(|error| ExportError::io("write", path)(error.into_error()))?;
    file.as_file().sync_data().map_err(ExportError::io("write", path))?;
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(file.path(), mode).map_err(ExportError::io("change the mode of", path))?;
    file.persist(path).map_err(|error| ExportError::io("write", path)(error.error))?;
    Ok(())
}

/// Writes files below a directory. They belong to whoever runs this; what only root can make is left out.
fn directory(tree: &[Snapshot], epoch: Option<i64>, root: &Path) -> Result<(), ExportError> {
    fs::create_dir_all(root).map_err(ExportError::io("create", root))?;
    std::thread::scope(|scope| {
        let (reader, writer) = io::pipe().map_err(ExportError::io("make a pipe for", root))?;
        let writing = scope.spawn(move || {
            let mut tar = TarWriter::new(BufWriter::with_capacity(1 << 16, writer));
            write_tree(tree, epoch, &mut tar)?;
            tar.finish().map(drop)?;
            Ok(())
        });
        let written = Unpacker { root, directories: Vec::new() }.unpack(reader);
        match writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            // When the files cannot be written the pipe breaks, which is not what happened first.
            Err(error) if written.is_ok() => Err(ExportError::Layer(error)),
            Ok(()) | Err(_) => written,
        }
    })
}

struct Unpacker<'a> {
    root: &'a Path,
    /// Directories, whose modes and times are set when everything in them is there.
    directories: Vec<Entry>,
}

impl Unpacker<'_> {
    fn unpack(mut self, archive: impl Read) -> Result<(), ExportError> {
        // Our own archive: nothing in it leads anywhere else.
        let mut reader = TarReader::new(archive, Limits::default());
        while let Some(entry) = reader.next_entry().map_err(|error| ExportError::Layer(error.into()))? {
            self.entry(entry, &mut reader)?;
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
        clear(&path, entry.kind == Kind::Directory).map_err(ExportError::io("replace", &path))?;
        match &entry.kind {
            Kind::Directory => {
                if !path.is_dir() {
                    fs::create_dir(&path).map_err(ExportError::io("create", &path))?;
                }
                self.directories.push(entry);
                return Ok(());
            }
            Kind::File { .. } => {
                let mut file = File::create_new(&path).map_err(ExportError::io("create", &path))?;
                io::copy(content, &mut file).map_err(ExportError::io("write", &path))?;
            }
            Kind::Symlink { target } => {
                symlink(OsStr::from_bytes(target), &path).map_err(ExportError::io("create", &path))?;
            }
            Kind::HardLink { target } => {
                fs::hard_link(self.path(target), &path).map_err(ExportError::io("create", &path))?;
                return Ok(());
            }
            Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo => return Ok(()),
        }
        self.finish(&entry)
    }

    fn finish(&self, entry: &Entry) -> Result<(), ExportError> {
        let path = self.path(&entry.path);
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            // Without setuid and setgid: the owner they were meant for is another here.
            let mode = fs::Permissions::from_mode(entry.mode & 0o1777);
            fs::set_permissions(&path, mode).map_err(ExportError::io("change the mode of", &path))?;
        }
        let time = Timespec { tv_sec: entry.mtime, tv_nsec: 0 };
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
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn files_replace_what_was_there_and_keep_the_rest() {
        let temp = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::at(temp.path().join("s"));
        fs::create_dir_all(snapshot.fs().join("bin/closed")).unwrap();
        fs::write(snapshot.fs().join("bin/tool"), "new").unwrap();
        fs::set_permissions(snapshot.fs().join("bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(snapshot.fs().join("bin/tool"), snapshot.fs().join("tool")).unwrap();
        symlink("tool", snapshot.fs().join("link")).unwrap();
        fs::set_permissions(snapshot.fs().join("bin/closed"), fs::Permissions::from_mode(0o555)).unwrap();

        let root = temp.path().join("out");
        fs::create_dir_all(root.join("link/in/the/way")).unwrap();
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(root.join("bin/tool"), "old").unwrap();
        fs::write(root.join("bin/other"), "kept").unwrap();
        directory(std::slice::from_ref(&snapshot), Some(7), &root).unwrap();
        directory(std::slice::from_ref(&snapshot), Some(7), &root).unwrap();
        assert_eq!(fs::read_to_string(root.join("bin/tool")).unwrap(), "new");
        assert_eq!(fs::read_to_string(root.join("bin/other")).unwrap(), "kept");
        assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("tool"));
        let meta = fs::metadata(root.join("bin/tool")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.nlink()), (0o755, 7, 2));
        assert_eq!(fs::metadata(root.join("bin/closed")).unwrap().mode() & 0o777, 0o555);

        let tar = temp.path().join("out.tar");
        archive(&[snapshot], Some(7), &tar).unwrap();
        let bytes = fs::read(&tar).unwrap();
        archive(&[Snapshot::at(temp.path().join("s"))], Some(7), &tar).unwrap();
        assert_eq!(fs::read(&tar).unwrap(), bytes);
    }
}
