//! Whether a process is ready, so that those that come after it may start.
//!
//! A probe may take its time, and the supervisor has none to wait. So another process asks, and its end is the answer.

use core::time::Duration;

use crate::environment::Environment;
use crate::health;
use crate::manifest::{Health, Probe, Ready};
use crate::signal::Signal;
use crate::sys::process::{self, Pid, Streams};
use crate::sys::time::Instant;

/// How long to wait between two questions.
const PAUSE: Duration = Duration::from_millis(200);

/// What is known of a process's readiness. Once ready it stays so, whatever becomes of it.
#[derive(Debug)]
pub(crate) enum Readiness<'a> {
    /// It has not started, or nobody needs to know.
    Unknown,
    /// It has to end with status 0.
    Completing,
    /// It has to answer.
    Probing {
        health: &'a Health,
        /// When the others give up.
        until: Instant,
        question: Question,
    },
    Ready,
}

/// A question to a process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    /// It is asked then.
    At(Instant),
    /// That process is asking, and has to be done by then.
    Asked { by: Pid, until: Instant },
}

impl<'a> Readiness<'a> {
    /// What is known of a process that has just started.
    pub(crate) fn after_start(ready: &'a Ready, is_awaited: bool) -> Self {
        match ready {
            Ready::Started => Self::Ready,
            Ready::Completed => Self::Completing,
            Ready::Probed { .. } if !is_awaited => Self::Unknown,
            Ready::Probed { health, within } => {
                let now = Instant::now();
                Self::Probing { health, until: now.after(*within), question: Question::At(now) }
            }
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }

    /// When [`Readiness::ask`] is to be called again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Probing { until, question: Question::At(at), .. } => Some(*at.min(until)),
            Self::Probing { until, question: Question::Asked { until: answer, .. }, .. } => Some(*answer.min(until)),
            Self::Unknown | Self::Completing | Self::Ready => None,
        }
    }

    /// Asks, where it is time to and the process runs, and ends a question that takes too long. Gives whether there is still
    /// hope.
    pub(crate) fn ask(&mut self, is_running: bool, environment: &Environment) -> bool {
        let Self::Probing { health, until, question } = self else {
            return true;
        };
        let now = Instant::now();
        if now >= *until {
            self.stop_asking();
            return false;
        }
        match *question {
            Question::At(at) if now < at => {}
            Question::At(_) if !is_running => *question = Question::At(now.after(PAUSE)),
            Question::At(_) => {
                *question = match begin(health, environment) {
                    Some(by) => Question::Asked { by, until: now.after(health.timeout) },
                    None => Question::At(now.after(PAUSE)),
                }
            }
            Question::Asked { by, until } if now >= until => {
                process::signal_group(by, Signal::KILL);
                *question = Question::At(now.after(PAUSE));
            }
            Question::Asked { .. } => {}
        }
        true
    }

    /// Whether that process is the one that asks.
    pub(crate) fn is_asked_by(&self, pid: Pid) -> bool {
        matches!(self, Self::Probing { question: Question::Asked { by, .. }, .. } if *by == pid)
    }

    /// The one that asked has ended.
    pub(crate) fn answered(&mut self, is_ready: bool) {
        if is_ready {
            *self = Self::Ready;
        } else if let Self::Probing { question, .. } = self {
            *question = Question::At(Instant::now().after(PAUSE));
        }
    }

    /// The process has ended with status 0.
    pub(crate) fn completed(&mut self) {
        if matches!(self, Self::Completing) {
            *self = Self::Ready;
        }
    }

    /// Nobody needs to know any more.
    pub(crate) fn stop_asking(&mut self) {
        if let Self::Probing { question: Question::Asked { by, .. }, .. } = self {
            process::signal_group(*by, Signal::KILL);
        }
        if !self.is_ready() {
            *self = Self::Unknown;
        }
    }
}

/// Starts a process that ends with status 0 if the probe does. None where the system has no more; that may pass.
fn begin(health: &Health, environment: &Environment) -> Option<Pid> {
    match &health.probe {
        Probe::Exec(command) => {
            process::start(command, environment, None, Streams::Silent).ok().map(|started| started.pid)
        }
        Probe::Http { .. } | Probe::Unix(_) => {
            process::fork(|| u8::from(health::probe(health, environment).is_err())).ok()
        }
    }
}
