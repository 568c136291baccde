//! Binary packages: an ar archive of two compressed tars, control data and files.
//!
//! Nothing in a package is believed: sizes are bounded before anything is allocated, decompressed bytes are counted,
//! paths that lead out of the root are refused by the tar reader. Spec: deb(5).

mod ar;
mod error;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};

use oci::layer::tar::{self, Entry, Kind, TarReader};
use oci::{Digest, Hasher};

pub use error::DebError;

use crate::Compression;
use crate::control::Paragraph;

/// How much a package may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files, directories and links.
    pub entries: u64,
    /// Decompressed bytes.
    pub bytes: u64,
}

impl Default for Limits {
    /// Twice what Debian's largest packages hold: a million entries, 16 GiB.
    fn default() -> Self {
        Self { entries: 1_000_000, bytes: 16 << 30 }
    }
}

/// Control data: what a package says of itself, and the files beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// The file `control`.
    pub fields: Paragraph,
    /// Every other file: `md5sums`, `conffiles`, maintainer scripts, …
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A package whose control data has been read and whose files have not.
pub struct Deb<R> {
    source: BufReader<Hashed<R>>,
    limits: Limits,
    control: Control,
    data: ar::Member,
    compression: Compression,
}

/// What `debian-binary` must say: the major version of the format.
const FORMAT: &[u8] = b"2.";
const MAX_CONTROL: u64 = 64 << 20;
const MAX_CONTROL_ENTRIES: u64 = 1000;
const INPUT_BUFFER: usize = 128 << 10;

impl<R: Read + Send> Deb<R> {
    /// Reads a package up to its files.
    ///
    /// # Errors
    /// [`DebError`].
    pub fn open(source: R, limits: Limits) -> Result<Self, DebError> {
        let mut source = BufReader::with_capacity(INPUT_BUFFER, Hashed { source, hasher: Hasher::new(io::sink()) });
        ar::read_magic(&mut source)?;
        let marker = ar::Member::read(&mut source)?.ok_or(DebError::Missing("debian-binary"))?;
        if marker.name != "debian-binary" || marker.size > 64 {
            return Err(DebError::Missing("debian-binary"));
        }
        let format = marker.contents(&mut source)?;
        if !format.starts_with(FORMAT) {
            return Err(DebError::Format(String::from_utf8_lossy(&format).trim_end().to_owned()));
        }
        let (member, compression) = member(&mut source, "control.tar")?;
        let control = read_control(&mut source, &member, compression)?;
        let (data, compression) = self::member(&mut source, "data.tar")?;
        Ok(Self { source, limits, control, data, compression })
    }

    /// Its control data.
    #[must_use]
    pub const fn control(&self) -> &Control {
        &self.control
    }

    /// Hands every file, directory and link to `visit`, with a reader of its content, and reads the package to its
    /// end. Gives its control data, and the digest and length of the whole file, to hold against what is locked.
    ///
    /// # Errors
    /// [`DebError`], and whatever `visit` gives.
    pub fn unpack<E: From<DebError>>(
        mut self,
        mut visit: impl FnMut(Entry, &mut dyn Read) -> Result<(), E>,
    ) -> Result<(Control, Digest, u64), E> {
        let limits = tar::Limits { entries: self.limits.entries, bytes: self.limits.bytes, ..tar::Limits::default() };
        let mut member = self.data.stream(&mut self.source);
        let decoder = self.compression.decoder(&mut member).map_err(DebError::Read)?;
        let mut reader = TarReader::new(Bounded { source: decoder, left: self.limits.bytes }, limits);
        while let Some(entry) = reader.next_entry().map_err(DebError::from)? {
            visit(entry, &mut reader)?;
        }
        // What follows the end mark is padding; reading it makes the decoder check what it decoded.
        reader.drain().map_err(DebError::from)?;
        let left = member.limit();
        self.data.end(&mut self.source, left)?;
        io::copy(&mut self.source, &mut io::sink()).map_err(DebError::Read)?;
        let (digest, size) = self.source.into_inner().hasher.finish();
        Ok((self.control, digest, size))
    }
}

impl<R> std::fmt::Debug for Deb<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deb").field("control", &self.control.fields).finish_non_exhaustive()
    }
}

/// The next member that matters, which must be `stem` with an extension we decompress. Names beginning with an
/// underscore are for others and passed over.
fn member(source: &mut impl BufRead, stem: &'static str) -> Result<(ar::Member, Compression), DebError> {
    loop {
        let member = ar::Member::read(source)?.ok_or(DebError::Missing(stem))?;
        if member.name.starts_with('_') {
            member.skip(source)?;
            continue;
        }
        let extension = member.name.strip_prefix(stem).ok_or(DebError::Missing(stem))?;
        let compression =
            Compression::from_extension(extension).ok_or_else(|| DebError::Compression(member.name.clone()))?;
        return Ok((member, compression));
    }
}

fn read_control(
    source: &mut (impl BufRead + Send),
    member: &ar::Member,
    compression: Compression,
) -> Result<Control, DebError> {
    let mut stream = member.stream(source);
    let decoder = compression.decoder(&mut stream).map_err(DebError::Read)?;
    let limits = tar::Limits { entries: MAX_CONTROL_ENTRIES, bytes: MAX_CONTROL, ..tar::Limits::default() };
    let mut reader = TarReader::new(Bounded { source: decoder, left: MAX_CONTROL }, limits);
    let mut files = BTreeMap::new();
    while let Some(entry) = reader.next_entry()? {
        match entry.kind {
            Kind::Directory => {}
            Kind::File { .. } => {
                let name = String::from_utf8(entry.path).ok().filter(|name| is_control_file(name));
                let name = name.ok_or(DebError::Control("a file of it has a name that is not allowed"))?;
                let mut content = Vec::new();
                reader.read_to_end(&mut content).map_err(DebError::Read)?;
                files.insert(name, content);
            }
            _ => return Err(DebError::Control("it holds something other than files")),
        }
    }
    reader.drain()?;
    let left = stream.limit();
    member.end(source, left)?;
    let text = files.remove("control").ok_or(DebError::Control("it lacks the file `control`"))?;
    let text = String::from_utf8(text).map_err(|_| DebError::Control("`control` is not UTF-8"))?;
    let fields = Paragraph::parse(&text).map_err(|_| DebError::Control("`control` is malformed"))?;
    Ok(Control { fields, files })
}

/// Names of control files become parts of names in dpkg's database.
fn is_control_file(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b))
}

/// Hashes what is read through it.
struct Hashed<R> {
    source: R,
    hasher: Hasher<io::Sink>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buf)?;
        io::Write::write_all(&mut self.hasher, &buf[..count])?;
        Ok(count)
    }
}

/// Fails when more than a number of bytes are read, which [`Read::take`] would pass off as the end.
struct Bounded<R> {
    source: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buf)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "it decompresses to more than is allowed"))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
