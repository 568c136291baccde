//! Repeated measurements and their comparison.

use std::fmt;
use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Wall times of one thing done several times.
#[derive(Clone, Debug)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    pub(crate) fn min(&self) -> Duration {
        self.0[0]
    }
}

/// Times `run` after `prepare`, `times` times; both are told which time it is, from 0.
pub(crate) fn repeat(times: usize, mut prepare: impl FnMut(usize), mut run: impl FnMut(usize)) -> Times {
    let mut all: Vec<Duration> = (0..times)
        .map(|time| {
            prepare(time);
            let began = Instant::now();
            run(time);
            began.elapsed()
        })
        .collect();
    all.sort();
    Times(all)
}

/// Runs a command that must succeed, its output kept for the case that it does not.
pub(crate) fn succeed(command: &mut Command) {
    let started = start(command);
    finish(command, started, |_| {});
}

/// The same, watching the process's own memory. Its peak resident set in bytes, children not counted.
pub(crate) fn peak_memory(command: &mut Command) -> u64 {
    let mut peak = 0;
    let started = start(command);
    finish(command, started, |child| {
        // The high-water mark only grows, so looking often enough sees all but the last moment.
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) * 1024);
    });
    peak
}

fn start(command: &mut Command) -> (Child, tempfile::NamedTempFile) {
    // A file, not a pipe: nobody has to read while the command runs.
    let output = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let file = || output.reopen().expect("a temporary file can be opened");
    let child = command.stdin(Stdio::null()).stdout(file()).stderr(file()).spawn();
    (child.unwrap_or_else(|error| panic!("{command:?}: {error}")), output)
}

fn finish(command: &Command, (mut child, output): (Child, tempfile::NamedTempFile), mut watch: impl FnMut(&Child)) {
    let status = loop {
        watch(&child);
        if let Some(status) = wait_a_little(&mut child) {
            break status;
        }
    };
    if !status.success() {
        let mut text = String::new();
        let read = output.reopen().and_then(|mut file| file.read_to_string(&mut text));
        panic!(
            "{command:?} ended with {status}\n{text}{}",
            read.err().map(|error| error.to_string()).unwrap_or_default()
        );
    }
}

/// Waits for the end, at most 10 ms, without adding to a shorter run.
fn wait_a_little(child: &mut Child) -> Option<std::process::ExitStatus> {
    let pid = rustix::process::Pid::from_child(child);
    if let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        let mut polled = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        let patience = rustix::time::Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        rustix::event::poll(&mut polled, Some(&patience)).expect("a pidfd can be polled");
    }
    child.try_wait().expect("a child can be waited for")
}

/// One thing done by several programs, ours first.
pub(crate) struct Comparison {
    title: String,
    rows: Vec<(String, Times)>,
    reach: Vec<String>,
}

impl Comparison {
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new(), reach: Vec::new() }
    }

    pub(crate) fn row(&mut self, who: &str, times: Times) {
        self.rows.push((who.to_owned(), times));
    }

    /// The aim: ours takes at most this long.
    pub(crate) fn at_most(&mut self, bound: Duration) {
        let ours = self.rows[0].1.median();
        self.reach.push(format!("aim: at most {}: {}", Milliseconds(bound), verdict(ours <= bound)));
    }

    /// The aim: ours takes at most `factor` times what the first peer takes, and `more`.
    pub(crate) fn within(&mut self, factor: f64, more: Duration) {
        let bound = self.rows[1].1.median().mul_f64(factor) + more;
        let ours = self.rows[0].1.median();
        self.reach.push(format!("aim: at most {}: {}", Milliseconds(bound), verdict(ours <= bound)));
    }

    /// The aim: each peer takes at least so many times as long.
    pub(crate) fn times_faster(&mut self, factor: f64) {
        let ours = self.rows[0].1.median().as_secs_f64();
        for (who, times) in &self.rows[1..] {
            let ratio = times.median().as_secs_f64() / ours;
            self.reach.push(format!("aim: {factor} times as fast as {who}: {}", verdict(ratio >= factor)));
        }
    }
}

fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "MISSED" }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<58} {:>10} {:>10} {:>7}", self.title, "median", "min", "ratio")?;
        let ours = self.rows.first().map(|(_, times)| times.median().as_secs_f64());
        for (who, times) in &self.rows {
            let ratio = ours.map_or(0.0, |ours| times.median().as_secs_f64() / ours);
            let (median, min) = (Milliseconds(times.median()), Milliseconds(times.min()));
            writeln!(f, "  {who:<56} {:>10} {:>10} {ratio:>7.2}", median.to_string(), min.to_string())?;
        }
        self.reach.iter().try_for_each(|reach| writeln!(f, "  {reach}"))
    }
}

struct Milliseconds(Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs_f64() * 1000.0 {
            millis if millis < 100.0 => write!(f, "{millis:.1} ms"),
            millis if millis < 10_000.0 => write!(f, "{millis:.0} ms"),
            millis => write!(f, "{:.1} s", millis / 1000.0),
        }
    }
}
