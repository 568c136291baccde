//! The task that an export is to the user.

use std::sync::{Mutex, PoisonError};

use diag::progress::{Outcome, Progress, Task, TaskId};

/// A task that begins when the first of the result comes, not with the build.
#[derive(Debug)]
pub struct ExportTask {
    progress: Progress,
    id: TaskId,
    name: String,
    task: Mutex<Option<Task>>,
}

impl ExportTask {
    /// A task of this id and name.
    pub fn new(progress: Progress, id: TaskId, name: impl Into<String>) -> Self {
        Self { progress, id, name: name.into(), task: Mutex::default() }
    }

    /// Begins it, unless it has begun.
    pub fn begin(&self) {
        self.task().get_or_insert_with(|| self.progress.task(self.id.clone(), &self.name));
    }

    /// Ends it, if it has begun.
    pub fn end(&self, outcome: Outcome) {
        if let Some(task) = self.task().take() {
            task.finish(outcome);
        }
    }

    pub(super) fn id(&self) -> &TaskId {
        &self.id
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    fn task(&self) -> std::sync::MutexGuard<'_, Option<Task>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
