//! `clawbuild doctor`

use diag::{Diagnostic, Reported as _, codes};
use engine::userns;
use serde_json::{Value, json};

use super::arguments::Doctor;
use crate::cli::Failure;
use crate::settings::Settings;
use crate::ui::Printer;

/// One thing looked at.
struct Check {
    what: &'static str,
    state: State,
    detail: String,
    fix: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// It works, but something is slower or not possible.
    Limited,
    Bad,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Limited => "limited",
            Self::Bad => "missing",
        }
    }
}

/// Looks whether this machine can build, without changing anything.
pub(crate) fn doctor(settings: &Settings, arguments: &Doctor, printer: &Printer) -> Result<(), Failure> {
    let mut checks = vec![engine_check()];
    checks.extend(limitations());
    checks.push(store_check(settings));
    checks.push(docker_check());
    if arguments.json {
        let rows: Vec<Value> = checks
            .iter()
            .map(|check| json!({ "check": check.what, "state": check.state.word(), "detail": check.detail, "fix": check.fix }))
            .collect();
        printer.data(format_args!("{:#}\n", Value::Array(rows)));
    } else {
        for check in &checks {
            printer.data(format_args!("{:<16} {:<8} {}\n", check.what, check.state.word(), check.detail));
            check.fix.iter().for_each(|fix| printer.data(format_args!("{:<16} {:<8} mend: {fix}\n", "", "")));
        }
    }
    match checks.iter().find(|check| check.state == State::Bad) {
        Some(bad) => Err(Diagnostic::new(codes::engine::UNAVAILABLE, format!("{}: {}", bad.what, bad.detail)).into()),
        None => Ok(()),
    }
}

fn engine_check() -> Check {
    match userns::probe() {
        Ok(probe) => {
            Check { what: "embedded engine", state: State::Good, detail: identity(&probe).to_owned(), fix: Vec::new() }
        }
        Err(error) => {
            let diagnostic = error.diagnostic();
            Check { what: "embedded engine", state: State::Bad, detail: diagnostic.message, fix: diagnostic.help }
        }
    }
}

fn identity(probe: &userns::Probe) -> &'static str {
    match probe.identity {
        userns::Identity::Root => "as root",
        userns::Identity::RootlessRange => "as an ordinary user, with subordinate ids",
        userns::Identity::RootlessSingle => "as an ordinary user, without subordinate ids",
    }
}

fn limitations() -> Vec<Check> {
    let Ok(probe) = userns::probe() else { return Vec::new() };
    let check = |limitation: &userns::Limitation| Check {
        what: "rootless",
        state: State::Limited,
        detail: limitation.message().to_owned(),
        fix: vec![limitation.help().to_owned()],
    };
    probe.limitations.iter().map(check).collect()
}

fn store_check(settings: &Settings) -> Check {
    let path = &settings.store;
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let little = free < 5 << 30;
            Check {
                what: "store",
                state: if little { State::Limited } else { State::Good },
                detail: format!("{}, {} free", path.display(), crate::ui::text::bytes(free)),
                fix: if little {
                    vec!["free some space, or name another directory with `--store`".to_owned()]
                } else {
                    Vec::new()
                },
            }
        }
        Err(error) => {
            Check { what: "store", state: State::Bad, detail: format!("{}: {error}", path.display()), fix: Vec::new() }
        }
    }
}

/// Docker is only needed to load images into it.
fn docker_check() -> Check {
    match crate::pipeline::docker_endpoint() {
        Some(endpoint) => Check {
            what: "docker",
            state: State::Good,
            detail: format!("{endpoint} (only for --load)"),
            fix: Vec::new(),
        },
        None => Check {
            what: "docker",
            state: State::Limited,
            detail: "not found; only --load needs it".to_owned(),
            fix: Vec::new(),
        },
    }
}
