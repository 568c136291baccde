//! Commands that fail.

use std::collections::VecDeque;

use diag::{Diagnostic, Reported, codes};

/// A command that ran and did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{command}` {}", self.fate())]
pub struct StepFailure {
    /// The command, shortened.
    pub command: String,
    /// Its exit status, or 128 and the number of the signal that ended it.
    pub code: i32,
    /// Whether the kernel ended it for want of memory.
    pub out_of_memory: bool,
    /// The last lines it wrote.
    pub last_lines: Vec<String>,
}

impl StepFailure {
    /// The failure of the command with these arguments.
    pub fn new(args: &[String], code: i32, out_of_memory: bool, last_lines: LastLines) -> Self {
        Self { command: shortened(args), code, out_of_memory, last_lines: last_lines.into_lines() }
    }

    fn fate(&self) -> String {
        match self.code {
            _ if self.out_of_memory => "ran out of memory and was ended".to_owned(),
            code @ 129..=192 => format!("was ended by signal {}", code - 128),
            code => format!("exited with status {code}"),
        }
    }
}

impl Reported for StepFailure {
    fn diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::new(codes::engine::STEP_FAILED, self.to_string());
        let diagnostic = match self.last_lines.as_slice() {
            [] => diagnostic,
            lines => diagnostic.related("its last lines", lines.to_vec()),
        };
        if self.out_of_memory {
            diagnostic.help("give the step more memory, or run fewer steps at a time with `--jobs`")
        } else {
            diagnostic
        }
    }
}

/// The command as one line people recognise.
fn shortened(args: &[String]) -> String {
    const LONGEST: usize = 80;
    let line = args.join(" ");
    let line = line.split('\n').next().unwrap_or_default();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// The last lines of what a command wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastLines {
    lines: VecDeque<String>,
    open: Vec<u8>,
}

const LAST_LINES: usize = 20;
/// Bytes of one line that are kept.
const LINE_LENGTH: usize = 2000;

impl LastLines {
    /// Takes what it wrote next, whole lines or not.
    pub fn take(&mut self, data: &[u8]) {
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let room = LINE_LENGTH.saturating_sub(self.open.len());
            self.open.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.open);
        // What a progress bar drew last is what can be seen of it.
        let line = line.trim_end().rsplit('\r').next().unwrap_or_default().to_owned();
        self.open.clear();
        if self.lines.len() == LAST_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn into_lines(mut self) -> Vec<String> {
        if !self.open.is_empty() {
            self.end_line();
        }
        self.lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_those_that_can_be_seen() {
        let mut last = LastLines::default();
        for number in 0..30 {
            last.take(format!("line {number}\n").as_bytes());
        }
        last.take(b" 10 %\r 50 %\r100 %\r\nfai");
        last.take(b"led");
        let lines = last.into_lines();
        assert_eq!(lines.len(), LAST_LINES);
        assert_eq!(lines[LAST_LINES - 3..], ["line 29", "100 %", "failed"]);
    }

    #[test]
    fn a_failure_says_how_the_command_ended() {
        let failure = |code, out_of_memory| {
            let command = shortened(&["sh".to_owned(), "-c".to_owned(), "make\ninstall".to_owned()]);
            StepFailure { command, code, out_of_memory, last_lines: Vec::new() }.to_string()
        };
        assert_eq!(failure(2, false), "`sh -c make` exited with status 2");
        assert_eq!(failure(139, false), "`sh -c make` was ended by signal 11");
        assert_eq!(failure(137, true), "`sh -c make` ran out of memory and was ended");
    }
}
