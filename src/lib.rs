//! clawbuild: builds production images of the claw AI-agent runtimes.
//!
//! The way of a build: [`workspace`] reads recipes, bases and the lock; [`pipeline`] brings the lock up to date through
//! [`resolve`], builds the bases, plans, lowers to LLB and hands that to an engine; [`cli`] says what came of it
//! through [`ui`]. [`frontend`] goes the same way inside a BuildKit daemon.

pub mod cli;
mod frontend;
pub mod pipeline;
mod resolve;
pub mod settings;
pub mod ui;
pub mod workspace;

use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Decides what this process is, before any thread exists: a sandbox's helper, a frontend that a BuildKit daemon runs, or
/// the program itself.
#[must_use]
pub fn start() -> ExitCode {
    // Returns only in the program itself.
    engine::embedded::sandbox::helper_main_if_requested();
    raise_open_files();
    match frontend::environment() {
        Some(environment) => frontend::run(environment),
        None => cli::run(),
    }
}

/// Sixteen downloads, every layer of a deep image and a pipe to each step are open at a time; 1,024 files, which many
/// systems allow at first, would do only just.
fn raise_open_files() {
    const ENOUGH: u64 = 65_536;
    let limits = getrlimit(Resource::Nofile);
    let wanted = limits.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if limits.current.is_some_and(|current| current < wanted) {
        // Where this is refused, the old limit may do.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limits });
    }
}
