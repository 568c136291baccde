//! Whole lines out of a stream of chunks.

use crate::ui::text::neutralise;

/// A line longer than this is cut into several.
const LONGEST: usize = 16 * 1024;

/// Collects one stream's bytes until a line is whole.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    /// A carriage return was the last byte: the next one shows whether it ends the line or begins it anew.
    returned: bool,
}

impl Lines {
    /// Takes a chunk and hands every line that became whole to `line`, made harmless.
    ///
    /// A lone carriage return starts its line again, as on a terminal: of a progress bar redrawn a hundred times only
    /// the last state stays.
    pub(super) fn push(&mut self, chunk: &[u8], mut line: impl FnMut(String)) {
        for &byte in chunk {
            let returned = std::mem::replace(&mut self.returned, byte == b'\r');
            match byte {
                b'\n' => line(self.take()),
                b'\r' => {}
                byte => {
                    if returned {
                        self.partial.clear();
                    }
                    self.partial.push(byte);
                    if self.partial.len() >= LONGEST {
                        line(self.take());
                    }
                }
            }
        }
    }

    /// The line begun but not ended, if there is one.
    pub(super) fn flush(&mut self) -> Option<String> {
        (!self.partial.is_empty()).then(|| self.take())
    }

    /// The line begun but not ended, as it is now.
    pub(super) fn peek(&self) -> Option<String> {
        (!self.partial.is_empty()).then(|| harmless(&self.partial))
    }

    fn take(&mut self) -> String {
        let line = harmless(&self.partial);
        self.partial.clear();
        line
    }
}

fn harmless(bytes: &[u8]) -> String {
    neutralise(&String::from_utf8_lossy(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |line| out.push(line));
        }
        out.extend(lines.flush());
        out
    }

    #[test]
    fn chunks_become_lines() {
        assert_eq!(lines(&[b"one\ntw", b"o\n", b"\n", b"three"]), ["one", "two", "", "three"]);
        assert_eq!(lines(&[b"dos\r", b"\nunix\n"]), ["dos", "unix"]);
        assert_eq!(lines(&[b" 10%\r 50%", b"\r100%\n"]), ["100%"]);
        assert_eq!(lines(&[b"spinner\r"]), ["spinner"]);
        assert_eq!(lines(&["é".as_bytes().split_at(1).0, "é".as_bytes().split_at(1).1]), ["é"]);
        assert_eq!(lines(&[b"\xff\x1b[31mred\x1b[0m"]), ["\u{fffd}red"]);
    }

    #[test]
    fn a_line_without_end_does_not_grow_without_end() {
        let long = vec![b'x'; LONGEST * 2 + 1];
        assert_eq!(lines(&[&long]).iter().map(String::len).collect::<Vec<_>>(), [LONGEST, LONGEST, 1]);
    }
}
