//! What runs: one program, or several with an order in which they start, and what the end of each leads to.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::fields::Entry;
use super::{health, pairs, probe, signal, Health, Stop};

/// How long others wait for a process's probe when the manifest does not say.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A program to run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Process {
    /// Its name in messages and before the lines of its output.
    pub(crate) name: String,
    /// Program and arguments. Never empty.
    pub(crate) command: Vec<String>,
    /// Variables it has, whatever the container was given.
    pub(crate) env: Vec<(String, String)>,
    /// The directory it starts in; the container's where there is none.
    pub(crate) cwd: Option<String>,
    /// Whether the container ends with it, and as it does. So it is with exactly one.
    pub(crate) is_main: bool,
    pub(crate) restart: Restart,
    /// How often it is started again before it is given up, each time after less than a minute; without end otherwise.
    pub(crate) max_restarts: Option<u32>,
    /// The numbers of the processes that must be ready before it starts. No process waits for itself this way.
    pub(crate) after: Vec<usize>,
    pub(crate) ready: Ready,
    pub(crate) stop: Stop,
    pub(crate) health: Option<Health>,
}

/// Whether a process that has ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    Always,
    /// When its status was not 0.
    OnFailure,
    Never,
}

/// When those that come after a process may start.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ready {
    /// As soon as it runs.
    Started,
    /// When it has ended with status 0.
    Completed,
    /// When it answers.
    Probed {
        health: Health,
        /// How long that may take from its start.
        within: Duration,
    },
}

impl Process {
    /// The only process: its end is the container's.
    pub(crate) fn only(command: Vec<String>, stop: Stop) -> Self {
        Self {
            name: "main".to_owned(),
            command,
            env: Vec::new(),
            cwd: None,
            is_main: true,
            restart: Restart::Never,
            max_restarts: None,
            after: Vec::new(),
            ready: Ready::Started,
            stop,
            health: None,
        }
    }
}

/// A process as it was written: which one is the main one, and the numbers of others, are known when all are read.
struct Written {
    process: Process,
    main: Option<bool>,
    restart: Option<Restart>,
    after: Vec<String>,
}

/// The manifest's processes, exactly one of them the main one.
pub(super) fn processes(
    command: Option<Entry<'_>>,
    several: Option<Entry<'_>>,
    stop: Stop,
) -> Result<Vec<Process>, String> {
    match (command, several) {
        (Some(command), None) => Ok(vec![Process::only(command.command()?, stop)]),
        (None, Some(several)) => settle(several.each(|entry| written(entry, stop))?),
        (Some(_), Some(_)) | (None, None) => Err("the manifest must have either `command` or `processes`".to_owned()),
    }
}

fn written(entry: Entry<'_>, default_stop: Stop) -> Result<Written, String> {
    let mut fields = entry.fields()?;
    let name = fields.required("name")?.name()?;
    let command = fields.required("command")?.command()?;
    let main = fields.optional("main").map(Entry::boolean).transpose()?;
    let restart = fields.optional("restart").map(restart).transpose()?;
    let after = fields.optional("after").map_or(Ok(Vec::new()), |entry| entry.each(Entry::text))?;
    let process = Process {
        env: fields.optional("env").map_or(Ok(Vec::new()), pairs)?,
        cwd: fields.optional("cwd").map(Entry::path).transpose()?,
        max_restarts: fields.optional("max_restarts").map(Entry::number).transpose()?,
        ready: fields.optional("ready").map_or(Ok(Ready::Started), ready)?,
        stop: Stop {
            signal: fields.optional("stop_signal").map_or(Ok(default_stop.signal), signal)?,
            timeout: fields.optional("stop_timeout_ms").map_or(Ok(default_stop.timeout), Entry::millis)?,
        },
        health: fields.optional("health").map(health).transpose()?,
        name,
        ..Process::only(command, default_stop)
    };
    fields.finish()?;
    Ok(Written { process, main, restart, after })
}

fn restart(entry: Entry<'_>) -> Result<Restart, String> {
    entry.one_of("always, on-failure or never", |word| match word {
        "always" => Some(Restart::Always),
        "on-failure" => Some(Restart::OnFailure),
        "never" => Some(Restart::Never),
        _ => None,
    })
}

fn ready(entry: Entry<'_>) -> Result<Ready, String> {
    if entry.is_text() {
        return entry.one_of("started, completed or a probe", |word| match word {
            "started" => Some(Ready::Started),
            "completed" => Some(Ready::Completed),
            _ => None,
        });
    }
    let place = entry.place.clone();
    let mut fields = entry.fields()?;
    let within = fields.optional("within_ms").map_or(Ok(READY_WITHIN), Entry::millis)?;
    let health = probe(&place, &mut fields)?;
    fields.finish()?;
    Ok(Ready::Probed { health, within })
}

/// Puts numbers for names, and settles what depends on which process is the main one.
fn settle(written: Vec<Written>) -> Result<Vec<Process>, String> {
    let names: Vec<String> = written.iter().map(|written| written.process.name.clone()).collect();
    if names.is_empty() || names.iter().collect::<BTreeSet<_>>().len() < names.len() {
        return Err("`processes` must name at least one process, and each name once".to_owned());
    }
    if written.iter().filter(|written| written.main == Some(true)).count() > 1 {
        return Err("only one of `processes` may be the main one".to_owned());
    }
    // Where none is marked, the first may be, unless that says that it is not.
    let main = written.iter().position(|written| written.main == Some(true));
    let main = main.or_else(|| written.iter().position(|written| written.main.is_none()));
    let main = main.ok_or("one of `processes` must be the main one")?;
    let mut processes = Vec::with_capacity(written.len());
    for (index, Written { mut process, restart, after, .. }) in written.into_iter().enumerate() {
        process.is_main = index == main;
        process.restart = restart.unwrap_or(if process.is_main { Restart::Never } else { Restart::OnFailure });
        for name in after {
            let number = names.iter().position(|known| *known == name);
            let number =
                number.ok_or_else(|| format!("`{}` comes after `{name}`, which is none of them", process.name))?;
            process.after.push(number);
        }
        if process.ready == Ready::Completed && (process.is_main || process.restart == Restart::Always) {
            return Err(format!("`{}` never completes: it is the main one, or always started again", process.name));
        }
        if process.max_restarts.is_some() && process.restart == Restart::Never {
            return Err(format!("`{}` is never started again, and has `max_restarts`", process.name));
        }
        processes.push(process);
    }
    match circle(&processes) {
        Some(name) => Err(format!("`{name}` comes after itself")),
        None => Ok(processes),
    }
}

/// A process that would wait for itself, directly or by way of others.
fn circle(processes: &[Process]) -> Option<&str> {
    let mut can_start = vec![false; processes.len()];
    loop {
        let startable = |process: &Process| process.after.iter().all(|before| can_start[*before]);
        let next = (0..processes.len()).find(|index| !can_start[*index] && startable(&processes[*index]));
        match next {
            Some(index) => can_start[index] = true,
            None => {
                let blocked = can_start.iter().position(|can_start| !can_start)?;
                return Some(processes[blocked].name.as_str());
            }
        }
    }
}
