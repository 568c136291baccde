//! Runs the processes and does what falls to PID 1: passes signals on, reaps orphans, stops everything in time, and ends
//! with the right status.
//!
//! One thread waits for signals (as data, from a signalfd), for the output of children, and for deadlines. Whether one of
//! several processes is ready yet, another process asks ([`crate::readiness`]).

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::lines::{Lines, Target};
use crate::manifest::{Process, Ready, Restart, Stop};
use crate::readiness::Readiness;
use crate::signal::Signal;
use crate::sys::process::{self, Ended, Pid, Streams};
use crate::sys::signals::Signals;
use crate::sys::time::Instant;
use crate::sys::{file, say, wait};

/// How long to wait before the first restart; each further one waits twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest wait before a restart.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A process that ran this long is taken to have worked, and its next restart is a first one again.
const STABLE: Duration = Duration::from_secs(60);
/// How long to wait for what is left in pipes when every process has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs `processes` until the container has to end. Gives its exit status.
///
/// # Errors
/// The system refuses what every PID 1 needs.
pub(crate) fn run(processes: &[Process], environment: &Environment, stop: Stop) -> Result<u8, Failure> {
    // Signals come first, so that none is lost while the processes start.
    let signals = Signals::receive().map_err(Failure::system("receive signals"))?;
    process::adopt_orphans();
    let mut supervisor = Supervisor {
        children: processes.iter().map(|process| Child::new(process, environment)).collect(),
        stop,
        signals,
        outputs: Vec::new(),
        status: None,
        kill_at: None,
    };
    let result = supervisor.supervise();
    if result.is_err() {
        supervisor.signal_running(Signal::KILL);
    }
    result
}

struct Supervisor<'a> {
    children: Vec<Child<'a>>,
    stop: Stop,
    signals: Signals,
    outputs: Vec<Lines>,
    /// The container's exit status, once it is known.
    status: Option<u8>,
    /// When what still runs is killed, once everything is being stopped.
    kill_at: Option<Instant>,
}

struct Child<'a> {
    process: &'a Process,
    environment: Environment,
    state: State,
    readiness: Readiness<'a>,
    /// How long to wait before the next restart.
    delay: Duration,
    /// How often it was started again since it last worked.
    restarts: u32,
}

#[derive(Clone, Copy)]
enum State {
    /// Others must be ready before it starts.
    Blocked,
    Running {
        pid: Pid,
        since: Instant,
        /// When it is killed, once it was asked to end.
        kill_at: Option<Instant>,
    },
    /// Starts again.
    Waiting {
        until: Instant,
    },
    Ended,
}

impl<'a> Child<'a> {
    fn new(process: &'a Process, environment: &Environment) -> Self {
        Self {
            process,
            environment: environment.with(&process.env),
            state: State::Blocked,
            readiness: Readiness::Unknown,
            delay: FIRST_DELAY,
            restarts: 0,
        }
    }

    fn running(&self) -> Option<Pid> {
        match self.state {
            State::Running { pid, .. } => Some(pid),
            State::Blocked | State::Waiting { .. } | State::Ended => None,
        }
    }
}

impl<'a> Supervisor<'a> {
    fn supervise(&mut self) -> Result<u8, Failure> {
        loop {
            self.meet_deadlines();
            if self.children.iter().all(|child| matches!(child.state, State::Ended)) {
                self.drain()?;
                return Ok(self.status.unwrap_or(0));
            }
            self.pass_on_output(self.next_deadline().map(Instant::left))?;
            self.take_signals()?;
        }
    }

    fn is_alone(&self) -> bool {
        self.children.len() == 1
    }

    /// Whether a process waits for that one to be ready.
    fn is_awaited(&self, index: usize) -> bool {
        let waits = |child: &Child<'_>| matches!(child.state, State::Blocked) && child.process.after.contains(&index);
        self.children.iter().any(waits)
    }

    fn start(&mut self, index: usize) -> Result<(), Failure> {
        let alone = self.is_alone();
        let Child { process, environment, .. } = &self.children[index];
        let process: &'a Process = process;
        let directory = process.cwd.as_deref().map(|path| {
            file::open_directory(path).map_err(Failure::system(format!("start {} in {path}", process.name)))
        });
        let streams = if alone { Streams::Inherited } else { Streams::Captured };
        let started = process::start(&process.command, environment, directory.transpose()?.as_ref(), streams)
            .map_err(|source| Failure::Start { program: process.command[0].clone(), source })?;
        if let Some((out, err)) = started.outputs {
            self.outputs.push(Lines::new(out, &process.name, Target::Stdout));
            self.outputs.push(Lines::new(err, &process.name, Target::Stderr));
        }
        let pid = started.pid;
        self.children[index].state = State::Running { pid, since: Instant::now(), kill_at: None };
        if alone && process::has_terminal() {
            process::give_terminal_to(pid);
            // It may have asked for input before the terminal was its own, and been stopped for that.
            process::signal_group(pid, Signal::CONT);
        }
        Ok(())
    }

    /// A process that nothing stands in the way of any more.
    fn unblocked(&self) -> Option<usize> {
        let is_ready = |before: &usize| self.children[*before].readiness.is_ready();
        let can_start =
            |child: &Child<'_>| matches!(child.state, State::Blocked) && child.process.after.iter().all(is_ready);
        self.children.iter().position(can_start)
    }

    /// Starts what can start. What cannot start even once is a mistake, and ends everything.
    fn start_unblocked(&mut self) {
        while let Some(index) = self.unblocked() {
            if let Err(failure) = self.start(index) {
                say(format_args!("{failure}"));
                self.children[index].state = State::Ended;
                self.end_with(failure.status());
                return;
            }
            let ready: &'a Ready = &self.children[index].process.ready;
            self.children[index].readiness = Readiness::after_start(ready, self.is_awaited(index));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let of_child = |child: &Child<'_>| match child.state {
            State::Waiting { until } => Some(until),
            State::Running { kill_at, .. } => kill_at,
            State::Blocked | State::Ended => None,
        };
        let readiness = self.children.iter().filter_map(|child| child.readiness.deadline());
        self.children.iter().filter_map(of_child).chain(readiness).chain(self.kill_at).min()
    }

    /// Passes on what children have written, when there is something, and returns when anything happened.
    fn pass_on_output(&mut self, timeout: Option<Duration>) -> Result<(), Failure> {
        let mut fds = vec![self.signals.number()];
        fds.extend(self.outputs.iter().map(Lines::number));
        let ready = wait::until_one_is_readable(&fds, timeout).map_err(Failure::system("wait for events"))?;
        let mut ready = ready.into_iter().skip(1);
        self.outputs.retain_mut(|output| !ready.next().unwrap_or(false) || output.pass_on());
        Ok(())
    }

    /// Passes on what is left in the pipes. Something that outlived the processes may hold them open: it is not waited for.
    fn drain(&mut self) -> Result<(), Failure> {
        let end = Instant::now().after(LAST_WORDS);
        while !self.outputs.is_empty() && !end.left().is_zero() {
            self.pass_on_output(Some(end.left()))?;
            while self.signals.next().map_err(Failure::system("receive signals"))?.is_some() {}
        }
        self.outputs.drain(..).for_each(Lines::finish);
        Ok(())
    }

    fn take_signals(&mut self) -> Result<(), Failure> {
        while let Some(signal) = self.signals.next().map_err(Failure::system("receive signals"))? {
            match signal {
                Signal::CHLD => {}
                // The terminal's way of saying that this process is in the background. It is, by choice.
                Signal::TTIN | Signal::TTOU => {}
                Signal::TERM => self.begin_stop(),
                _ if signal == self.stop.signal => self.begin_stop(),
                _ => self.signal_running(signal),
            }
        }
        // Several ends can be told by one signal, so children are asked for whatever it was.
        while let Some((pid, how)) = process::reap().map_err(Failure::system("wait for children"))? {
            self.ended(pid, how);
        }
        Ok(())
    }

    fn signal_running(&self, signal: Signal) {
        for pid in self.children.iter().filter_map(Child::running) {
            process::signal_group(pid, signal);
        }
    }

    /// Begins to end everything, and then the container with that status.
    fn end_with(&mut self, status: u8) {
        self.status.get_or_insert(status);
        self.begin_stop();
    }

    /// Asks everything to end, in the reverse of the order in which it started. Asked again, it asks again; the time runs
    /// from the first.
    fn begin_stop(&mut self) {
        if self.kill_at.is_none() {
            self.kill_at = Some(Instant::now().after(self.stop.timeout));
            for child in &mut self.children {
                child.readiness.stop_asking();
                if child.running().is_none() {
                    child.state = State::Ended;
                }
            }
        } else {
            for child in &self.children {
                if let State::Running { pid, kill_at: Some(_), .. } = child.state {
                    process::signal_group(pid, child.process.stop.signal);
                }
            }
        }
        self.go_on_stopping();
    }

    /// Asks each process to end that no other one which still runs comes after.
    fn go_on_stopping(&mut self) {
        let now = Instant::now();
        for index in 0..self.children.len() {
            let needs_it = |child: &Child<'_>| child.running().is_some() && child.process.after.contains(&index);
            if self.children.iter().any(needs_it) {
                continue;
            }
            let child = &mut self.children[index];
            if let State::Running { pid, kill_at: kill_at @ None, .. } = &mut child.state {
                *kill_at = Some(now.after(child.process.stop.timeout));
                process::signal_group(*pid, child.process.stop.signal);
            }
        }
    }

    fn ended(&mut self, ended: Pid, how: Ended) {
        if let Some(child) = self.children.iter_mut().find(|child| child.readiness.is_asked_by(ended)) {
            child.readiness.answered(how.code() == 0);
            return;
        }
        let Some(index) = self.children.iter().position(|child| child.running() == Some(ended)) else {
            // An orphan; to have reaped it is all there was to do.
            return;
        };
        let code = how.code();
        let alone = self.is_alone();
        let child = &mut self.children[index];
        let State::Running { since, .. } = mem::replace(&mut child.state, State::Ended) else {
            return;
        };
        if self.kill_at.is_some() {
            // How the main process took the request to end is how the container ends.
            if child.process.is_main {
                self.status.get_or_insert(code);
            }
            return;
        }
        if !(alone && child.process.restart == Restart::Never) {
            say(format_args!("{} ended with {how}", child.process.name));
        }
        if code == 0 {
            child.readiness.completed();
        }
        if since.elapsed() >= STABLE {
            child.delay = FIRST_DELAY;
            child.restarts = 0;
        }
        self.after_end(index, code);
    }

    /// What the end of a process leads to.
    fn after_end(&mut self, index: usize, code: u8) {
        let child = &mut self.children[index];
        let wants_restart = match child.process.restart {
            Restart::Always => true,
            Restart::OnFailure => code != 0,
            Restart::Never => false,
        };
        if wants_restart && child.process.max_restarts.is_none_or(|most| child.restarts < most) {
            child.state = State::Waiting { until: Instant::now().after(child.delay) };
            child.delay = (child.delay * 2).min(LONGEST_DELAY);
            child.restarts += 1;
            return;
        }
        let (name, is_main, is_ready) = (child.process.name.clone(), child.process.is_main, child.readiness.is_ready());
        child.readiness.stop_asking();
        let failure_code = if code == 0 { 1 } else { code };
        if wants_restart {
            say(format_args!("{name} was started again too often"));
            self.end_with(failure_code);
        } else if is_main {
            self.end_with(code);
        } else if !is_ready && self.is_awaited(index) {
            say(format_args!("{name} will never be ready, and others wait for it"));
            self.end_with(failure_code);
        }
    }

    fn meet_deadlines(&mut self) {
        if self.kill_at.is_some() {
            self.go_on_stopping();
            self.kill_what_is_late();
            return;
        }
        let now = Instant::now();
        for index in 0..self.children.len() {
            if matches!(self.children[index].state, State::Waiting { until } if now >= until) {
                self.start_again(index);
            }
            self.ask_whether_ready(index);
        }
        self.start_unblocked();
    }

    fn start_again(&mut self, index: usize) {
        if let Err(failure) = self.start(index) {
            // It could be started before. The reason may pass, as a lack of memory does.
            say(format_args!("{failure}"));
            self.children[index].state = State::Ended;
            self.after_end(index, failure.status());
        }
    }

    fn ask_whether_ready(&mut self, index: usize) {
        let child = &mut self.children[index];
        let is_running = child.running().is_some();
        if child.readiness.ask(is_running, &child.environment) {
            return;
        }
        let name = child.process.name.clone();
        say(format_args!("{name} was not ready in time, and others wait for it"));
        self.end_with(1);
    }

    fn kill_what_is_late(&mut self) {
        let now = Instant::now();
        let all = self.kill_at.is_some_and(|kill_at| now >= kill_at);
        for child in &mut self.children {
            let State::Running { pid, kill_at, .. } = &mut child.state else { continue };
            if all || kill_at.is_some_and(|kill_at| now >= kill_at) {
                let timeout = if all { self.stop.timeout } else { child.process.stop.timeout };
                say(format_args!("killed after {} ms: {}", timeout.as_millis(), child.process.name));
                process::signal_group(*pid, Signal::KILL);
                *kill_at = Some(now.after(LONGEST_DELAY));
            }
        }
        if all {
            self.kill_at = Some(now.after(LONGEST_DELAY));
            if process::is_first() {
                process::signal_all(Signal::KILL);
            }
        }
    }
}
