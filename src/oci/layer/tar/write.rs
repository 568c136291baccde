//! The writer.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use super::entry::{Device, Entry, Kind, split};
use super::error::{HeaderProblem, PathProblem, TarError};
use super::header::{self, Block, fits_octal};
use super::pax::{self, Records};
use super::{BLOCK, padding};

/// Writes a tar whose every byte follows from its entries: plain ustar headers where they suffice, with pax records
/// in front where they do not. The bytes are those Go's `archive/tar` writes for headers of its pax format, and so
/// those of BuildKit's and containerd's layers.
#[derive(Debug)]
pub struct TarWriter<W> {
    sink: W,
    offset: u64,
    buffer: Vec<u8>,
    /// The devices so far. BuildKit takes a link's header from the inode, so one to a device has its numbers.
    devices: HashMap<Vec<u8>, Device>,
    nanoseconds: bool,
}

const COPY_BUFFER: usize = 128 * 1024;

impl<W: Write> TarWriter<W> {
    /// Writes to `sink`, in small pieces for headers and large ones for content.
    pub fn new(sink: W) -> Self {
        Self { sink, offset: 0, buffer: Vec::new(), devices: HashMap::new(), nanoseconds: false }
    }

    /// Writes times with their nanoseconds: for archives that only carry files from one directory to another.
    #[must_use]
    pub fn with_nanoseconds(mut self) -> Self {
        self.nanoseconds = true;
        self
    }

    /// Writes one entry. For a file, exactly as many bytes of `content` are taken as the entry says.
    ///
    /// # Errors
    /// [`TarError::Path`] and [`TarError::Header`] for entries that a tar cannot hold, [`TarError::Content`] and
    /// [`TarError::Shrunk`] for content that cannot be read to its end, [`TarError::Write`].
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), TarError> {
        self.append_header(entry)?;
        let Kind::File { size } = entry.kind else { return Ok(()) };
        let mut left = size;
        if self.buffer.is_empty() && left > 0 {
            self.buffer = vec![0; COPY_BUFFER];
        }
        while left > 0 {
            let room = usize::try_from(left).map_or(COPY_BUFFER, |left| left.min(COPY_BUFFER));
            let count = match content.read(&mut self.buffer[..room]) {
                Ok(0) => {
                    return Err(TarError::Shrunk { path: entry.display_path(), expected: size, found: size - left });
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(TarError::Content { path: entry.display_path(), source }),
            };
            self.sink.write_all(&self.buffer[..count]).map_err(TarError::Write)?;
            left -= count as u64;
        }
        self.offset += size;
        self.put(&[0; BLOCK][..padding(size)])
    }

    /// Writes an entry that has no content: anything but a file, or an empty one.
    ///
    /// # Errors
    /// As [`TarWriter::append`].
    pub fn append_empty(&mut self, entry: &Entry) -> Result<(), TarError> {
        self.append(entry, &mut io::empty())
    }

    /// Writes a file from memory. The entry's own size is not looked at.
    ///
    /// # Errors
    /// As [`TarWriter::append`].
    pub fn append_bytes(&mut self, entry: &Entry, mut content: &[u8]) -> Result<(), TarError> {
        let entry = Entry { kind: Kind::File { size: content.len() as u64 }, ..entry.clone() };
        self.append(&entry, &mut content)
    }

    /// Ends the archive and gives back the sink.
    ///
    /// # Errors
    /// [`TarError::Write`].
    pub fn finish(mut self) -> Result<W, TarError> {
        self.put(&[0; 2 * BLOCK])?;
        Ok(self.sink)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.sink.write_all(bytes).map_err(TarError::Write)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn append_header(&mut self, entry: &Entry) -> Result<(), TarError> {
        check_path(&entry.path)?;
        let mut fields = Fields::of(entry)?;
        match &entry.kind {
            Kind::CharDevice(device) | Kind::BlockDevice(device) => {
                self.devices.insert(entry.path.clone(), *device);
            }
            Kind::HardLink { target } => fields.device = self.devices.get(target).copied().unwrap_or(fields.device),
            Kind::File { .. } | Kind::Directory | Kind::Symlink { .. } | Kind::Fifo => {}
        }
        let mut records = fields.records(entry).map_err(|problem| TarError::Header { offset: self.offset, problem })?;
        if self.nanoseconds && entry.nanoseconds != 0 {
            // The name's records are left out where a header has room for it, which one after records has not.
            records.entry(b"path".to_vec()).or_insert_with(|| fields.name.clone());
            records.insert(b"mtime".to_vec(), fractional(entry.mtime, entry.nanoseconds));
        }
        if records.is_empty() {
            return self.put(&fields.ustar().0);
        }
        let data = pax::encode(&records);
        self.put(&extended_header(&fields.name, data.len()).0)?;
        self.put(&data)?;
        self.put(&[0; BLOCK][..padding(data.len() as u64)])?;
        self.put(&fields.after_pax().0)
    }
}

/// A time as records hold it: `seconds.fraction`.
fn fractional(seconds: i64, nanoseconds: u32) -> Vec<u8> {
    const SECOND: u128 = 1_000_000_000;
    let all = i128::from(seconds) * SECOND.cast_signed() + i128::from(nanoseconds);
    let (sign, all) = (if all < 0 { "-" } else { "" }, all.unsigned_abs());
    format!("{sign}{}.{:09}", all / SECOND, all % SECOND).into_bytes()
}

/// An entry as header fields.
struct Fields<'a> {
    /// The path; a directory's with a slash behind it.
    name: Vec<u8>,
    link_name: &'a [u8],
    flag: u8,
    size: i64,
    mode: i64,
    uid: i64,
    gid: i64,
    mtime: i64,
    device: Device,
}

impl<'a> Fields<'a> {
    fn of(entry: &'a Entry) -> Result<Self, TarError> {
        let mut name = entry.path.clone();
        let none = Device { major: 0, minor: 0 };
        let mut size = 0;
        let (flag, link_name, device): (u8, &[u8], Device) = match &entry.kind {
            Kind::File { size: length } => {
                size = i64::try_from(*length)
                    .map_err(|_| TarError::Header { offset: 0, problem: HeaderProblem::Number("size") })?;
                (b'0', &[], none)
            }
            Kind::HardLink { target } => {
                check_path(target)?;
                (b'1', target, none)
            }
            Kind::Symlink { target } => {
                let problem = if target.is_empty() { PathProblem::Empty } else { PathProblem::Nul };
                if target.is_empty() || target.contains(&0) {
                    return Err(TarError::Path { path: entry.display_path(), problem });
                }
                (b'2', target, none)
            }
            Kind::CharDevice(device) => (b'3', &[], *device),
            Kind::BlockDevice(device) => (b'4', &[], *device),
            Kind::Directory => {
                name.push(b'/');
                (b'5', &[], none)
            }
            Kind::Fifo => (b'6', &[], none),
        };
        Ok(Self {
            name,
            link_name,
            flag,
            size,
            mode: i64::from(entry.mode & 0o7777),
            uid: i64::from(entry.uid),
            gid: i64::from(entry.gid),
            mtime: entry.mtime,
            device,
        })
    }

    /// What a ustar header alone cannot say; empty where it suffices.
    fn records(&self, entry: &Entry) -> Result<Records, HeaderProblem> {
        let mut records = Records::new();
        let mut needed = !entry.xattrs.is_empty();
        let mut text = |key: &str, value: &[u8], room: usize, splits: bool| {
            if !value.is_ascii() || value.len() > room {
                needed |= !(splits && split_ustar(value).is_some());
                records.insert(key.as_bytes().to_vec(), value.to_vec());
            }
        };
        text("path", &self.name, header::NAME.len(), true);
        text("linkpath", self.link_name, header::LINK_NAME.len(), false);
        for (key, value, field) in [
            ("uid", self.uid, header::UID),
            ("gid", self.gid, header::GID),
            ("size", self.size, header::SIZE),
            ("mtime", self.mtime, header::MTIME),
        ] {
            if !fits_octal(field.len(), value) {
                needed = true;
                records.insert(key.as_bytes().to_vec(), value.to_string().into_bytes());
            }
        }
        for (what, number, field) in [
            ("device major number", self.device.major, header::DEV_MAJOR),
            ("device minor number", self.device.minor, header::DEV_MINOR),
        ] {
            if !fits_octal(field.len(), i64::from(number)) {
                return Err(HeaderProblem::Number(what));
            }
        }
        for (name, value) in &entry.xattrs {
            if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'=')) {
                return Err(HeaderProblem::XattrName);
            }
            records.insert([pax::XATTR, name].concat(), value.clone());
        }
        Ok(if needed { records } else { Records::new() })
    }

    /// The header where no records are needed.
    fn ustar(&self) -> Block {
        let (prefix, name) = split_ustar(&self.name).unwrap_or((&[], &self.name));
        let mut block = self.block(name, self.link_name);
        block.set_text(header::PREFIX, prefix);
        block.seal();
        block
    }

    /// The header that follows records: what the fields can hold of each value.
    fn after_pax(&self) -> Block {
        let mut block = self.block(&ascii(&self.name), &ascii(self.link_name));
        block.seal();
        block
    }

    fn block(&self, name: &[u8], link_name: &[u8]) -> Block {
        let mut block = Block::zero();
        block.0[header::TYPE] = self.flag;
        block.0[header::MAGIC].copy_from_slice(header::USTAR);
        block.set_text(header::NAME, name);
        block.set_text(header::LINK_NAME, link_name);
        block.set_octal(header::MODE, self.mode);
        block.set_octal(header::UID, self.uid);
        block.set_octal(header::GID, self.gid);
        block.set_octal(header::SIZE, self.size);
        block.set_octal(header::MTIME, self.mtime);
        block.set_octal(header::DEV_MAJOR, i64::from(self.device.major));
        block.set_octal(header::DEV_MINOR, i64::from(self.device.minor));
        block
    }
}

/// The header of the records themselves.
fn extended_header(name: &[u8], length: usize) -> Block {
    let (directory, file) = split(name);
    let mut shown = directory.to_vec();
    for part in [&b"PaxHeaders.0"[..], file] {
        if !shown.is_empty() && !part.is_empty() {
            shown.push(b'/');
        }
        shown.extend_from_slice(part);
    }
    let shown = ascii(&shown);
    let mut block = Block::zero();
    block.0[header::TYPE] = b'x';
    block.0[header::MAGIC].copy_from_slice(header::USTAR);
    block.set_text(header::NAME, header::trim_slashes(&shown[..shown.len().min(header::NAME.len())]));
    for field in [header::MODE, header::UID, header::GID, header::MTIME] {
        block.set_octal(field, 0);
    }
    block.set_octal(header::SIZE, length as i64);
    block.seal();
    block
}

/// Splits a name too long for its field into prefix and rest, at the last slash that leaves both short enough.
fn split_ustar(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= header::NAME.len() || !name.is_ascii() {
        return None;
    }
    let longest = header::PREFIX.len() + 1;
    let reach = if name.len() > longest { longest } else { header::trim_slashes(name).len() };
    let slash = name[..reach].iter().rposition(|&byte| byte == b'/').filter(|&slash| slash > 0)?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    (!rest.is_empty() && rest.len() <= header::NAME.len() && prefix.len() <= header::PREFIX.len())
        .then_some((prefix, rest))
}

/// What is ASCII of it.
fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(u8::is_ascii).collect()
}

pub(super) fn check_path(path: &[u8]) -> Result<(), TarError> {
    let problem = if path.is_empty() {
        PathProblem::Empty
    } else if path.contains(&0) {
        PathProblem::Nul
    } else if path.split(|&byte| byte == b'/').any(|part| part == b"..") {
        PathProblem::Traversal
    } else if path.split(|&byte| byte == b'/').any(|part| part.is_empty() || part == b".") {
        PathProblem::NotNormal
    } else {
        return Ok(());
    };
    Err(TarError::Path { path: String::from_utf8_lossy(path).into_owned(), problem })
}
