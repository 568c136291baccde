//! Progress of several builds on one daemon that are one to the user.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use diag::progress::{Event, Outcome, Progress, Sink, TaskId};
use engine::CacheStats;

/// Tells each task once: a step that a later build finds in the cache has been told of already.
#[derive(Clone, Debug)]
pub(super) struct Once(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Progress,
    /// The vertices, by the id of their task.
    vertices: HashSet<TaskId>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: HashMap<TaskId, Outcome>,
    muted: HashSet<TaskId>,
}

impl Once {
    pub(super) fn new(inner: Progress, definition: &llb::Definition) -> Self {
        let vertices = definition.vertices().iter().map(|vertex| TaskId::new(vertex.digest().to_string())).collect();
        Self(Arc::new(Shared { inner, vertices, state: Mutex::default() }))
    }

    pub(super) fn progress(&self) -> Progress {
        Progress::new(self.clone())
    }

    /// How many vertices were known, and how many were not, each counted once.
    pub(super) fn stats(&self) -> CacheStats {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |wanted: &Outcome| {
            let own = state.ended.iter().filter(|(task, _)| self.0.vertices.contains(task));
            own.filter(|(_, outcome)| *outcome == wanted).count()
        };
        CacheStats { hits: count(&Outcome::Cached), misses: count(&Outcome::Done) }
    }
}

impl Sink for Once {
    fn emit(&self, event: Event) {
        let is_told = {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            match &event {
                Event::Started { task, .. } => {
                    let is_known = state.ended.contains_key(task);
                    if is_known {
                        state.muted.insert(task.clone());
                    }
                    !is_known
                }
                Event::Finished { task, outcome, .. } => {
                    let is_muted = state.muted.remove(task);
                    if !is_muted {
                        state.ended.insert(task.clone(), outcome.clone());
                    }
                    !is_muted
                }
                Event::Transfer { task, .. } | Event::Log { task, .. } => !state.muted.contains(task),
                Event::Warning { task: Some(task), .. } => !state.muted.contains(task),
                Event::Warning { task: None, .. } => true,
            }
        };
        if is_told {
            self.0.inner.emit(event);
        }
    }
}
