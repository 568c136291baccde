//! The output of one of several processes, passed on line by line with the process's name in front.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::sys::file::{write_all, Fd};
use crate::sys::Errno;

/// Longer lines are passed on in parts of this many bytes.
const MAX_LINE: usize = 16 << 10;

/// Where lines go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// This program's standard output.
    Stdout = 1,
    /// This program's standard error.
    Stderr = 2,
}

/// A pipe a process writes to.
#[derive(Debug)]
pub(crate) struct Lines {
    pipe: Fd,
    prefix: String,
    target: Target,
    /// The line that has not ended yet.
    partial: Vec<u8>,
}

impl Lines {
    /// Reads `pipe`, into which the process called `name` writes.
    pub(crate) fn new(pipe: Fd, name: &str, target: Target) -> Self {
        Self { pipe, prefix: format!("[{name}] "), target, partial: Vec::new() }
    }

    /// Passes on what is there, which must be something or the end. Gives whether more may come.
    pub(crate) fn pass_on(&mut self) -> bool {
        let mut bytes = [0; MAX_LINE];
        match self.pipe.read(&mut bytes) {
            Ok(0) => {
                self.write(&[], true);
                false
            }
            Ok(length) => {
                self.write(&bytes[..length], false);
                true
            }
            Err(error) => error == Errno::EINTR,
        }
    }

    /// Passes on the line that never ended.
    pub(crate) fn finish(mut self) {
        self.write(&[], true);
    }

    /// The descriptor that can be read when there is something.
    pub(crate) fn number(&self) -> i32 {
        self.pipe.number()
    }

    fn write(&mut self, bytes: &[u8], is_last: bool) {
        let written = self.complete_lines(bytes, is_last);
        // Nobody reads the log any more. The processes go on all the same, and must not be stopped by a full pipe.
        let _ = write_all(self.target as i32, &written);
    }

    /// The lines that have ended with `bytes`, each with its prefix.
    fn complete_lines(&mut self, bytes: &[u8], is_last: bool) -> Vec<u8> {
        let mut written = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut text = line.strip_suffix(b"\n").unwrap_or(line);
            while self.partial.len() + text.len() > MAX_LINE {
                let (part, rest) = text.split_at(whole_characters(text, MAX_LINE - self.partial.len()));
                self.partial.extend_from_slice(part);
                self.take_partial(&mut written);
                text = rest;
            }
            self.partial.extend_from_slice(text);
            if line.ends_with(b"\n") {
                self.partial.push(b'\n');
                self.take_partial(&mut written);
            }
        }
        if is_last && !self.partial.is_empty() {
            self.take_partial(&mut written);
        }
        written
    }

    fn take_partial(&mut self, written: &mut Vec<u8>) {
        written.extend_from_slice(self.prefix.as_bytes());
        written.append(&mut self.partial);
        if !written.ends_with(b"\n") {
            written.push(b'\n');
        }
    }
}

/// At most `length` bytes of a text, so that no character of UTF-8 is cut in two. Nothing only where a line has begun.
fn whole_characters(text: &[u8], length: usize) -> usize {
    let is_cut = |at: &usize| text.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    // No character has more than three bytes behind its first. What has more is not UTF-8.
    (length.saturating_sub(3)..=length)
        .rev()
        .find(|at| !is_cut(at))
        .filter(|at| *at > 0 || length < MAX_LINE)
        .unwrap_or(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Lines {
        Lines::new(crate::sys::file::open_null().unwrap(), "app", Target::Stdout)
    }

    #[test]
    fn lines_are_passed_on_when_they_end() {
        let mut lines = lines();
        assert_eq!(lines.complete_lines(b"one\ntw", false), b"[app] one\n");
        assert_eq!(lines.complete_lines(b"o\n\nthree", false), b"[app] two\n[app] \n");
        assert_eq!(lines.complete_lines(b"", true), b"[app] three\n");
        assert_eq!(lines.complete_lines(b"", true), b"");
    }

    #[test]
    fn a_long_line_is_broken_where_it_must_be() {
        let long = "x".repeat(MAX_LINE - 1);
        let whole = |text: &str| {
            let mut lines = lines();
            let first = lines.complete_lines(&text.as_bytes()[..10_000], false);
            let rest = lines.complete_lines(&text.as_bytes()[10_000..], true);
            String::from_utf8([first, rest].concat()).unwrap()
        };
        assert_eq!(whole(&format!("{long}y\nz\n")), format!("[app] {long}y\n[app] z\n"));
        assert_eq!(whole(&format!("{long}yz\n")), format!("[app] {long}y\n[app] z\n"));
        assert_eq!(whole(&format!("{long}é\n")), format!("[app] {long}\n[app] é\n"));
        let bytes = [0x80; 2 * MAX_LINE];
        assert_eq!(lines().complete_lines(&bytes, true).iter().filter(|byte| **byte == 0x80).count(), bytes.len());
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let mut lines = lines();
        let chunk = [b'x'; 5000];
        let mut total = 0;
        for _ in 0..100 {
            total += lines.complete_lines(&chunk, false).iter().filter(|byte| **byte == b'x').count();
            assert!(lines.partial.len() <= MAX_LINE);
        }
        total += lines.complete_lines(b"", true).iter().filter(|byte| **byte == b'x').count();
        assert_eq!(total, 500_000);
    }
}
