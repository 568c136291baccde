//! Nothing, except the last output of a step that fails.

use std::time::Duration;

use diag::progress::Event;

use super::Renderer;
use super::board::{Board, Change, Task};
use crate::ui::Printer;

pub(super) struct Quiet {
    printer: Printer,
    board: Board,
}

impl Quiet {
    pub(super) fn new(printer: Printer) -> Self {
        Self { printer, board: Board::default() }
    }
}

impl Renderer for Quiet {
    fn event(&mut self, at: Duration, event: Event) {
        if let Change::Finished(number, _) = self.board.apply(at, event)
            && let Some(output) = last_output(&self.board.tasks[number])
        {
            self.printer.line(&output);
        }
    }

    fn finish(&mut self, _now: Duration) {}
}

/// The last lines a failed task wrote, if it is one and wrote any.
pub(super) fn last_output(task: &Task) -> Option<String> {
    if !task.failed() || task.tail.is_empty() {
        return None;
    }
    let mut out = format!("------\n > {}:\n", task.name);
    for line in &task.tail {
        out.push_str(&format!("{}.{:03} {}\n", line.at.as_secs(), line.at.subsec_millis(), line.text));
    }
    out.push_str("------");
    Some(out)
}
