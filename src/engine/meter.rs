//! Readers and writers that say how far they are, and stop when they are told to.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use diag::progress::{Event, Progress, TaskId};
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_millis(100);

/// Passes bytes on, counts them, and reports at most ten times a second and at the end.
#[derive(Debug)]
pub struct Metered<T> {
    inner: T,
    meter: Meter,
    cancel: CancellationToken,
}

/// Whom to report to.
#[derive(Debug)]
pub struct Meter {
    progress: Progress,
    task: TaskId,
    item: String,
    done: u64,
    total: Option<u64>,
    quiet_until: Instant,
}

impl Meter {
    /// Reports to a task of `progress` under the name `item`, which is unique within the task.
    pub fn new(progress: &Progress, task: &TaskId, item: impl Into<String>, total: Option<u64>) -> Self {
        let quiet_until = Instant::now() + INTERVAL;
        Self { progress: progress.clone(), task: task.clone(), item: item.into(), done: 0, total, quiet_until }
    }

    fn moved(&mut self, bytes: usize) {
        self.done += bytes as u64;
        let now = Instant::now();
        if self.total == Some(self.done) || now >= self.quiet_until {
            self.quiet_until = now + INTERVAL;
            let (task, item) = (self.task.clone(), self.item.clone());
            self.progress.emit(Event::Transfer { task, item, done: self.done, total: self.total });
        }
    }
}

impl<T> Metered<T> {
    /// Reports to `meter`, and fails once `cancel` is triggered.
    pub fn new(inner: T, meter: Meter, cancel: &CancellationToken) -> Self {
        Self { inner, meter, cancel: cancel.clone() }
    }

    /// What is metered.
    pub fn into_inner(self) -> T {
        self.inner
    }

    /// Bytes that went through so far.
    pub fn moved(&self) -> u64 {
        self.meter.done
    }

    fn go_on(&self) -> io::Result<()> {
        // Whoever cancelled knows why this ends.
        if self.cancel.is_cancelled() { Err(io::Error::other("interrupted")) } else { Ok(()) }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.go_on()?;
        let count = self.inner.read(buf)?;
        self.meter.moved(count);
        Ok(count)
    }
}

impl<W: Write> Write for Metered<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.go_on()?;
        let count = self.inner.write(buf)?;
        self.meter.moved(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use diag::progress::Sink;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Told>>);

    type Told = Vec<(u64, Option<u64>)>;

    impl Sink for Kept {
        fn emit(&self, event: Event) {
            if let Event::Transfer { done, total, .. } = event {
                self.0.lock().expect("a lock").push((done, total));
            }
        }
    }

    #[test]
    fn the_end_is_always_told_and_cancelling_ends_it() {
        let (kept, cancel) = (Kept::default(), CancellationToken::new());
        let progress = Progress::new(kept.clone());
        let meter = Meter::new(&progress, &TaskId::new("t"), "item", Some(1000));
        let mut reader = Metered::new(io::repeat(0).take(1000), meter, &cancel);
        let mut piece = [0; 10];
        for _ in 0..100 {
            reader.read_exact(&mut piece).expect("reads");
        }
        let told = kept.0.lock().expect("a lock").clone();
        assert_eq!(told.last(), Some(&(1000, Some(1000))));
        assert!(told.len() < 50, "{told:?}");
        cancel.cancel();
        assert!(reader.read(&mut piece).is_err());
    }
}
