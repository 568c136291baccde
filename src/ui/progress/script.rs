//! Scripted events for tests.

use std::time::Duration;

use diag::progress::{Event, Outcome, Stream, TaskId};

use super::Renderer;

/// Feeds a renderer events at times given in milliseconds.
pub(super) struct Script<R> {
    pub(super) renderer: R,
    now: Duration,
}

impl<R: Renderer> Script<R> {
    pub(super) fn new(renderer: R) -> Self {
        Self { renderer, now: Duration::ZERO }
    }

    pub(super) fn at(&mut self, millis: u64) -> &mut Self {
        self.now = Duration::from_millis(millis);
        self
    }

    pub(super) fn start(&mut self, task: &str, name: &str) -> &mut Self {
        self.send(Event::Started { task: TaskId::new(task), name: name.to_owned() })
    }

    pub(super) fn transfer(&mut self, task: &str, item: &str, done: u64, total: Option<u64>) -> &mut Self {
        self.send(Event::Transfer { task: TaskId::new(task), item: item.to_owned(), done, total })
    }

    pub(super) fn log(&mut self, task: &str, data: &str) -> &mut Self {
        self.send(Event::Log { task: TaskId::new(task), stream: Stream::Stdout, data: data.into() })
    }

    pub(super) fn warn(&mut self, task: Option<&str>, message: &str) -> &mut Self {
        self.send(Event::Warning { task: task.map(TaskId::new), message: message.to_owned() })
    }

    pub(super) fn finish(&mut self, task: &str, outcome: Outcome, millis: u64) -> &mut Self {
        self.send(Event::Finished { task: TaskId::new(task), outcome, elapsed: Duration::from_millis(millis) })
    }

    pub(super) fn tick(&mut self) -> &mut Self {
        self.renderer.tick(self.now);
        self
    }

    pub(super) fn end(&mut self) {
        self.renderer.finish(self.now);
    }

    fn send(&mut self, event: Event) -> &mut Self {
        self.renderer.event(self.now, event);
        self
    }
}

/// A build that downloads, finds something cached, writes output and fails.
pub(super) fn failing_build<R: Renderer>(script: &mut Script<R>) {
    script
        .at(0)
        .start("base", "[base/debian] assemble")
        .start("cached", "[openclaw sources] npm pack openclaw@2026.11.3");
    script.at(2).finish("cached", Outcome::Cached, 0);
    script.at(10).transfer("base", "libc6_2.41-12_amd64.deb", 0, Some(2_800_000));
    script.at(1_010).transfer("base", "libc6_2.41-12_amd64.deb", 1_400_000, Some(2_800_000)).tick();
    script.at(2_000).transfer("base", "libc6_2.41-12_amd64.deb", 2_800_000, Some(2_800_000));
    script.at(2_100).finish("base", Outcome::Done, 2_100).start("deps", "[openclaw dependencies] pnpm fetch");
    script.at(2_600).log("deps", "Progress: resolved 1\rProgress: resolved 812\nfetch").tick();
    script.at(2_700).warn(Some("deps"), "lock file is older than the manifest").log("deps", "ed \x1b[32m812\x1b[0m\n");
    script.at(3_000).log("deps", "ERR_PNPM_OUTDATED_LOCKFILE cannot install").tick();
    script.at(3_100).finish("deps", Outcome::Failed("the command ended with status 1".to_owned()), 1_000).end();
}
