//! Asks whether the container works, as its manifest says to.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::str;
use core::time::Duration;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::manifest::{Health, Probe};
use crate::signal::Signal;
use crate::sys::process::{self, Streams};
use crate::sys::socket::Connection;
use crate::sys::time::Instant;
use crate::sys::{say, wait, Errno};

/// How many bytes of an answer are read in search of its status line.
const MAX_STATUS_LINE: usize = 1024;

/// How long to wait between two looks at a program that has not ended.
const PAUSE: Duration = Duration::from_millis(10);

/// What is asked, and with which variables.
pub(crate) struct Question<'a> {
    /// The process of several that is asked.
    pub(crate) name: Option<&'a str>,
    pub(crate) health: &'a Health,
    pub(crate) environment: Environment,
}

/// Asks everything at once, so that it takes no longer than the slowest answer. Says what does not work.
///
/// # Errors
/// There are no processes left to ask with.
pub(crate) fn all_well(questions: &[Question<'_>]) -> Result<bool, Failure> {
    let ask = |question: &Question<'_>| match probe(question.health, &question.environment) {
        Ok(()) => true,
        Err(reason) => {
            let name = question.name.map(|name| format!("{name}: ")).unwrap_or_default();
            say(format_args!("unhealthy: {name}{reason}"));
            false
        }
    };
    if let [only] = questions {
        return Ok(ask(only));
    }
    let ask = |question: &Question<'_>| process::fork(|| u8::from(!ask(question)));
    let asked = questions.iter().map(ask).collect::<Result<Vec<_>, _>>().map_err(Failure::system("ask"))?;
    let ended = asked.into_iter().map(process::wait_for).collect::<Result<Vec<_>, _>>();
    Ok(ended.map_err(Failure::system("wait for answers"))?.iter().all(|ended| ended.code() == 0))
}

/// Asks once.
///
/// # Errors
/// Why it is taken not to work: it says so, or does not answer, or not in time.
pub(crate) fn probe(health: &Health, environment: &Environment) -> Result<(), String> {
    let deadline = Instant::now().after(health.timeout);
    match &health.probe {
        Probe::Http { port, port_env, path } => {
            let changed = port_env.as_deref().and_then(|name| environment.get(name));
            let changed = changed.and_then(|port| str::from_utf8(port).ok()?.trim().parse().ok());
            http(changed.unwrap_or(*port), path, deadline)
        }
        Probe::Exec(command) => exec(command, environment, deadline),
        Probe::Unix(path) => {
            Connection::to_path(path, deadline).map(drop).map_err(|error| format!("cannot connect to {path}: {error}"))
        }
    }
}

fn http(port: u16, path: &str, deadline: Instant) -> Result<(), String> {
    let mut answer = [0; MAX_STATUS_LINE];
    let answer = ask(port, path, &mut answer, deadline).map_err(|error| match error {
        Errno::ETIMEDOUT => format!("no answer in time from port {port}"),
        _ => format!("no answer from port {port}: {error}"),
    })?;
    let status = parse_status(answer).ok_or_else(|| format!("what port {port} answers is not HTTP"))?;
    if (200..300).contains(&status) {
        Ok(())
    } else {
        Err(format!("port {port} answers {path} with status {status}"))
    }
}

/// What a server answers to `GET`, its first line at least.
fn ask<'a>(port: u16, path: &str, answer: &'a mut [u8], deadline: Instant) -> Result<&'a [u8], Errno> {
    let connection = Connection::to_port(port, deadline)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: claw-init\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    connection.send(request.as_bytes())?;
    let mut length = 0;
    while !answer[..length].contains(&b'\n') && length < answer.len() {
        match connection.receive(&mut answer[length..])? {
            0 => break,
            received => length += received,
        }
    }
    Ok(&answer[..length])
}

/// The status in an answer's first line, such as `HTTP/1.1 200 OK`.
fn parse_status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let mut words = str::from_utf8(line).ok()?.trim_end().split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok().filter(|status| (100..600).contains(status))
}

fn exec(command: &[String], environment: &Environment, deadline: Instant) -> Result<(), String> {
    let program = command.first().map(String::as_str).unwrap_or_default();
    let started = process::start(command, environment, None, Streams::Inherited)
        .map_err(|error| format!("cannot start `{program}`: {error}"))?;
    loop {
        match process::reap_one(started.pid) {
            Ok(Some(ended)) if ended.code() == 0 => return Ok(()),
            Ok(Some(ended)) => return Err(format!("`{program}` ended with {ended}")),
            Ok(None) if !deadline.left().is_zero() => wait::pause(PAUSE.min(deadline.left())),
            Ok(None) => {
                process::signal_group(started.pid, Signal::KILL);
                return Err(format!("`{program}` did not end in time"));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
