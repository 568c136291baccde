//! The only writer of standard output and standard error.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use diag::{Diagnostic, Reported, codes};

use super::terminal::{ColorChoice, Environment, Size, Terminal};
use super::{ErrorFormat, Style, Styles, diagnostic, text};

/// How much talk there is on stderr. Data on stdout and failures are never held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Failures only.
    Quiet,
    /// What a user wants to know.
    #[default]
    Normal,
    /// Also how things were done.
    Verbose,
}

/// What the command line says about output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// How much talk.
    pub verbosity: Verbosity,
    /// Whether to colour.
    pub color: ColorChoice,
    /// How failures are written.
    pub error_format: ErrorFormat,
    /// What the environment says.
    pub environment: Environment,
}

/// Writes data to stdout and talk to stderr, and keeps the region at the bottom of a terminal where progress is drawn.
/// Cheap to clone; safe to use from many threads, each call written whole.
#[derive(Clone)]
pub struct Printer(Arc<Inner>);

struct Inner {
    settings: Settings,
    stdout: Terminal,
    stderr: Terminal,
    // Always locked in this order: `talk` before `data`.
    talk: Mutex<Talk>,
    data: Mutex<Data>,
}

struct Data {
    out: Box<dyn Write + Send>,
    failed: Option<io::Error>,
}

struct Talk {
    out: Box<dyn Write + Send>,
    /// The lines drawn below everything written, the cursor standing under the last of them.
    region: Vec<String>,
    /// The terminal's width when they were drawn.
    columns: usize,
}

/// Writing to standard output failed.
#[derive(Debug, thiserror::Error)]
#[error("writing to standard output failed")]
pub struct OutputError(#[source] io::Error);

impl Reported for OutputError {
    fn diagnostic(&self) -> Diagnostic {
        Diagnostic::new(codes::cli::OUTPUT, self.to_string())
            .caused_by(&self.0)
            .help("look at where standard output is redirected to: the disk may be full")
    }
}

impl Printer {
    /// A printer on this process's own streams.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let stdout = Terminal::stdout(settings.color, settings.environment);
        let stderr = Terminal::stderr(settings.color, settings.environment);
        let data: Box<dyn Write + Send> =
            if stdout.is_interactive() { Box::new(io::stdout()) } else { Box::new(io::BufWriter::new(io::stdout())) };
        Self::on(settings, (data, stdout), (Box::new(io::stderr()), stderr))
    }

    /// A printer on other streams.
    #[must_use]
    pub fn on(
        settings: Settings,
        (data, stdout): (Box<dyn Write + Send>, Terminal),
        (talk, stderr): (Box<dyn Write + Send>, Terminal),
    ) -> Self {
        Self(Arc::new(Inner {
            settings,
            stdout,
            stderr,
            talk: Mutex::new(Talk { out: talk, region: Vec::new(), columns: 0 }),
            data: Mutex::new(Data { out: data, failed: None }),
        }))
    }

    /// What it was set up with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// What standard error can do.
    #[must_use]
    pub fn stderr(&self) -> Terminal {
        self.0.stderr
    }

    /// What standard output can do.
    #[must_use]
    pub fn stdout(&self) -> Terminal {
        self.0.stdout
    }

    /// Styles for text that goes to stdout.
    #[must_use]
    pub fn data_styles(&self) -> Styles {
        Styles::new(self.0.stdout.color())
    }

    /// Styles for text that goes to stderr.
    #[must_use]
    pub fn talk_styles(&self) -> Styles {
        Styles::new(self.0.stderr.color())
    }

    /// Writes text to stdout as it is, adding nothing. A failed write is kept for [`Printer::finish`]; a reader that has
    /// gone away (`clawbuild list | head -1`) is no failure.
    pub fn data(&self, text: impl fmt::Display) {
        self.write_data(text.to_string().as_bytes());
    }

    /// Writes bytes to stdout as they are.
    pub fn data_bytes(&self, bytes: &[u8]) {
        self.write_data(bytes);
    }

    /// Says something on stderr, unless quiet.
    pub fn say(&self, text: impl fmt::Display) {
        if self.0.settings.verbosity >= Verbosity::Normal {
            self.write_talk(&text.to_string());
        }
    }

    /// Says something on stderr when verbose.
    pub fn detail(&self, text: impl fmt::Display) {
        if self.0.settings.verbosity >= Verbosity::Verbose {
            self.write_talk(&text.to_string());
        }
    }

    /// Says on stderr that something is not as it should be but stops nothing, unless quiet.
    pub fn warn(&self, message: impl fmt::Display) {
        if self.0.settings.verbosity >= Verbosity::Normal {
            let word = self.talk_styles().paint(Style::Warning, "warning");
            self.write_talk(&format!("{word}: {}", text::neutralise_lines(&message.to_string())));
        }
    }

    /// Writes a failure to stderr, however quiet.
    pub fn report(&self, failure: &Diagnostic) {
        let text = match self.0.settings.error_format {
            ErrorFormat::Text => {
                let columns = self.0.stderr.size().map(|size| size.columns);
                diagnostic::render(failure, columns, self.0.stderr.color())
            }
            ErrorFormat::Json => diagnostic::to_json(failure),
        };
        self.write_talk(&text);
    }

    /// Writes a line to stderr whatever the verbosity: for progress renderers, which decide themselves.
    pub(super) fn line(&self, text: &str) {
        self.write_talk(text);
    }

    /// Draws `lines` at the bottom of the terminal in place of those drawn before. They must fit its width.
    pub(super) fn draw(&self, lines: Vec<String>) {
        let columns = self.columns();
        self.talk(|talk| {
            let mut frame = String::new();
            let same_width = talk.columns == columns;
            talk.move_to_top(&mut frame, columns);
            for (row, line) in lines.iter().enumerate() {
                if !(same_width && talk.region.get(row) == Some(line)) {
                    let _ = write!(frame, "{line}\x1b[K");
                }
                frame.push('\n');
            }
            frame.push_str("\x1b[J");
            (talk.region, talk.columns) = (lines, columns);
            talk.send(&frame);
        });
    }

    /// Leaves what is drawn where it is; what is written next goes below it.
    pub(super) fn release(&self) {
        self.talk(|talk| talk.region.clear());
    }

    /// Writes out what is still held back.
    ///
    /// # Errors
    /// [`OutputError`] when anything given to [`Printer::data`] could not be written.
    pub fn finish(&self) -> Result<(), OutputError> {
        let mut data = self.0.data.lock().unwrap_or_else(PoisonError::into_inner);
        let flushed = data.out.flush();
        data.note(flushed);
        match data.failed.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(OutputError(error)),
            _ => Ok(()),
        }
    }

    fn columns(&self) -> usize {
        self.0.stderr.size().map_or(0, |Size { columns, .. }| columns)
    }

    fn talk<T>(&self, act: impl FnOnce(&mut Talk) -> T) -> T {
        act(&mut self.0.talk.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write_talk(&self, text: &str) {
        let columns = self.columns();
        self.talk(|talk| {
            let mut out = talk.lift(columns);
            let _ = writeln!(out, "{text}");
            talk.put_back(&mut out);
            talk.send(&out);
        });
    }

    fn write_data(&self, bytes: &[u8]) {
        let columns = self.columns();
        self.talk(|talk| {
            // On a terminal both streams share the screen: the region must not end up in the middle of the data.
            let shared = self.0.stdout.is_interactive() && !talk.region.is_empty();
            if shared {
                let cleared = talk.lift(columns);
                talk.send(&cleared);
            }
            {
                let mut data = self.0.data.lock().unwrap_or_else(PoisonError::into_inner);
                if data.failed.is_none() {
                    let written = data.out.write_all(bytes);
                    data.note(written);
                }
            }
            if shared {
                let mut again = String::new();
                talk.put_back(&mut again);
                talk.send(&again);
            }
        });
    }
}

impl Data {
    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }
}

impl Talk {
    /// Control codes that take the region off the screen and leave the cursor where it began.
    fn lift(&self, columns: usize) -> String {
        let mut out = String::new();
        if !self.region.is_empty() {
            self.move_to_top(&mut out, columns);
            out.push_str("\x1b[J");
        }
        out
    }

    fn put_back(&self, out: &mut String) {
        for line in &self.region {
            out.push_str(line);
            out.push('\n');
        }
    }

    /// Moves the cursor to the region's first row. A terminal that became narrower since has wrapped its lines.
    fn move_to_top(&self, out: &mut String, columns: usize) {
        let rows: usize = self.region.iter().map(|line| rows_of(line, columns)).sum();
        if rows > 0 {
            let _ = write!(out, "\x1b[{rows}A\r");
        }
    }

    /// One write for each change, so that nothing half-drawn is ever seen. Nobody is left to tell if stderr is gone.
    fn send(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

fn rows_of(line: &str, columns: usize) -> usize {
    if columns == 0 { 1 } else { text::width(line).div_ceil(columns).max(1) }
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Printer").field(&self.0.settings).finish()
    }
}

#[cfg(test)]
pub(super) mod capture {
    //! Printers whose output a test can look at.

    use super::*;

    /// A stream that keeps what was written.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn bytes(&self) -> Vec<u8> {
            self.0.lock().unwrap().clone()
        }

        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.bytes()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A printer, what it writes to stdout, and what it writes to stderr.
    pub(crate) fn printer(settings: Settings, stderr: Terminal) -> (Printer, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        let printer = Printer::on(settings, (Box::new(out.clone()), Terminal::file()), (Box::new(err.clone()), stderr));
        (printer, out, err)
    }

    /// What a terminal of this size shows after `bytes`, blank rows at the end left out.
    pub(crate) fn screen(bytes: &[u8], size: Size) -> String {
        let mut parser = vt100::Parser::new(size.rows.try_into().unwrap(), size.columns.try_into().unwrap(), 1000);
        // The line discipline of a terminal turns NL into CR NL.
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match line.split_last() {
                Some((b'\n', line)) => {
                    parser.process(line);
                    parser.process(b"\r\n");
                }
                _ => parser.process(line),
            }
        }
        parser.screen().contents().trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::capture::{printer, screen};
    use super::*;

    const SIZE: Size = Size { columns: 20, rows: 8 };

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn verbosity_holds_back_talk_and_never_data_or_failures() {
        for (verbosity, talk) in [
            (Verbosity::Quiet, "error[cli/bug]: broken\n"),
            (Verbosity::Normal, "said\nwarning: odd\nerror[cli/bug]: broken\n"),
            (Verbosity::Verbose, "said\ndetail\nwarning: odd\nerror[cli/bug]: broken\n"),
        ] {
            let (printer, out, err) = printer(Settings { verbosity, ..Settings::default() }, Terminal::file());
            printer.data("data\n");
            printer.say("said");
            printer.detail("detail");
            printer.warn("odd");
            printer.report(&Diagnostic::new(codes::cli::BUG, "broken"));
            printer.finish().unwrap();
            assert_eq!(out.text(), "data\n");
            assert_eq!(err.text(), talk);
        }
    }

    #[test]
    fn what_is_said_goes_above_what_is_drawn() {
        let (printer, _, err) = printer(Settings::default(), Terminal::fixed(SIZE, false));
        printer.draw(lines(&["header", "step one"]));
        printer.say("a word");
        printer.draw(lines(&["header", "step two", "more"]));
        printer.draw(lines(&["header", "last"]));
        assert_eq!(screen(&err.bytes(), SIZE), "a word\nheader\nlast");
        printer.release();
        printer.say("done");
        assert_eq!(screen(&err.bytes(), SIZE), "a word\nheader\nlast\ndone");
    }

    #[test]
    fn an_unchanged_line_is_not_written_again() {
        let (printer, _, err) = printer(Settings::default(), Terminal::fixed(SIZE, false));
        printer.draw(lines(&["header", "unchanging", "x"]));
        printer.draw(lines(&["HEADER", "unchanging", "y"]));
        assert_eq!(err.text().matches("unchanging").count(), 1);
        assert_eq!(screen(&err.bytes(), SIZE), "HEADER\nunchanging\ny");
    }

    #[test]
    fn a_region_wrapped_by_a_narrower_terminal_is_still_found() {
        assert_eq!(rows_of("0123456789", 20), 1);
        assert_eq!(rows_of("0123456789", 10), 1);
        assert_eq!(rows_of("0123456789", 4), 3);
        assert_eq!(rows_of("\x1b[31m0123\x1b[0m", 4), 1);
        assert_eq!(rows_of("", 4), 1);
    }

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
        let finish = |kind| {
            let printer = Printer::on(
                Settings::default(),
                (Box::new(Failing(kind)), Terminal::file()),
                (Box::new(io::sink()), Terminal::file()),
            );
            printer.data("text");
            printer.finish()
        };
        assert!(finish(io::ErrorKind::BrokenPipe).is_ok());
        let error = finish(io::ErrorKind::StorageFull).unwrap_err();
        assert_eq!(error.diagnostic().code, codes::cli::OUTPUT);
    }
}
