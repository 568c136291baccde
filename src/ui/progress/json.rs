//! One JSON object in a line for each event.
//!
//! Every object has `event` and `time` (seconds since the run began). `started`: `task`, `name`. `transfer`: `task`,
//! `item`, `done`, `total` (bytes; `total` may be null). `log`: `task`, `stream`, `line`. `warning`: `task` (may be
//! null), `message`. `finished`: `task`, `outcome` (`done`, `cached`, `failed`, `canceled`), `error` (null unless
//! failed), `elapsed` in seconds.

use std::time::Duration;

use diag::progress::{Event, Outcome, Stream};
use serde::Serialize;

use super::Renderer;
use super::board::{Board, Change};
use crate::ui::Printer;

pub(super) struct Json {
    printer: Printer,
    // Only for its line buffers.
    board: Board,
}

#[derive(Serialize)]
struct Line<'a> {
    time: f64,
    #[serde(flatten)]
    fact: Fact<'a>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Fact<'a> {
    Started { task: &'a str, name: &'a str },
    Transfer { task: &'a str, item: &'a str, done: u64, total: Option<u64> },
    Log { task: &'a str, stream: &'static str, line: &'a str },
    Warning { task: Option<&'a str>, message: &'a str },
    Finished { task: &'a str, outcome: &'static str, error: Option<&'a str>, elapsed: f64 },
}

impl Json {
    pub(super) fn new(printer: Printer) -> Self {
        Self { printer, board: Board::default() }
    }

    fn print(&self, at: Duration, fact: Fact<'_>) {
        let line = Line { time: seconds(at), fact };
        self.printer.line(&serde_json::to_string(&line).expect("strings and finite numbers are always JSON"));
    }
}

impl Renderer for Json {
    fn event(&mut self, at: Duration, event: Event) {
        match &event {
            Event::Started { task, name } => self.print(at, Fact::Started { task: task.as_str(), name }),
            Event::Transfer { task, item, done, total } => {
                self.print(at, Fact::Transfer { task: task.as_str(), item, done: *done, total: *total });
            }
            Event::Warning { task, message } => {
                self.print(at, Fact::Warning { task: task.as_ref().map(|task| task.as_str()), message });
            }
            Event::Log { task, .. } => {
                let task = task.clone();
                if let Change::Logged(_, stream, lines) = self.board.apply(at, event) {
                    for line in &lines {
                        self.print(at, Fact::Log { task: task.as_str(), stream: name(stream), line });
                    }
                }
            }
            Event::Finished { task, outcome, elapsed } => {
                let (task, outcome, elapsed) = (task.clone(), outcome.clone(), seconds(*elapsed));
                if let Change::Finished(_, rest) = self.board.apply(at, event) {
                    for (stream, line) in &rest {
                        self.print(at, Fact::Log { task: task.as_str(), stream: name(*stream), line });
                    }
                }
                let (outcome, error) = match &outcome {
                    Outcome::Done => ("done", None),
                    Outcome::Cached => ("cached", None),
                    Outcome::Failed(reason) => ("failed", Some(reason.as_str())),
                    Outcome::Canceled => ("canceled", None),
                };
                self.print(at, Fact::Finished { task: task.as_str(), outcome, error, elapsed });
            }
        }
    }

    fn finish(&mut self, _now: Duration) {}
}

const fn name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// Whole milliseconds are as exact as anyone reads them.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
