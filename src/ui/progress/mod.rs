//! Draws [`diag::progress`] events on stderr: as a live picture, as plain lines, or as JSON.
//!
//! Events pass through a bounded channel to one thread, which is started by the first of them; a run that does nothing
//! pays nothing. Times count from [`View::open`].

mod board;
mod json;
mod lines;
mod plain;
mod transfers;
mod tty;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use diag::progress::{Event, Progress, Sink};

use super::{Printer, Verbosity};

/// How progress is shown, `--progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// `Tty` where stderr is a terminal and this is not CI, else `Plain`.
    #[default]
    Auto,
    /// A picture redrawn in place; `Plain` where there is no terminal to draw on.
    Tty,
    /// One line for each fact, for logs.
    Plain,
    /// One JSON object in a line for each event, for programs.
    Json,
    /// Nothing: a failed step's last output is part of its diagnostic.
    Quiet,
}

impl Mode {
    /// The mode named by a command line value.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        match value {
            "auto" => Some(Self::Auto),
            "tty" => Some(Self::Tty),
            "plain" => Some(Self::Plain),
            "json" => Some(Self::Json),
            "quiet" => Some(Self::Quiet),
            _ => None,
        }
    }

    /// What shows the events, if anything does.
    fn renderer(self, printer: &Printer) -> Option<Box<dyn Renderer>> {
        let interactive = printer.stderr().is_interactive();
        let quiet = printer.settings().verbosity == Verbosity::Quiet;
        match self {
            Self::Json => Some(Box::new(json::Json::new(printer.clone()))),
            Self::Quiet => None,
            Self::Auto | Self::Tty | Self::Plain if quiet => None,
            Self::Auto if interactive && !printer.settings().environment.ci => {
                Some(Box::new(tty::Tty::new(printer.clone())))
            }
            Self::Tty if interactive => Some(Box::new(tty::Tty::new(printer.clone()))),
            Self::Auto | Self::Tty | Self::Plain => Some(Box::new(plain::Plain::new(printer.clone()))),
        }
    }
}

/// Shows events as they come. Times are since the view was opened and never go back.
trait Renderer: Send {
    fn event(&mut self, at: Duration, event: Event);

    /// The pause between two calls of [`Renderer::tick`], for renderers that draw by the clock.
    fn interval(&self) -> Option<Duration> {
        None
    }

    /// Draws. Called about once in [`Renderer::interval`].
    fn tick(&mut self, _now: Duration) {}

    /// Draws what stays.
    fn finish(&mut self, now: Duration);
}

/// The progress of one run, on stderr. Closing or dropping it waits until everything sent is shown.
pub struct View(Arc<Feed>);

impl View {
    /// Prepares to show progress. Nothing is started or written before the first event.
    #[must_use]
    pub fn open(printer: &Printer, mode: Mode) -> Self {
        Self(Arc::new(Feed {
            opened: Instant::now(),
            printer: printer.clone(),
            mode,
            closed: AtomicBool::new(false),
            queue: OnceLock::new(),
            drawing: Mutex::new(None),
        }))
    }

    /// Where to send events. Those sent after the view is closed are dropped.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress::new(Handle(Arc::clone(&self.0)))
    }

    /// Shows what is left, and the final state.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        if let Some(queue) = self.0.queue.get() {
            // Fails only when the thread is gone already; joining finds that out too.
            let _ = queue.send(Message::Finish(self.0.opened.elapsed()));
        }
        let drawing = self.0.drawing.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(drawing) = drawing {
            // A renderer that panicked has said so; the build's own result still counts.
            let _ = drawing.join();
        }
    }
}

enum Message {
    Event(Duration, Event),
    Finish(Duration),
}

/// Log chunks are up to 64 KiB each, so a full queue holds 16 MiB; whoever logs faster than stderr takes has to wait.
const QUEUE: usize = 256;

struct Feed {
    opened: Instant,
    printer: Printer,
    mode: Mode,
    closed: AtomicBool,
    queue: OnceLock<SyncSender<Message>>,
    drawing: Mutex<Option<JoinHandle<()>>>,
}

struct Handle(Arc<Feed>);

impl Sink for Handle {
    fn emit(&self, event: Event) {
        let feed = &*self.0;
        if feed.closed.load(Ordering::Acquire) {
            return;
        }
        let queue = feed.queue.get_or_init(|| feed.start());
        let unfinished = matches!(&event, Event::Transfer { done, total, .. } if Some(*done) != *total);
        let message = Message::Event(feed.opened.elapsed(), event);
        if unfinished {
            // The next report of the same transfer says more than this one: no reason to wait for a slow terminal.
            if let Err(TrySendError::Disconnected(_) | TrySendError::Full(_)) = queue.try_send(message) {}
        } else {
            // Fails only after the view was closed.
            let _ = queue.send(message);
        }
    }
}

impl Feed {
    fn start(&self) -> SyncSender<Message> {
        let (queue, messages) = sync_channel(QUEUE);
        // Without a renderer the receiving end is gone at once, and every event with it.
        let Some(mut renderer) = self.mode.renderer(&self.printer) else { return queue };
        let opened = self.opened;
        let drawing = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || show(&messages, &mut *renderer, opened));
        // Without a thread there is no progress to see, which is no reason not to build.
        *self.drawing.lock().unwrap_or_else(PoisonError::into_inner) = drawing.ok();
        queue
    }
}

fn show(messages: &Receiver<Message>, renderer: &mut dyn Renderer, opened: Instant) {
    let mut next = renderer.interval().map(|interval| opened.elapsed() + interval);
    loop {
        let message = match next {
            Some(next) => messages.recv_timeout(next.saturating_sub(opened.elapsed())),
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match message {
            Ok(Message::Event(at, event)) => renderer.event(at, event),
            Ok(Message::Finish(now)) => return renderer.finish(now),
            Err(RecvTimeoutError::Disconnected) => return renderer.finish(opened.elapsed()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let (Some(due), Some(interval)) = (next, renderer.interval()) {
            let now = opened.elapsed();
            if now >= due {
                renderer.tick(now);
                next = Some(opened.elapsed() + interval);
            }
        }
    }
}

#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;
