//! Progress as a stream of facts. Whoever works emits them; only `ui` draws them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Identifies a piece of work for the length of one run. For LLB vertices this is the vertex digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(Arc<str>);

impl TaskId {
    /// An id; equal texts are the same task.
    pub fn new(id: impl AsRef<str>) -> Self {
        Self(Arc::from(id.as_ref()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of a step's two outputs a log line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran.
    Done,
    /// Nothing had to be done: the result was there.
    Cached,
    /// It failed; the text is one line.
    Failed(String),
    /// It was stopped before its end.
    Canceled,
}

/// One fact. Each task is `Started` at most once and `Finished` exactly once after that; the others lie between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Work on a task begins.
    Started {
        /// The task.
        task: TaskId,
        /// What the user sees, such as `[openclaw build] pnpm install`.
        name: String,
    },
    /// Bytes (or items) moved so far inside a task. Several transfers can belong to one task.
    Transfer {
        /// The task it belongs to.
        task: TaskId,
        /// What is moved: a package's or a blob's name. Unique within the task.
        item: String,
        /// Bytes moved so far.
        done: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// Output of a step, not necessarily whole lines.
    Log {
        /// The task it belongs to.
        task: TaskId,
        /// Where it was written.
        stream: Stream,
        /// The bytes, as written.
        data: Vec<u8>,
    },
    /// Something the user should know that stops nothing.
    Warning {
        /// The task it belongs to, where there is one.
        task: Option<TaskId>,
        /// One line.
        message: String,
    },
    /// A task ended.
    Finished {
        /// The task.
        task: TaskId,
        /// How.
        outcome: Outcome,
        /// How long it took; zero for cached ones.
        elapsed: Duration,
    },
}

/// Receives facts from many threads. Must be quick: it is called on the hot path.
pub trait Sink: Send + Sync {
    /// Takes one fact.
    fn emit(&self, event: Event);
}

/// A cheap handle on a [`Sink`].
#[derive(Clone)]
pub struct Progress(Arc<dyn Sink>);

impl Progress {
    /// Sends facts to `sink`.
    pub fn new(sink: impl Sink + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Drops every fact.
    #[must_use]
    pub fn none() -> Self {
        struct Nothing;
        impl Sink for Nothing {
            fn emit(&self, _: Event) {}
        }
        Self::new(Nothing)
    }

    /// Sends one fact.
    pub fn emit(&self, event: Event) {
        self.0.emit(event);
    }

    /// Starts a task and gives back the guard that ends it. A guard dropped without an outcome reports `Canceled`,
    /// so no task is ever left open.
    pub fn task(&self, task: TaskId, name: impl Into<String>) -> Task {
        self.emit(Event::Started { task: task.clone(), name: name.into() });
        Task { progress: self.clone(), id: task, started: std::time::Instant::now(), open: true }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// A running task; ends it when finished or dropped.
#[derive(Debug)]
pub struct Task {
    progress: Progress,
    id: TaskId,
    started: std::time::Instant,
    open: bool,
}

impl Task {
    /// The task's id.
    #[must_use]
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// Reports bytes moved.
    pub fn transfer(&self, item: impl Into<String>, done: u64, total: Option<u64>) {
        self.progress.emit(Event::Transfer { task: self.id.clone(), item: item.into(), done, total });
    }

    /// Says something the user should know that stops nothing. One line.
    pub fn warn(&self, message: impl Into<String>) {
        self.progress.emit(Event::Warning { task: Some(self.id.clone()), message: message.into() });
    }

    /// Passes on a step's output.
    pub fn log(&self, stream: Stream, data: impl Into<Vec<u8>>) {
        self.progress.emit(Event::Log { task: self.id.clone(), stream, data: data.into() });
    }

    /// Ends the task.
    pub fn finish(mut self, outcome: Outcome) {
        self.close(outcome);
    }

    /// Ends the task as done or failed, and hands the result through.
    ///
    /// # Errors
    /// The very error it was given.
    pub fn conclude<T, E: fmt::Display>(self, result: Result<T, E>) -> Result<T, E> {
        match &result {
            Ok(_) => self.finish(Outcome::Done),
            Err(error) => self.finish(Outcome::Failed(error.to_string())),
        }
        result
    }

    fn close(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.open, false) {
            let elapsed = if outcome == Outcome::Cached { Duration::ZERO } else { self.started.elapsed() };
            self.progress.emit(Event::Finished { task: self.id.clone(), outcome, elapsed });
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.close(Outcome::Canceled);
    }
}
