//! Runs the processes and does what falls to PID 1: passes signals on, reaps orphans, stops everything in time, and ends
//! with the right status.
//!
//! One thread waits for signals (as data, from a signalfd), for the output of children, and for deadlines.

use alloc::vec;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::lines::{Lines, Target};
use crate::manifest::{OnExit, Process};
use crate::signal::Signal;
use crate::sys::process::{self, Ended, Pid, Streams};
use crate::sys::signals::Signals;
use crate::sys::time::Instant;
use crate::sys::{say, wait};

/// How long to wait before the first restart; each further one waits twice as long.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest wait before a restart.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A process that ran this long is taken to have worked, and its next restart is a first one again.
const STABLE: Duration = Duration::from_secs(60);
/// How long to wait for what is left in pipes when every process has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How the processes are ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    /// The signal that asks them to.
    pub(crate) signal: Signal,
    /// How long they have before they are killed.
    pub(crate) timeout: Duration,
}

/// Runs `processes` until the container has to end. Gives its exit status.
///
/// # Errors
/// A program cannot be started, or the system refuses what every PID 1 needs.
pub(crate) fn run(processes: &[Process], environment: &Environment, stop: Stop) -> Result<u8, Failure> {
    // Signals come first, so that none is lost while the processes start.
    let signals = Signals::receive().map_err(Failure::system("receive signals"))?;
    process::adopt_orphans();
    let mut supervisor = Supervisor {
        children: processes.iter().map(|process| Child { process, state: State::Ended, delay: FIRST_DELAY }).collect(),
        environment,
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
    environment: &'a Environment,
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
    state: State,
    /// How long to wait before the next restart.
    delay: Duration,
}

#[derive(Clone, Copy)]
enum State {
    Running { pid: Pid, since: Instant },
    Waiting { until: Instant },
    Ended,
}

impl Supervisor<'_> {
    fn supervise(&mut self) -> Result<u8, Failure> {
        for index in 0..self.children.len() {
            self.start(index)?;
        }
        loop {
            self.wait()?;
            self.take_signals()?;
            self.meet_deadlines()?;
            if self.is_over() {
                self.drain()?;
                return Ok(self.status.unwrap_or(0));
            }
        }
    }

    /// Whether nothing runs and nothing is going to.
    fn is_over(&self) -> bool {
        self.children.iter().all(|child| match child.state {
            State::Running { .. } => false,
            State::Waiting { .. } => self.kill_at.is_some(),
            State::Ended => true,
        })
    }

    fn start(&mut self, index: usize) -> Result<(), Failure> {
        let process: &Process = self.children[index].process;
        let alone = self.children.len() == 1;
        let streams = if alone { Streams::Inherited } else { Streams::Captured };
        let started = process::start(&process.command, self.environment, streams)
            .map_err(|source| Failure::Start { program: process.command[0].clone(), source })?;
        if let Some((out, err)) = started.outputs {
            self.outputs.push(Lines::new(out, &process.name, Target::Stdout));
            self.outputs.push(Lines::new(err, &process.name, Target::Stderr));
        }
        let pid = started.pid;
        self.children[index].state = State::Running { pid, since: Instant::now() };
        if alone && process::has_terminal() {
            process::give_terminal_to(pid);
            // It may have asked for input before the terminal was its own, and been stopped for that.
            process::signal_group(pid, Signal::CONT);
        }
        Ok(())
    }

    /// Sleeps until something happens, and passes on what children have written.
    fn wait(&mut self) -> Result<(), Failure> {
        let next = self.children.iter().filter_map(|child| match child.state {
            State::Waiting { until } if self.kill_at.is_none() => Some(until),
            State::Waiting { .. } | State::Running { .. } | State::Ended => None,
        });
        let deadline = next.chain(self.kill_at).min();
        let timeout = deadline.map(Instant::left);
        self.pass_on_output(timeout)
    }

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

    /// Asks everything to end. Asked again, it asks again; the time runs from the first.
    fn begin_stop(&mut self) {
        self.kill_at.get_or_insert_with(|| Instant::now().after(self.stop.timeout));
        self.signal_running(self.stop.signal);
    }

    fn signal_running(&self, signal: Signal) {
        for child in &self.children {
            if let State::Running { pid, .. } = child.state {
                process::signal_group(pid, signal);
            }
        }
    }

    fn ended(&mut self, ended: Pid, how: Ended) {
        let is_it = |child: &Child<'_>| matches!(child.state, State::Running { pid, .. } if pid == ended);
        let Some(index) = self.children.iter().position(is_it) else {
            // An orphan; to have reaped it is all there was to do.
            return;
        };
        let code = how.code();
        let alone = self.children.len() == 1;
        let child = &mut self.children[index];
        let State::Running { since, .. } = mem::replace(&mut child.state, State::Ended) else {
            return;
        };
        if self.kill_at.is_some() {
            // The first process is the main one: how it took the request to end is how the container ends.
            if index == 0 {
                self.status.get_or_insert(code);
            }
            return;
        }
        if !alone {
            say(format_args!("{} ended with {how}", child.process.name));
        }
        let restarts = match child.process.on_exit {
            OnExit::Restart => true,
            OnExit::RestartOnFailure => code != 0,
            OnExit::Ignore => false,
            OnExit::Stop => {
                self.status = Some(code);
                self.begin_stop();
                return;
            }
        };
        if restarts {
            if since.elapsed() >= STABLE {
                child.delay = FIRST_DELAY;
            }
            child.state = State::Waiting { until: Instant::now().after(child.delay) };
            child.delay = (child.delay * 2).min(LONGEST_DELAY);
        }
    }

    fn meet_deadlines(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if let Some(kill_at) = self.kill_at {
            if now >= kill_at {
                self.kill();
                self.kill_at = Some(now.after(LONGEST_DELAY));
            }
            return Ok(());
        }
        let due = |child: &Child<'_>| matches!(child.state, State::Waiting { until } if now >= until);
        for index in 0..self.children.len() {
            if due(&self.children[index]) {
                self.start(index)?;
            }
        }
        Ok(())
    }

    fn kill(&self) {
        let running = self.children.iter().filter(|child| matches!(child.state, State::Running { .. }));
        let names: Vec<&str> = running.map(|child| child.process.name.as_str()).collect();
        if !names.is_empty() {
            say(format_args!("killed after {} ms: {}", self.stop.timeout.as_millis(), names.join(", ")));
        }
        self.signal_running(Signal::KILL);
        if process::is_first() {
            process::signal_all(Signal::KILL);
        }
    }
}
