//! What happened in a session: what the daemon cannot tell us because it never knew it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use engine::context::{ContextError, Filters};
use oci::Digest;
use registry::image::CredentialError;

/// Notes of a session, shared between it and who waits for the solve.
///
/// A daemon tells of a failure in its own words. The error itself, with its diagnostic, is here.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    problems: Vec<Problem>,
    contexts: BTreeMap<(String, Vec<Vec<String>>), Digest>,
}

/// A request of the daemon that could not be answered. Not each is a failure of the solve: an optional secret may be
/// missing, and a registry may let anybody in.
#[derive(Debug)]
pub enum Problem {
    /// A directory could not be read.
    Context {
        /// The name of the `local://` source.
        name: String,
        /// Why.
        error: ContextError,
    },
    /// A directory that is not offered.
    NoSuchContext {
        /// The name asked for.
        name: String,
    },
    /// A layout or cache that is not offered.
    NoSuchStore {
        /// The id asked for.
        id: String,
    },
    /// Content of a layout or cache that cannot be read.
    Blob {
        /// The id of the layout or cache.
        id: String,
        /// Which content.
        digest: Digest,
        /// What the system said.
        source: std::io::Error,
    },
    /// A secret that is not offered.
    NoSuchSecret {
        /// The id asked for.
        id: String,
    },
    /// An SSH agent that is not offered.
    NoSuchAgent {
        /// The id asked for.
        id: String,
    },
    /// An SSH agent that does not answer.
    Agent {
        /// The id asked for.
        id: String,
        /// Its socket.
        socket: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Credentials are there, but cannot be read.
    Credentials {
        /// The registry they were wanted for.
        registry: String,
        /// Why.
        error: CredentialError,
    },
    /// The result could not be taken.
    Receive {
        /// What was received: a blob's digest, or `the exported files`.
        what: String,
        /// Why.
        message: String,
    },
}

impl Journal {
    /// Takes out the problems met so far, in the order they were met.
    #[must_use]
    pub fn take_problems(&self) -> Vec<Problem> {
        std::mem::take(&mut self.notes().problems)
    }

    /// The digest of what a context held when it was asked for, as [`engine::context::Context::digest`] gives it.
    #[must_use]
    pub fn context(&self, name: &str, filters: &Filters) -> Option<Digest> {
        self.notes().contexts.get(&(name.to_owned(), selection(filters))).copied()
    }

    pub(super) fn problem(&self, problem: Problem) {
        self.notes().problems.push(problem);
    }

    pub(super) fn scanned(&self, name: &str, filters: &Filters, digest: Digest) {
        self.notes().contexts.insert((name.to_owned(), selection(filters)), digest);
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        // Notes are whole whenever the lock is free, even if a thread died holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn selection(filters: &Filters) -> Vec<Vec<String>> {
    let Filters { include, exclude, follow_paths } = filters;
    vec![include.clone(), exclude.clone(), follow_paths.clone()]
}
