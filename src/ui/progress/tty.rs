//! A picture at the bottom of the terminal, drawn anew ten times a second: a header, a line for each task, and below
//! running ones what they transfer and write.

use std::fmt::Write as _;
use std::time::Duration;

use diag::progress::{Event, Outcome};

use super::Renderer;
use super::board::{Board, Change, State, TAIL, Task};
use super::transfers::Transfer;
use crate::ui::text::{Bytes, Seconds, truncate, width};
use crate::ui::{Printer, Size, Style, Styles};

const INTERVAL: Duration = Duration::from_millis(100);
/// Transfers shown one by one below a running task; more are shown as one.
const TRANSFER_LINES: usize = 3;
const BAR: usize = 20;

pub(super) struct Tty {
    printer: Printer,
    board: Board,
    drawn: bool,
}

impl Tty {
    pub(super) fn new(printer: Printer) -> Self {
        Self { printer, board: Board::default(), drawn: false }
    }

    fn canvas(&self, now: Duration) -> Canvas<'_> {
        let size = self.printer.stderr().size().unwrap_or(Size { columns: 80, rows: 24 });
        Canvas { board: &self.board, styles: self.printer.talk_styles(), size, now }
    }
}

impl Renderer for Tty {
    fn event(&mut self, at: Duration, event: Event) {
        match self.board.apply(at, event) {
            Change::Warned(number, message) => {
                let name = number.map(|number| format!("{}: ", self.board.tasks[number].name));
                self.printer.warn(format_args!("{}{message}", name.unwrap_or_default()));
            }
            // Whoever watches wants to see output when it begins, not a tenth of a second later.
            Change::Logged(..) if !self.drawn => self.tick(at),
            Change::Logged(..) | Change::Started(_) | Change::Transferred(_) | Change::Finished(..) => {}
            Change::Nothing => {}
        }
    }

    fn interval(&self) -> Option<Duration> {
        Some(INTERVAL)
    }

    fn tick(&mut self, now: Duration) {
        if !self.board.tasks.is_empty() {
            self.drawn = true;
            self.printer.draw(self.canvas(now).live());
        }
    }

    fn finish(&mut self, now: Duration) {
        if !self.board.tasks.is_empty() {
            self.printer.draw(self.canvas(now).last());
            self.printer.release();
        }
    }
}

/// One picture in the making.
struct Canvas<'a> {
    board: &'a Board,
    styles: Styles,
    size: Size,
    now: Duration,
}

impl Canvas<'_> {
    /// The picture while tasks run, never higher than the terminal: running tasks come first, then what they do, then
    /// the tasks that ended last.
    fn live(&self) -> Vec<String> {
        // One row is the header's, one stays free for the cursor.
        let mut free = self.size.rows.saturating_sub(2).max(1);
        let running = self.board.tasks.iter().filter(|task| task.is_running()).count();
        let mut shown_running = running;
        if running > free {
            shown_running = free - 1;
        }
        let hidden = running - shown_running;
        free -= shown_running + usize::from(hidden > 0);

        let (mut skip_running, mut details) = (shown_running, Vec::new());
        for task in self.board.tasks.iter().filter(|task| task.is_running()) {
            if skip_running == 0 {
                break;
            }
            skip_running -= 1;
            // What is left is shared evenly by the tasks that follow, this one included.
            let lines = self.details(task, free.div_ceil(skip_running + 1).min(TAIL));
            free -= lines.len();
            details.push(lines);
        }

        let mut skip_finished = self.board.finished.saturating_sub(free);
        let mut details = details.into_iter();
        let mut out = vec![self.header("")];
        for task in &self.board.tasks {
            if !task.is_running() {
                if skip_finished > 0 {
                    skip_finished -= 1;
                } else {
                    out.push(self.task(task));
                }
            } else if let Some(lines) = details.next() {
                out.push(self.task(task));
                out.extend(lines);
            }
        }
        if hidden > 0 {
            out.push(self.row(&format!(" => and {hidden} more"), "", Some(Style::Faint)));
        }
        out
    }

    /// The picture that stays: every task.
    fn last(&self) -> Vec<String> {
        let ended = |wanted: fn(&Outcome) -> bool| {
            self.board
                .tasks
                .iter()
                .any(|task| matches!(&task.state, State::Finished { outcome, .. } if wanted(outcome)))
        };
        let word = if ended(|outcome| matches!(outcome, Outcome::Failed(_))) {
            "FAILED"
        } else if ended(|outcome| *outcome == Outcome::Canceled) || self.board.finished < self.board.tasks.len() {
            "CANCELED"
        } else {
            "FINISHED"
        };
        std::iter::once(self.header(word)).chain(self.board.tasks.iter().map(|task| self.task(task))).collect()
    }

    fn header(&self, word: &str) -> String {
        let (finished, known) = (self.board.finished, self.board.tasks.len());
        let text = format!("[+] Building {} ({finished}/{known}) {word}", Seconds(self.now));
        self.row(text.trim_end(), "", Some(Style::Strong))
    }

    fn task(&self, task: &Task) -> String {
        let (word, style, elapsed) = match &task.state {
            State::Running => ("", None, self.now.saturating_sub(task.began)),
            State::Finished { outcome, elapsed } => match outcome {
                Outcome::Done => ("", Some(Style::Success), *elapsed),
                Outcome::Cached => ("CACHED ", Some(Style::Accent), *elapsed),
                Outcome::Failed(_) => ("ERROR ", Some(Style::Error), *elapsed),
                Outcome::Canceled => ("CANCELED ", Some(Style::Warning), *elapsed),
            },
        };
        self.row(&format!(" => {word}{}", task.name), &Seconds(elapsed).to_string(), style)
    }

    /// Up to `room` lines about what a running task does.
    fn details(&self, task: &Task, room: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let transfers = &task.transfers;
        if transfers.len() > TRANSFER_LINES.min(room) {
            let title = format!(" => => {} of {}", transfers.whole(), transfers.len());
            lines.push(self.transfer(&title, transfers.sum(), transfers.rate(self.now)));
        } else {
            let rate = transfers.rate(self.now).filter(|_| transfers.len() == 1);
            lines.extend(
                transfers.iter().map(|(item, transfer)| self.transfer(&format!(" => => {item}"), transfer, rate)),
            );
        }
        lines.truncate(room);
        let output: Vec<String> = task.tail.iter().cloned().chain(task.partial()).collect();
        let first = output.len().saturating_sub(room - lines.len());
        lines.extend(output[first..].iter().map(|line| self.row(&format!(" => => # {line}"), "", Some(Style::Faint))));
        lines
    }

    fn transfer(&self, title: &str, transfer: Transfer, rate: Option<u64>) -> String {
        let mut right = String::new();
        if let Some(total) = transfer.total.filter(|total| *total > 0)
            && self.size.columns >= 80
        {
            let filled = usize::try_from(u128::from(transfer.done.min(total)) * BAR as u128 / u128::from(total))
                .expect("at most the bar's length");
            let head = if filled < BAR { ">" } else { "" };
            let _ = write!(right, "[{:<BAR$}]  ", format!("{}{head}", "=".repeat(filled)));
        }
        let _ = write!(right, "{:>8}", Bytes(transfer.done));
        if let Some(total) = transfer.total {
            let _ = write!(right, " / {:>8}", Bytes(total));
        }
        match rate.filter(|_| Some(transfer.done) != transfer.total) {
            Some(rate) => write!(right, "  {:>8}/s", Bytes(rate)),
            None => write!(right, "{:12}", ""),
        }
        .expect("writing to a string cannot fail");
        self.row(title, &right, None)
    }

    /// `left`, cut if it must be, and `right` at the right edge. The last column stays free: a terminal may wrap there.
    fn row(&self, left: &str, right: &str, style: Option<Style>) -> String {
        let columns = self.size.columns.saturating_sub(1);
        let right = truncate(right, columns);
        let room = columns - width(&right);
        let left = truncate(left, if right.is_empty() { room } else { room.saturating_sub(1) });
        let gap = if right.is_empty() { 0 } else { room - width(&left) };
        let text = format!("{left}{:gap$}{right}", "");
        match style {
            Some(style) => self.styles.paint(style, text).to_string(),
            None => text,
        }
    }
}
