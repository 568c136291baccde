//! What is known of every task so far.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use diag::progress::{Event, Outcome, Stream, TaskId};

use super::lines::Lines;
use super::transfers::{Transfer, Transfers};
use crate::ui::text::neutralise;

/// How many of a running task's last lines are kept.
pub(super) const TAIL: usize = 6;

#[derive(Debug)]
pub(super) enum State {
    Running,
    Finished { outcome: Outcome, elapsed: Duration },
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) began: Duration,
    pub(super) state: State,
    pub(super) transfers: Transfers,
    /// The last [`TAIL`] lines written.
    pub(super) tail: VecDeque<String>,
    stdout: Lines,
    stderr: Lines,
}

impl Task {
    fn new(name: &str, began: Duration) -> Self {
        Self {
            name: neutralise(name).into_owned(),
            began,
            state: State::Running,
            transfers: Transfers::default(),
            tail: VecDeque::new(),
            stdout: Lines::default(),
            stderr: Lines::default(),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running)
    }

    /// Lines begun but not ended.
    pub(super) fn partial(&self) -> impl Iterator<Item = String> {
        self.stdout.peek().into_iter().chain(self.stderr.peek())
    }

    fn lines(&mut self, stream: Stream) -> &mut Lines {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn keep(&mut self, lines: &[String]) {
        for line in lines.iter().skip(lines.len().saturating_sub(TAIL)) {
            if self.tail.len() == TAIL {
                self.tail.pop_front();
            }
            self.tail.push_back(line.clone());
        }
    }
}

/// What an event changed. Tasks are numbered in the order they began, from 0.
#[derive(Debug)]
pub(super) enum Change {
    Started(usize),
    Transferred(usize),
    /// A task wrote these lines; none when it wrote only part of one.
    Logged(usize, Stream, Vec<String>),
    Warned(Option<usize>, String),
    /// A task ended, with these lines it had not ended with a line break.
    Finished(usize, Vec<(Stream, String)>),
    /// The event was about a task that had ended, or began twice.
    Nothing,
}

#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) tasks: Vec<Task>,
    numbers: BTreeMap<TaskId, usize>,
    /// How many have ended.
    pub(super) finished: usize,
}

impl Board {
    pub(super) fn apply(&mut self, at: Duration, event: Event) -> Change {
        match event {
            Event::Started { task, name } => {
                if self.numbers.contains_key(&task) {
                    return Change::Nothing;
                }
                Change::Started(self.add(task, &name, at))
            }
            Event::Transfer { task, item, done, total } => {
                let number = self.number(&task, at);
                let item = neutralise(&item).into_owned();
                self.tasks[number].transfers.update(at, item, Transfer { done, total });
                Change::Transferred(number)
            }
            Event::Log { task, stream, data } => {
                let number = self.number(&task, at);
                let task = &mut self.tasks[number];
                let mut lines = Vec::new();
                task.lines(stream).push(&data, |line| lines.push(line));
                task.keep(&lines);
                Change::Logged(number, stream, lines)
            }
            Event::Warning { task, message } => {
                Change::Warned(task.map(|task| self.number(&task, at)), neutralise(&message).into_owned())
            }
            Event::Finished { task, outcome, elapsed } => {
                let number = self.number(&task, at);
                let task = &mut self.tasks[number];
                if !task.is_running() {
                    return Change::Nothing;
                }
                let mut rest = Vec::new();
                for stream in [Stream::Stdout, Stream::Stderr] {
                    rest.extend(task.lines(stream).flush().map(|line| (stream, line)));
                }
                let outcome = match outcome {
                    Outcome::Failed(reason) => Outcome::Failed(neutralise(&reason.replace('\n', " ")).into_owned()),
                    Outcome::Done | Outcome::Cached | Outcome::Canceled => outcome,
                };
                task.state = State::Finished { outcome, elapsed };
                task.tail = VecDeque::new();
                self.finished += 1;
                Change::Finished(number, rest)
            }
        }
    }

    /// The task's number. One that was never started is shown by its id rather than not at all.
    fn number(&mut self, task: &TaskId, at: Duration) -> usize {
        match self.numbers.get(task) {
            Some(number) => *number,
            None => self.add(task.clone(), task.as_str(), at),
        }
    }

    fn add(&mut self, task: TaskId, name: &str, at: Duration) -> usize {
        let number = self.tasks.len();
        self.tasks.push(Task::new(name, at));
        self.numbers.insert(task, number);
        number
    }
}
