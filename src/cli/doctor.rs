//! `clawbuild doctor`

use diag::{Diagnostic, Reported as _, codes};
use engine::userns;
use serde_json::{Value, json};

use super::arguments::Doctor;
use crate::cli::Failure;
use crate::pipeline::{self, Answer, EngineSettings, Surveyed, Wish};
use crate::settings::Settings;
use crate::ui::Printer;

/// One thing looked at.
struct Check {
    what: String,
    state: State,
    detail: String,
    fix: Vec<String>,
    /// What `--json` says besides.
    facts: Option<Value>,
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
    let surveyed = survey(settings, printer)?;
    let mut checks = vec![embedded(&settings.engine, surveyed.iter().any(|other| other.answer.is_ok()))];
    checks.extend(limitations());
    checks.extend(surveyed.iter().map(elsewhere));
    checks.push(store(settings));
    if arguments.json {
        let rows: Vec<Value> = checks.iter().map(Check::to_json).collect();
        printer.data(format_args!("{:#}\n", Value::Array(rows)));
    } else {
        let width = checks.iter().map(|check| check.what.len()).max().unwrap_or(0);
        for check in &checks {
            printer.data(format_args!("{:<width$} {:<8} {}\n", check.what, check.state.word(), check.detail));
            check.fix.iter().for_each(|fix| printer.data(format_args!("{:<width$} {:<8} mend: {fix}\n", "", "")));
        }
    }
    match checks.iter().find(|check| check.state == State::Bad) {
        Some(bad) => Err(Diagnostic::new(codes::engine::UNAVAILABLE, format!("{}: {}", bad.what, bad.detail)).into()),
        None => Ok(()),
    }
}

impl Check {
    fn to_json(&self) -> Value {
        let mut row = json!({ "check": self.what, "state": self.state.word(), "detail": self.detail, "fix": self.fix });
        if let Some(Value::Object(facts)) = &self.facts
            && let Value::Object(row) = &mut row
        {
            row.extend(facts.clone());
        }
        row
    }
}

/// Asks the engines outside this process. What is learned of them is not kept.
fn survey(settings: &Settings, printer: &Printer) -> Result<Vec<Surveyed>, Failure> {
    let directory = tempfile::tempdir()
        .map_err(|error| Diagnostic::new(codes::cli::FILE, "no temporary directory can be made").caused_by(&error))?;
    let settings = Settings { store: directory.path().to_owned(), ..settings.clone() };
    super::run_async(&settings, printer, async |run| Ok(pipeline::survey(&run).await))
}

fn elsewhere(surveyed: &Surveyed) -> Check {
    let Surveyed { name, address, .. } = surveyed;
    let (state, detail, fix, facts) = match &surveyed.answer {
        Ok(Answer { version, platforms, lacks }) => {
            let platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
            let lacks: Vec<&str> = lacks.iter().map(|cap| cap.as_str()).collect();
            let mut detail = format!("{version}, runs {}", platforms.join(", "));
            let state = match &lacks[..] {
                [] => State::Good,
                lacks => {
                    detail.push_str(&format!("; lacks {}", lacks.join(", ")));
                    State::Limited
                }
            };
            let facts = json!({ "address": address, "version": version, "platforms": platforms, "lacks": lacks });
            (state, detail, Vec::new(), facts)
        }
        Err(diagnostic) => {
            let state = if surveyed.is_asked_for { State::Bad } else { State::Limited };
            let causes = diagnostic.causes.iter();
            let detail = std::iter::once(&diagnostic.message).chain(causes).cloned().collect::<Vec<_>>().join(": ");
            (state, detail, diagnostic.help.clone(), json!({ "address": address }))
        }
    };
    Check { what: name.clone(), state, detail, fix, facts: Some(facts) }
}

/// The engine of this process. It is missed where nothing else was asked for and nothing else answers.
fn embedded(settings: &EngineSettings, others_answer: bool) -> Check {
    let what = "embedded engine".to_owned();
    match userns::probe() {
        Ok(probe) => {
            Check { what, state: State::Good, detail: identity(&probe).to_owned(), fix: Vec::new(), facts: None }
        }
        Err(error) => {
            let is_needed = match settings.wish {
                Wish::Embedded => true,
                Wish::Any => settings.builders.is_empty() && !others_answer,
                Wish::Docker | Wish::BuildKit => false,
            };
            let state = if is_needed { State::Bad } else { State::Limited };
            let diagnostic = error.diagnostic();
            Check { what, state, detail: diagnostic.message, fix: diagnostic.help, facts: None }
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
        what: "rootless".to_owned(),
        state: State::Limited,
        detail: limitation.message().to_owned(),
        fix: vec![limitation.help().to_owned()],
        facts: None,
    };
    probe.limitations.iter().map(check).collect()
}

fn store(settings: &Settings) -> Check {
    let path = &settings.store;
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let little = free < 5 << 30;
            Check {
                what: "store".to_owned(),
                state: if little { State::Limited } else { State::Good },
                detail: format!("{}, {} free", path.display(), crate::ui::text::bytes(free)),
                fix: if little {
                    vec!["free some space, or name another directory with `--store`".to_owned()]
                } else {
                    Vec::new()
                },
                facts: None,
            }
        }
        Err(error) => {
            let detail = format!("{}: {error}", path.display());
            Check { what: "store".to_owned(), state: State::Bad, detail, fix: Vec::new(), facts: None }
        }
    }
}
