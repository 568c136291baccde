//! Lines for logs: `#3 [openclaw dependencies] pnpm fetch`, `#3 0.512 some output`, `#3 DONE 1.2s`.

use std::collections::BTreeMap;
use std::time::Duration;

use diag::progress::{Event, Outcome};

use super::Renderer;
use super::board::{Board, Change, State, Task};
use crate::ui::Printer;
use crate::ui::text::{Bytes, Seconds};

/// A long transfer is mentioned this often.
const TRANSFER_REPORTS: Duration = Duration::from_secs(5);

pub(super) struct Plain {
    printer: Printer,
    board: Board,
    /// When each task's transfers were last mentioned.
    reported: BTreeMap<usize, Duration>,
}

impl Plain {
    pub(super) fn new(printer: Printer) -> Self {
        Self { printer, board: Board::default(), reported: BTreeMap::new() }
    }

    fn print(&self, number: usize, lines: impl IntoIterator<Item = String>) {
        let lines: Vec<String> = lines.into_iter().map(|line| format!("#{} {line}", number + 1)).collect();
        if !lines.is_empty() {
            self.printer.line(&lines.join("\n"));
        }
    }
}

impl Renderer for Plain {
    fn event(&mut self, at: Duration, event: Event) {
        match self.board.apply(at, event) {
            Change::Started(number) => self.print(number, [self.board.tasks[number].name.clone()]),
            Change::Transferred(number) => {
                let task = &self.board.tasks[number];
                let last = *self.reported.entry(number).or_insert(task.began);
                if at.saturating_sub(last) >= TRANSFER_REPORTS {
                    self.reported.insert(number, at);
                    self.print(number, [transferred(task, at)]);
                }
            }
            Change::Logged(number, _, lines) => {
                let since = stamp(at.saturating_sub(self.board.tasks[number].began));
                self.print(number, lines.into_iter().map(|line| format!("{since} {line}")));
            }
            Change::Warned(Some(number), message) => self.print(number, [format!("WARNING: {message}")]),
            Change::Warned(None, message) => self.printer.warn(message),
            Change::Finished(number, rest) => {
                let task = &self.board.tasks[number];
                let since = stamp(at.saturating_sub(task.began));
                let rest = rest.into_iter().map(|(_, line)| format!("{since} {line}"));
                let sum = (!task.transfers.is_empty()).then(|| transferred(task, at));
                self.print(number, rest.chain(sum).chain([ending(task)]));
            }
            Change::Nothing => {}
        }
    }

    fn finish(&mut self, _now: Duration) {}
}

fn stamp(since: Duration) -> String {
    format!("{}.{:03}", since.as_secs(), since.subsec_millis())
}

fn transferred(task: &Task, at: Duration) -> String {
    let sum = task.transfers.sum();
    let since = stamp(at.saturating_sub(task.began));
    let total = sum.total.filter(|total| *total != sum.done).map(|total| format!(" / {}", Bytes(total)));
    let items = match task.transfers.len() {
        1 => String::new(),
        len if task.transfers.whole() == len => format!(" ({len} items)"),
        len => format!(" ({} of {len} items)", task.transfers.whole()),
    };
    format!("{since} {}{}{items}", Bytes(sum.done), total.unwrap_or_default())
}

fn ending(task: &Task) -> String {
    match &task.state {
        State::Running => String::new(),
        State::Finished { outcome: Outcome::Done, elapsed } => format!("DONE {}", Seconds(*elapsed)),
        State::Finished { outcome: Outcome::Cached, .. } => "CACHED".to_owned(),
        State::Finished { outcome: Outcome::Canceled, .. } => "CANCELED".to_owned(),
        State::Finished { outcome: Outcome::Failed(reason), elapsed } => {
            format!("ERROR {}: {reason}", Seconds(*elapsed))
        }
    }
}
