//! The files of archives as one tar.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};

use diag::{Diagnostic, codes};
use oci::Digest;
use oci::layer::compress::Decompressor;
use oci::layer::tar::{Entry, Kind, Limits, TarError, TarReader, TarWriter};
use plan::{Archive, ArchiveFormat, ArchiveSet};

use crate::cli::Failure;

/// Raised when the bytes change that a set becomes.
pub(super) const IDENTITY: &str = "archives 1";
/// The time of every file, 1980-01-01: before any release, and what zips can hold.
const TIME: i64 = 315_532_800;
/// What is read of a file to tell a program from data.
const MAGIC: usize = 4;

/// An archive that cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it is no tar archive that can be used")]
    Tar(#[source] TarError),
    #[error("it is no zip archive that can be used")]
    Zip(#[source] zip::result::ZipError),
    #[error("`{0}` in it lies outside of `{1}`")]
    Outside(String, String),
    #[error("`{0}` in it leads out of the archive")]
    Escape(String),
    #[error("the layer cannot be written")]
    Write(#[source] TarError),
}

impl ArchiveError {
    fn report(&self, archive: &Archive) -> Failure {
        let message = format!("`{}` cannot be unpacked: {self}", archive.download.filename);
        Diagnostic::new(codes::store::MISMATCH, message)
            .caused_by(self)
            .help(format!("it was fetched from {} and has the checksum the lock says", archive.download.url))
            .into()
    }
}

/// Writes every archive of a set, in the set's order.
///
/// # Errors
/// Archives that are not what they should be, and whatever stands in the way of reading or writing.
pub(super) fn write<W: Write>(
    set: &ArchiveSet,
    open: &dyn Fn(&Digest) -> io::Result<File>,
    out: W,
) -> Result<W, Failure> {
    let mut layer = Layer { tar: TarWriter::new(out), made: BTreeSet::new() };
    for archive in &set.archives {
        let file = open(&archive.download.checksum).map_err(|error| ArchiveError::Read(error).report(archive))?;
        let written = match archive.format {
            ArchiveFormat::TarGz => layer.tar_gz(archive, file),
            ArchiveFormat::Zip => layer.zip(archive, file),
        };
        let written = written.and_then(|()| layer.extra(archive));
        written.map_err(|error| error.report(archive))?;
    }
    layer.tar.finish().map_err(|error| ArchiveError::Write(error).report(&set.archives[0]))
}

struct Layer<W> {
    tar: TarWriter<W>,
    /// Paths there are already.
    made: BTreeSet<Vec<u8>>,
}

impl<W: Write> Layer<W> {
    fn tar_gz(&mut self, archive: &Archive, file: File) -> Result<(), ArchiveError> {
        let plain = Decompressor::new(file).map_err(ArchiveError::Read)?;
        let mut reader = TarReader::new(BufReader::with_capacity(1 << 17, plain), Limits::default());
        while let Some(entry) = reader.next_entry().map_err(ArchiveError::Tar)? {
            let Some(path) = placed(archive, &entry.path)? else { continue };
            match entry.kind {
                Kind::Directory => {}
                Kind::File { size } => {
                    let mode = if entry.mode & 0o111 == 0 { 0o644 } else { 0o755 };
                    self.file(&path, Kind::File { size }, mode, &mut reader)?;
                }
                Kind::Symlink { target } => {
                    if leads_out(&path, &target) {
                        return Err(ArchiveError::Escape(String::from_utf8_lossy(&path).into_owned()));
                    }
                    self.file(&path, Kind::Symlink { target }, 0o777, &mut io::empty())?;
                }
                Kind::HardLink { target } => {
                    let Some(target) = placed(archive, &target)? else { continue };
                    self.file(&path, Kind::HardLink { target }, 0o644, &mut io::empty())?;
                }
                // Sources and packages hold no devices; what does is nothing to build with.
                Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo => {
                    return Err(ArchiveError::Escape(String::from_utf8_lossy(&path).into_owned()));
                }
            }
        }
        Ok(())
    }

    fn zip(&mut self, archive: &Archive, file: File) -> Result<(), ArchiveError> {
        let mut zip = zip::ZipArchive::new(BufReader::new(file)).map_err(ArchiveError::Zip)?;
        // In the order of their names, which is not always that of the zip's directory.
        let names: BTreeMap<Vec<u8>, usize> = (0..zip.len())
            .map(|index| zip.by_index_raw(index).map(|entry| (entry.name_raw().to_vec(), index)))
            .collect::<Result<_, _>>()
            .map_err(ArchiveError::Zip)?;
        for (name, index) in names {
            let mut entry = zip.by_index(index).map_err(ArchiveError::Zip)?;
            if entry.is_dir() {
                continue;
            }
            let Some(path) = placed(archive, &name)? else { continue };
            let size = entry.size();
            let unix = entry.unix_mode().unwrap_or(0);
            let mut magic = Vec::with_capacity(MAGIC);
            entry.by_ref().take(MAGIC as u64).read_to_end(&mut magic).map_err(ArchiveError::Read)?;
            // Go's zips hold no modes, wheels not always; what is a program is one.
            let is_program = unix & 0o111 != 0 || magic.starts_with(b"\x7fELF") || magic.starts_with(b"#!");
            let mode = if is_program { 0o755 } else { 0o644 };
            self.file(&path, Kind::File { size }, mode, &mut magic.as_slice().chain(entry))?;
        }
        Ok(())
    }

    fn extra(&mut self, archive: &Archive) -> Result<(), ArchiveError> {
        for (name, text) in &archive.extra {
            let path = join(&archive.into, name.as_bytes());
            let kind = Kind::File { size: text.len() as u64 };
            self.file(&path, kind, 0o644, &mut text.as_bytes())?;
        }
        Ok(())
    }

    fn file(&mut self, path: &[u8], kind: Kind, mode: u32, content: &mut dyn Read) -> Result<(), ArchiveError> {
        let separators = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in separators {
            if self.made.insert(path[..end].to_vec()) {
                let directory = entry(path[..end].to_vec(), Kind::Directory, 0o755);
                self.tar.append_empty(&directory).map_err(ArchiveError::Write)?;
            }
        }
        self.made.insert(path.to_vec());
        self.tar.append(&entry(path.to_vec(), kind, mode), content).map_err(ArchiveError::Write)
    }
}

fn entry(path: Vec<u8>, kind: Kind, mode: u32) -> Entry {
    Entry { path, kind, mode, uid: 0, gid: 0, mtime: TIME, nanoseconds: 0, xattrs: BTreeMap::new() }
}

/// Where a member goes in the layer; `None` for the directory that is stripped itself.
fn placed(archive: &Archive, path: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
    let shown = || String::from_utf8_lossy(path).into_owned();
    let is_normal = |path: &[u8]| path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
    let plain = path.strip_suffix(b"/").unwrap_or(path);
    if plain.is_empty() || plain == archive.strip.trim_end_matches('/').as_bytes() {
        return Ok(None);
    }
    if !is_normal(plain) {
        return Err(ArchiveError::Escape(shown()));
    }
    match plain.strip_prefix(archive.strip.as_bytes()) {
        Some(rest) => Ok(Some(join(&archive.into, rest))),
        // Members above the directory are its parents, in archives that list them.
        None if archive.strip.as_bytes().starts_with(&[plain, b"/"].concat()) => Ok(None),
        None => Err(ArchiveError::Outside(shown(), archive.strip.clone())),
    }
}

fn join(directory: &str, path: &[u8]) -> Vec<u8> {
    if directory.is_empty() { path.to_vec() } else { [directory.as_bytes(), b"/", path].concat() }
}

/// Whether a link in the layer leads out of it.
fn leads_out(path: &[u8], target: &[u8]) -> bool {
    if target.starts_with(b"/") {
        return true;
    }
    let mut depth = path.iter().filter(|byte| **byte == b'/').count() as i64;
    target.split(|byte| *byte == b'/').any(|part| {
        depth += match part {
            b"" | b"." => 0,
            b".." => -1,
            _ => 1,
        };
        depth < 0
    })
}
