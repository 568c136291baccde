//! The ar archive around a package. Spec: deb(5); ar(5), common format.

use std::io::{self, BufRead, Read, Take};

use super::DebError;

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: usize = 60;

/// A member's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) size: u64,
}

pub(super) fn read_magic(source: &mut impl Read) -> Result<(), DebError> {
    let mut magic = [0; MAGIC.len()];
    source.read_exact(&mut magic).map_err(truncated)?;
    if magic == *MAGIC { Ok(()) } else { Err(DebError::NotAnArchive) }
}

impl Member {
    /// The next member's header; `None` at the archive's end.
    pub(super) fn read(source: &mut impl BufRead) -> Result<Option<Self>, DebError> {
        if source.fill_buf().map_err(DebError::Read)?.is_empty() {
            return Ok(None);
        }
        let mut header = [0; HEADER];
        source.read_exact(&mut header).map_err(truncated)?;
        if !header.ends_with(b"`\n") {
            return Err(DebError::Header);
        }
        let text = |range: std::ops::Range<usize>| {
            std::str::from_utf8(&header[range]).map(|text| text.trim_end_matches(' ')).map_err(|_| DebError::Header)
        };
        let name = text(0..16)?;
        let size = text(48..58)?;
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_digit()) {
            return Err(DebError::Header);
        }
        let size = size.parse().map_err(|_| DebError::Header)?;
        Ok(Some(Self { name: name.strip_suffix('/').unwrap_or(name).to_owned(), size }))
    }

    /// The member's bytes. [`Member::end`] must follow.
    pub(super) fn stream<'a, R: BufRead>(&self, source: &'a mut R) -> Take<&'a mut R> {
        source.take(self.size)
    }

    /// Ends a member of which `left` bytes were not read: all must have been, for a decoder that stopped early was
    /// given a damaged stream.
    pub(super) fn end(&self, source: &mut impl BufRead, left: u64) -> Result<(), DebError> {
        if left > 0 {
            let ended = source.fill_buf().map_err(DebError::Read)?.is_empty();
            return Err(if ended { DebError::Truncated } else { DebError::Trailing(self.name.clone()) });
        }
        self.pad(source)
    }

    /// The whole of a small member.
    pub(super) fn contents(&self, source: &mut impl BufRead) -> Result<Vec<u8>, DebError> {
        let mut contents = Vec::new();
        let mut stream = self.stream(source);
        stream.read_to_end(&mut contents).map_err(DebError::Read)?;
        let left = stream.limit();
        self.end(source, left)?;
        Ok(contents)
    }

    pub(super) fn skip(&self, source: &mut impl BufRead) -> Result<(), DebError> {
        let mut stream = self.stream(source);
        io::copy(&mut stream, &mut io::sink()).map_err(DebError::Read)?;
        let left = stream.limit();
        self.end(source, left)
    }

    /// Members begin at even positions. The last may lack its padding.
    fn pad(&self, source: &mut impl BufRead) -> Result<(), DebError> {
        if self.size % 2 == 1 && !source.fill_buf().map_err(DebError::Read)?.is_empty() {
            source.consume(1);
        }
        Ok(())
    }
}

fn truncated(error: io::Error) -> DebError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => DebError::Truncated,
        _ => DebError::Read(error),
    }
}
