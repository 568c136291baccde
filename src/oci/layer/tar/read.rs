//! The reader.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::entry::{Device, Entry, Kind};
use super::error::{HeaderProblem, LimitKind, PathProblem, TarError};
use super::header::{self, Block};
use super::pax::{self, Records};
use super::{BLOCK, padding};

/// How much of anything an archive may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Members.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Bytes of a path or link target.
    pub path: usize,
    /// Bytes of the extended headers of one entry.
    pub extended_header: u64,
}

impl Default for Limits {
    /// Far above any image that is used, and far below what fills a disk unnoticed: four million entries, 256 GiB of
    /// files, Linux's longest path, 1 MiB of extended headers.
    fn default() -> Self {
        Self { entries: 4_000_000, bytes: 256 << 30, path: 4096, extended_header: 1 << 20 }
    }
}

/// Reads a tar from a stream: ustar, pax and GNU long names.
///
/// Paths come out relative and normal; one with `..` is refused. Sizes, numbers and lengths are bounded before
/// anything is allocated for them. An end without end marker is accepted between entries, as everywhere.
#[derive(Debug)]
pub struct TarReader<R> {
    source: R,
    limits: Limits,
    offset: u64,
    entries: u64,
    bytes: u64,
    /// Of the present file: content not read yet, and the padding behind it.
    left: u64,
    pad: usize,
    ended: bool,
}

impl<R: Read> TarReader<R> {
    /// Reads from `source`, which should be buffered or hand out large pieces.
    pub fn new(source: R, limits: Limits) -> Self {
        Self { source, limits, offset: 0, entries: 0, bytes: 0, left: 0, pad: 0, ended: false }
    }

    /// The next entry; what is left of the present one's content is passed over. `None` at the end.
    ///
    /// # Errors
    /// [`TarError`] of every kind but the writing ones.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip_content()?;
        if self.ended {
            return Ok(None);
        }
        let mut records = Records::new();
        loop {
            let offset = self.offset;
            let Some(block) = self.header(!records.is_empty())? else {
                self.ended = true;
                return Ok(None);
            };
            let fail = |problem| TarError::Header { offset, problem };
            let size = block.number(header::SIZE).and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or(fail(HeaderProblem::Number("size")))?;
            match block.0[header::TYPE] {
                b'x' => {
                    let data = self.extended(size)?;
                    pax::decode(&data, &mut records).ok_or(fail(HeaderProblem::PaxRecord))?;
                }
                // Global records: comments of archive makers. No reader of layers applies them.
                b'g' => drop(self.extended(size)?),
                flag @ (b'L' | b'K') => {
                    let mut data = self.extended(size)?;
                    data.truncate(data.iter().position(|&byte| byte == 0).unwrap_or(data.len()));
                    records.insert(if flag == b'L' { b"path".to_vec() } else { b"linkpath".to_vec() }, data);
                }
                _ => return self.entry(&block, records, offset).map(Some),
            }
        }
    }

    /// How many bytes of the archive were read: after [`TarReader::next_entry`], where the entry's content begins.
    pub const fn position(&self) -> u64 {
        self.offset
    }

    /// Reads what follows the entries and gives back the source, read to its end.
    ///
    /// # Errors
    /// [`TarError::Read`].
    pub fn drain(mut self) -> Result<R, TarError> {
        io::copy(&mut self.source, &mut io::sink()).map_err(TarError::Read)?;
        Ok(self.source)
    }

    fn header(&mut self, inside: bool) -> Result<Option<Block>, TarError> {
        let Some(block) = self.block()? else {
            return if inside { Err(TarError::Truncated { offset: self.offset }) } else { Ok(None) };
        };
        if block.is_zero() {
            // A single zero block before other content is no end marker, but nothing that may follow it is an entry.
            return Ok(None);
        }
        let (unsigned, signed) = block.sums();
        let offset = self.offset - BLOCK as u64;
        match block.number(header::CHECKSUM) {
            Some(sum) if sum == unsigned || sum == signed => Ok(Some(block)),
            _ => Err(TarError::Header { offset, problem: HeaderProblem::Checksum }),
        }
    }

    /// One block; `None` where the source ends before its first byte.
    fn block(&mut self) -> Result<Option<Block>, TarError> {
        let mut block = Block::zero();
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block.0[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Truncated { offset: self.offset + filled as u64 }),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    fn extended(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let limit = self.limits.extended_header;
        let length = usize::try_from(size).ok().filter(|_| size <= limit);
        let length = length.ok_or(TarError::Limit { kind: LimitKind::ExtendedHeader, limit })?;
        let mut data = vec![0; length + padding(size)];
        self.source.read_exact(&mut data).map_err(|error| self.ended_in(error))?;
        self.offset += data.len() as u64;
        data.truncate(length);
        Ok(data)
    }

    fn ended_in(&self, error: io::Error) -> TarError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => TarError::Truncated { offset: self.offset },
            _ => TarError::Read(error),
        }
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        let rest = self.left + self.pad as u64;
        let skipped = io::copy(&mut (&mut self.source).take(rest), &mut io::sink()).map_err(TarError::Read)?;
        self.offset += skipped;
        (self.left, self.pad) = (0, 0);
        if skipped == rest { Ok(()) } else { Err(TarError::Truncated { offset: self.offset }) }
    }

    fn entry(&mut self, block: &Block, mut records: Records, offset: u64) -> Result<Entry, TarError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(TarError::Limit { kind: LimitKind::Entries, limit: self.limits.entries });
        }
        let numbers = Numbers { block, records: &records, offset };
        let (uid, gid) = (numbers.id("uid", header::UID)?, numbers.id("gid", header::GID)?);
        let (mode, (mtime, nanoseconds)) = (numbers.field("mode", header::MODE)?, numbers.mtime()?);
        let size = numbers.size()?;
        if records.keys().any(|key| key.starts_with(b"GNU.sparse.")) {
            return Err(TarError::Header { offset, problem: HeaderProblem::Sparse });
        }
        let raw = records.remove(&b"path"[..]).unwrap_or_else(|| ustar_name(block));
        let flag = block.0[header::TYPE];
        let path = self.normal(&raw)?;
        let kind = match flag {
            0 if raw.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' => Kind::File { size },
            b'1' | b'2' => {
                let target = records.remove(&b"linkpath"[..]).unwrap_or_else(|| block.text(header::LINK_NAME).to_vec());
                self.check_target(&raw, &target)?;
                if flag == b'2' { Kind::Symlink { target } } else { Kind::HardLink { target: self.normal(&target)? } }
            }
            b'3' | b'4' => {
                let device = numbers_device(block, offset)?;
                if flag == b'3' { Kind::CharDevice(device) } else { Kind::BlockDevice(device) }
            }
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'S' => return Err(TarError::Header { offset, problem: HeaderProblem::Sparse }),
            other => return Err(TarError::Header { offset, problem: HeaderProblem::Type(other) }),
        };
        if path.is_empty() && kind != Kind::Directory {
            return Err(TarError::Path {
                path: String::from_utf8_lossy(&raw).into_owned(),
                problem: PathProblem::Empty,
            });
        }
        // Only files have content; in other headers a size means nothing.
        if let Kind::File { size } = kind {
            self.bytes = self.bytes.saturating_add(size);
            if self.bytes > self.limits.bytes {
                return Err(TarError::Limit { kind: LimitKind::Bytes, limit: self.limits.bytes });
            }
            (self.left, self.pad) = (size, padding(size));
        }
        let xattrs = xattrs(records).ok_or(TarError::Header { offset, problem: HeaderProblem::XattrName })?;
        Ok(Entry { path, kind, mode: (mode & 0o7777) as u32, uid, gid, mtime, nanoseconds, xattrs })
    }

    fn check_target(&self, path: &[u8], target: &[u8]) -> Result<(), TarError> {
        let problem = match target {
            [] => PathProblem::Empty,
            _ if target.contains(&0) => PathProblem::Nul,
            _ if target.len() > self.limits.path => PathProblem::TooLong,
            _ => return Ok(()),
        };
        Err(TarError::Path { path: String::from_utf8_lossy(path).into_owned(), problem })
    }

    /// The path without what means nothing: leading slashes, `.`, doubled slashes.
    fn normal(&self, raw: &[u8]) -> Result<Vec<u8>, TarError> {
        let fail = |problem| {
            let shown = &raw[..raw.len().min(256)];
            TarError::Path { path: String::from_utf8_lossy(shown).into_owned(), problem }
        };
        if raw.len() > self.limits.path {
            return Err(fail(PathProblem::TooLong));
        }
        if raw.contains(&0) {
            return Err(fail(PathProblem::Nul));
        }
        let mut path = Vec::with_capacity(raw.len());
        for part in raw.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(fail(PathProblem::Traversal)),
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        Ok(path)
    }
}

/// Reads the content of the present entry.
impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        if room == 0 {
            return Ok(0);
        }
        let count = self.source.read(&mut buf[..room])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, TarError::Truncated { offset: self.offset }));
        }
        self.left -= count as u64;
        self.offset += count as u64;
        Ok(count)
    }
}

/// The numbers of a header, pax records going first.
struct Numbers<'a> {
    block: &'a Block,
    records: &'a Records,
    offset: u64,
}

impl Numbers<'_> {
    fn fail(&self, field: &'static str) -> TarError {
        TarError::Header { offset: self.offset, problem: HeaderProblem::Number(field) }
    }

    fn field(&self, name: &'static str, field: std::ops::Range<usize>) -> Result<i64, TarError> {
        self.block.number(field).ok_or_else(|| self.fail(name))
    }

    fn record(&self, name: &'static str) -> Result<Option<i64>, TarError> {
        let Some(value) = self.records.get(name.as_bytes()) else { return Ok(None) };
        // Times may have a fraction, which is cut off towards the past.
        let (whole, fraction) = match value.iter().position(|&byte| byte == b'.') {
            Some(dot) => (&value[..dot], &value[dot + 1..]),
            None => (&value[..], &[][..]),
        };
        let whole = std::str::from_utf8(whole).ok().and_then(|text| text.parse::<i64>().ok());
        let whole = whole.filter(|_| fraction.iter().all(u8::is_ascii_digit)).ok_or_else(|| self.fail(name))?;
        let below = value.starts_with(b"-") && fraction.iter().any(|&digit| digit != b'0');
        Ok(Some(if below { whole.saturating_sub(1) } else { whole }))
    }

    fn id(&self, name: &'static str, field: std::ops::Range<usize>) -> Result<u32, TarError> {
        let value = match self.record(name)? {
            Some(value) => value,
            None => self.field(name, field)?,
        };
        // The highest id means "no change" to the kernel and can be nobody's.
        u32::try_from(value).ok().filter(|&id| id != u32::MAX).ok_or_else(|| self.fail(name))
    }

    fn size(&self) -> Result<u64, TarError> {
        let value = match self.record("size")? {
            Some(value) => value,
            None => self.field("size", header::SIZE)?,
        };
        u64::try_from(value).map_err(|_| self.fail("size"))
    }

    /// Seconds, and nanoseconds after them.
    fn mtime(&self) -> Result<(i64, u32), TarError> {
        match self.record("mtime")? {
            Some(seconds) => Ok((seconds, self.records.get(&b"mtime"[..]).map_or(0, |value| nanoseconds(value)))),
            None => Ok((self.field("mtime", header::MTIME)?, 0)),
        }
    }
}

/// The fraction of a time, counted from the whole second before it. Digits past the ninth are cut off.
fn nanoseconds(value: &[u8]) -> u32 {
    let Some(dot) = value.iter().position(|&byte| byte == b'.') else { return 0 };
    let digits = value[dot + 1..].iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let fraction = digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    if value.starts_with(b"-") && fraction > 0 { 1_000_000_000 - fraction } else { fraction }
}

fn numbers_device(block: &Block, offset: u64) -> Result<Device, TarError> {
    let number = |field, name| {
        let value = block.number(field).and_then(|value| u32::try_from(value).ok());
        value.ok_or(TarError::Header { offset, problem: HeaderProblem::Number(name) })
    };
    let major = number(header::DEV_MAJOR, "device major number")?;
    Ok(Device { major, minor: number(header::DEV_MINOR, "device minor number")? })
}

fn ustar_name(block: &Block) -> Vec<u8> {
    let name = block.text(header::NAME);
    // GNU headers (`ustar  \0`) keep other things where ustar has the prefix.
    let prefix = match &block.0[header::MAGIC] {
        magic if !magic.starts_with(b"ustar\0") => &[],
        _ if block.0[header::STAR_MARK] == *b"tar\0" => block.text(header::STAR_PREFIX),
        _ => block.text(header::PREFIX),
    };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

fn xattrs(records: Records) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut xattrs = BTreeMap::new();
    for (key, value) in records {
        if let Some(name) = key.strip_prefix(pax::XATTR) {
            if name.is_empty() || name.contains(&b'=') {
                return None;
            }
            xattrs.insert(name.to_vec(), value);
        }
    }
    Some(xattrs)
}
