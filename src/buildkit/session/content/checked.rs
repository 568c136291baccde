//! Checking a blob while it is received.

use std::io::{self, Read, Write as _};

use oci::{Digest, Hasher};

/// Reads on, and fails at the end if what was read is not what was announced.
pub(super) struct Checked<R> {
    from: R,
    expected: Digest,
    size: Option<u64>,
    state: State,
}

enum State {
    Reading(Hasher<io::Sink>),
    Right,
    Wrong(String),
}

impl<R: Read> Checked<R> {
    pub(super) fn new(from: R, expected: Digest, size: Option<u64>) -> Self {
        Self { from, expected, size, state: State::Reading(Hasher::new(io::sink())) }
    }

    /// Reads what is left, so that all of it is checked.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(|_| ())
    }

    fn verdict(&self, found: Digest, size: u64) -> State {
        match self.size {
            Some(expected) if expected != size => {
                State::Wrong(format!("{size} bytes came for {}, {expected} were announced", self.expected))
            }
            _ if found != self.expected => {
                State::Wrong(format!("what came for {} has the digest {found}", self.expected))
            }
            _ => State::Right,
        }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if let State::Reading(hasher) = &mut self.state {
            let length = self.from.read(buf)?;
            if length > 0 {
                hasher.write_all(&buf[..length])?;
                return Ok(length);
            }
            let (found, size) = hasher.clone().finish();
            self.state = self.verdict(found, size);
        }
        match &self.state {
            State::Wrong(text) => Err(io::Error::new(io::ErrorKind::InvalidData, text.clone())),
            State::Reading(_) | State::Right => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_announced_comes_to_an_end() {
        let read = |content: &str, size| {
            let mut checked = Checked::new(content.as_bytes(), Digest::of("content"), size);
            let mut all = String::new();
            let first = checked.read_to_string(&mut all).map(|_| all).map_err(|error| error.to_string());
            assert_eq!(first.is_ok(), checked.drain().is_ok(), "a wrong end stays one");
            first
        };
        assert_eq!(read("content", None).as_deref(), Ok("content"));
        assert_eq!(read("content", Some(7)).as_deref(), Ok("content"));
        let size = read("content", Some(8)).expect_err("another length");
        assert!(size.contains("7 bytes") && size.contains('8'), "{size}");
        let digest = read("CONTENT", Some(7)).expect_err("another digest");
        assert!(digest.contains(&Digest::of("CONTENT").to_string()), "{digest}");
    }
}
