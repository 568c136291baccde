//! A builder's status stream as progress events.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning};
use diag::progress::{Event, Outcome, Progress, Stream, TaskId};
use engine::{CacheStats, LastLines};
use oci::Digest;

/// How long an end is held back: builders end a vertex and take it up again, once its cache key is known.
const GRACE: Duration = Duration::from_millis(150);

/// What the reading of a cache is called. Source: BuildKit `solver/llbsolver/bridge.go`.
const CACHE_IMPORT: &str = "importing cache manifest from ";

/// What the vertices of a build are to the user.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<BTreeMap<Digest, Name>>);

#[derive(Debug)]
struct Name {
    /// The digest it has in the user's definition, where the one sent is another.
    task: Digest,
    text: String,
}

impl Names {
    /// The names of a definition's vertices. `sent` is what the builder gets, which has other sources.
    pub fn of(definition: &llb::Definition, sent: &llb::Definition) -> Self {
        // Both are in the order of the same graph.
        let pairs = definition.vertices().iter().zip(sent.vertices());
        let name = |vertex: &llb::Vertex| Name { task: vertex.digest(), text: vertex.name() };
        Self(Arc::new(pairs.map(|(own, sent)| (sent.digest(), name(own))).collect()))
    }

    /// The names of vertices that a graph in the builder's words stands for: pairs of the digest sent and the one in the
    /// user's definition. Of several that became one, the first counts.
    pub(crate) fn lowered(definition: &llb::Definition, pairs: &[(Digest, Digest)]) -> Self {
        let mut names = BTreeMap::new();
        for (sent, own) in pairs {
            if let Some(vertex) = definition.vertex(own) {
                names.entry(*sent).or_insert_with(|| Name { task: *own, text: vertex.name() });
            }
        }
        Self(Arc::new(names))
    }

    /// The digest in the user's definition.
    pub fn original(&self, sent: &Digest) -> Option<Digest> {
        self.0.get(sent).map(|name| name.task)
    }
}

/// Turns what a builder says into events. Every task that was started is finished when this is dropped.
#[derive(Debug)]
pub(super) struct StatusReader {
    progress: Progress,
    names: Names,
    tasks: HashMap<String, State>,
    last_lines: HashMap<String, LastLines>,
    failed: Option<String>,
    stats: CacheStats,
}

#[derive(Debug)]
struct State {
    task: TaskId,
    name: String,
    /// Whether it is one of the user's own vertices.
    is_own: bool,
    open: bool,
    /// How often it was begun.
    runs: u32,
    begun: Instant,
    /// How it ended, held back until then.
    end: Option<(Instant, Outcome, Duration)>,
}

impl StatusReader {
    pub(super) fn new(progress: Progress, names: Names) -> Self {
        let (tasks, last_lines) = (HashMap::new(), HashMap::new());
        Self { progress, names, tasks, last_lines, failed: None, stats: CacheStats::default() }
    }

    /// Takes what the builder says next.
    pub(super) fn take(&mut self, response: StatusResponse) {
        let now = Instant::now();
        for vertex in response.vertexes {
            self.vertex(&vertex, now);
        }
        for status in response.statuses {
            self.status(status);
        }
        for log in response.logs {
            self.log(log);
        }
        for warning in response.warnings {
            self.warning(&warning);
        }
        self.tick(now);
    }

    /// Tells the ends that were held back for long enough.
    pub(super) fn tick(&mut self, now: Instant) {
        for state in self.tasks.values_mut() {
            if state.end.as_ref().is_some_and(|(due, ..)| *due <= now) {
                finish(&self.progress, &mut self.stats, state);
            }
        }
    }

    /// The vertex that failed first, by the digest sent.
    pub(super) fn failed(&self) -> Option<Digest> {
        self.failed.as_ref()?.parse().ok()
    }

    /// What a vertex wrote last.
    pub(super) fn take_last_lines(&mut self, vertex: &Digest) -> LastLines {
        self.last_lines.remove(&vertex.to_string()).unwrap_or_default()
    }

    /// Ends everything; gives how much was known already.
    pub(super) fn finish(mut self) -> CacheStats {
        self.close();
        self.stats
    }

    fn close(&mut self) {
        for state in self.tasks.values_mut() {
            if state.end.is_some() {
                finish(&self.progress, &mut self.stats, state);
            } else if std::mem::replace(&mut state.open, false) {
                let (task, elapsed) = (state.task.clone(), state.begun.elapsed());
                self.progress.emit(Event::Finished { task, outcome: Outcome::Canceled, elapsed });
            }
        }
    }

    fn vertex(&mut self, vertex: &Vertex, now: Instant) {
        let begins = vertex.started.is_some() || vertex.cached || vertex.completed.is_some();
        if !begins {
            return;
        }
        let state = self.tasks.entry(vertex.digest.clone()).or_insert_with(|| {
            let known = vertex.digest.parse().ok().and_then(|digest: Digest| self.names.0.get(&digest));
            let (task, name) = match known {
                Some(name) => (TaskId::new(name.task.to_string()), name.text.clone()),
                None => (TaskId::new(&vertex.digest), vertex.name.clone()),
            };
            State { task, name, is_own: known.is_some(), open: false, runs: 0, begun: now, end: None }
        });
        let Some(completed) = &vertex.completed else {
            // Taken up again.
            state.end = None;
            begin(&self.progress, state, &vertex.digest, now);
            return;
        };
        let outcome = match vertex.error.as_str() {
            "" if vertex.cached => Outcome::Cached,
            "" => Outcome::Done,
            error if error.contains("context canceled") => Outcome::Canceled,
            error => {
                let line = error.lines().next().unwrap_or_default();
                if !state.is_own && state.name.starts_with(CACHE_IMPORT) {
                    // Nothing was found there, which fails no build.
                    let message = format!("a cache is not read: {line}");
                    self.progress.emit(Event::Warning { task: None, message });
                    Outcome::Done
                } else {
                    if state.is_own {
                        self.failed.get_or_insert_with(|| vertex.digest.clone());
                    }
                    Outcome::Failed(line.to_owned())
                }
            }
        };
        if !state.open && state.runs > 0 && state.end.is_none() {
            // Said before.
            return;
        }
        begin(&self.progress, state, &vertex.digest, now);
        let elapsed = match &vertex.started {
            Some(started) if outcome != Outcome::Cached => between(started, completed),
            _ => Duration::ZERO,
        };
        state.end = Some((now + GRACE, outcome, elapsed));
    }

    fn status(&mut self, status: VertexStatus) {
        let Some(state) = self.tasks.get(&status.vertex).filter(|state| state.open) else { return };
        let (done, total) = (number(status.current), number(status.total));
        if done == 0 && total == 0 {
            return;
        }
        let item = if status.id.is_empty() { status.name } else { status.id };
        let total = (total > 0).then_some(total);
        self.progress.emit(Event::Transfer { task: state.task.clone(), item, done, total });
    }

    fn log(&mut self, log: VertexLog) {
        self.last_lines.entry(log.vertex.clone()).or_default().take(&log.msg);
        let Some(state) = self.tasks.get(&log.vertex).filter(|state| state.open) else { return };
        let stream = if log.stream == 2 { Stream::Stderr } else { Stream::Stdout };
        self.progress.emit(Event::Log { task: state.task.clone(), stream, data: log.msg });
    }

    fn warning(&mut self, warning: &VertexWarning) {
        let message = String::from_utf8_lossy(&warning.short).lines().next().unwrap_or_default().to_owned();
        let task = self.tasks.get(&warning.vertex).filter(|state| state.open).map(|state| state.task.clone());
        self.progress.emit(Event::Warning { task, message });
    }
}

impl Drop for StatusReader {
    fn drop(&mut self) {
        self.close();
    }
}

fn begin(progress: &Progress, state: &mut State, digest: &str, now: Instant) {
    if std::mem::replace(&mut state.open, true) {
        return;
    }
    state.runs += 1;
    state.begun = now;
    if state.runs > 1 {
        // A task ends once; what is taken up again after its end was told is another one of the same name.
        state.task = TaskId::new(format!("{digest} {}", state.runs));
    }
    progress.emit(Event::Started { task: state.task.clone(), name: state.name.clone() });
}

fn finish(progress: &Progress, stats: &mut CacheStats, state: &mut State) {
    let Some((_, outcome, elapsed)) = state.end.take() else { return };
    if !std::mem::replace(&mut state.open, false) {
        return;
    }
    match outcome {
        Outcome::Cached if state.is_own => stats.hits += 1,
        Outcome::Done if state.is_own => stats.misses += 1,
        _ => {}
    }
    progress.emit(Event::Finished { task: state.task.clone(), outcome, elapsed });
}

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn between(start: &Timestamp, end: &Timestamp) -> Duration {
    let nanos = |time: &Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let nanos = (nanos(end) - nanos(start)).max(0);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use diag::progress::Sink;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Event>>>);

    impl Sink for Kept {
        fn emit(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }

    fn vertex(digest: &str, started: Option<i64>, completed: Option<i64>, error: &str) -> Vertex {
        let time = |seconds: i64| Timestamp { seconds, nanos: 0 };
        Vertex {
            digest: digest.to_owned(),
            name: "a step".to_owned(),
            started: started.map(time),
            completed: completed.map(time),
            error: error.to_owned(),
            ..Vertex::default()
        }
    }

    fn said(vertexes: Vec<Vertex>) -> StatusResponse {
        StatusResponse { vertexes, ..StatusResponse::default() }
    }

    #[test]
    fn every_task_is_started_once_and_finished_once() {
        let kept = Kept::default();
        let digest = Digest::of("step").to_string();
        let name = Name { task: Digest::of("step"), text: "a step".to_owned() };
        let names = Names(Arc::new(BTreeMap::from([(Digest::of("step"), name)])));
        let mut reader = StatusReader::new(Progress::new(kept.clone()), names);
        reader.take(said(vec![vertex(&digest, None, None, "")]));
        reader.take(said(vec![vertex(&digest, Some(1), None, "")]));
        reader.take(said(vec![vertex(&digest, Some(1), Some(2), "")]));
        // Taken up again at once: it is the same task.
        reader.take(said(vec![vertex(&digest, Some(3), None, ""), vertex("other", Some(1), None, "")]));
        reader.take(said(vec![vertex(&digest, Some(3), Some(7), "")]));
        reader.tick(Instant::now() + GRACE);
        // Much later: it is another.
        reader.take(said(vec![vertex(&digest, Some(9), None, "")]));
        reader.take(said(vec![vertex(&digest, Some(9), Some(10), "exit code: 3\nmore")]));
        let failed = reader.failed();
        let stats = reader.finish();
        assert_eq!((failed.unwrap().to_string(), stats), (digest.clone(), CacheStats { hits: 0, misses: 1 }));

        let events = kept.0.lock().unwrap().clone();
        let told: Vec<String> = events
            .iter()
            .map(|event| match event {
                Event::Started { task, .. } => format!("+{}", task.as_str().replace(&digest, "step")),
                Event::Finished { task, outcome, elapsed } => {
                    format!("-{} {outcome:?} {}", task.as_str().replace(&digest, "step"), elapsed.as_secs())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told[..4], ["+step", "+other", "-step Done 4", "+step 2"]);
        assert!(told.contains(&"-step 2 Failed(\"exit code: 3\") 1".to_owned()), "{told:?}");
        assert!(told.iter().any(|told| told.starts_with("-other Canceled")), "{told:?}");
        assert_eq!(told.len(), 6);
    }
}
