//! How a transfer tells the user where it stands.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diag::progress::Task;

/// Reports one item's transfer to a task, at most ten times a second.
///
/// Without a task it is silent. It is shared by reference between the tries of one transfer.
#[derive(Debug)]
pub struct Meter<'a> {
    shown: Option<Shown<'a>>,
}

#[derive(Debug)]
struct Shown<'a> {
    task: &'a Task,
    item: String,
    start: Instant,
    /// Milliseconds after `start` before which nothing more is said.
    quiet_until: AtomicU64,
}

const INTERVAL: Duration = Duration::from_millis(100);

impl<'a> Meter<'a> {
    /// Reports to `task` under the name `item`, which is unique within the task.
    pub fn new(task: &'a Task, item: impl Into<String>) -> Self {
        let shown = Shown { task, item: item.into(), start: Instant::now(), quiet_until: AtomicU64::new(0) };
        Self { shown: Some(shown) }
    }

    /// Says nothing to anyone.
    #[must_use]
    pub fn silent() -> Self {
        Self { shown: None }
    }

    /// `done` bytes of `total` have moved.
    pub(crate) fn moved(&self, done: u64, total: Option<u64>) {
        let Some(shown) = &self.shown else { return };
        let now = u64::try_from(shown.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        if total == Some(done) || now >= shown.quiet_until.load(Ordering::Relaxed) {
            shown.quiet_until.store(now.saturating_add(INTERVAL.as_millis() as u64), Ordering::Relaxed);
            shown.task.transfer(shown.item.as_str(), done, total);
        }
    }

    /// A try failed and another follows after `pause`.
    pub(crate) fn retrying(&self, error: &dyn std::error::Error, pause: Duration) {
        if let Some(shown) = &self.shown {
            shown.task.warn(format!("{}: {error}; trying again in {:.1} s", shown.item, pause.as_secs_f64()));
        }
    }
}
