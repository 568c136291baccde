//! Sending the contents that the daemon asks for.

use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};

use bytes::Bytes;
use engine::context::{Context, ContextError};
use rustix::fs::FileType;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

use super::packet::{Kind, Packet};

/// Bytes of a file sent at once.
const CHUNK: usize = 64 << 10;
/// Packets that wait to be sent.
const WAITING: usize = 32;
/// Files read at once, at most.
const READERS: usize = 4;

type Outgoing = mpsc::Sender<Result<Packet, Status>>;
type Failed = dyn Fn(ContextError) -> Status + Send + Sync;

/// The contents of the files that are asked for, until the daemon has all it wants. `failed` makes of a failure what
/// the daemon is told.
pub(super) fn send(
    context: Arc<Context>,
    requests: Streaming<Packet>,
    tasks: &TaskTracker,
    failed: impl Fn(ContextError) -> Status + Send + Sync + 'static,
) -> ReceiverStream<Result<Packet, Status>> {
    let (outgoing, sent) = mpsc::channel(WAITING);
    let readers = Readers { context, tasks: tasks.clone(), failed: Arc::new(failed), outgoing, queue: None };
    tasks.spawn(readers.answer(requests));
    ReceiverStream::new(sent)
}

struct Readers {
    context: Arc<Context>,
    tasks: TaskTracker,
    failed: Arc<Failed>,
    outgoing: Outgoing,
    /// Where those that are asked for go. There are no readers before the first request: mostly nothing is wanted.
    queue: Option<blocking::Sender<u32>>,
}

impl Readers {
    async fn answer(mut self, mut requests: Streaming<Packet>) {
        let mut is_offered: Vec<bool> =
            self.context.entries().iter().map(|entry| entry.file_type() == FileType::RegularFile).collect();
        loop {
            let packet = tokio::select! {
                packet = requests.message() => packet,
                // Nobody takes the answers any more.
                () = self.outgoing.closed() => return,
            };
            let last = match packet {
                Ok(Some(packet)) => match packet.kind() {
                    Kind::Request => {
                        let offered = usize::try_from(packet.id).ok().and_then(|id| is_offered.get_mut(id));
                        if offered.is_some_and(std::mem::take) {
                            self.enqueue(packet.id);
                            continue;
                        }
                        Err(Status::invalid_argument(format!("no file {} is offered, or not any more", packet.id)))
                    }
                    Kind::Finish => Ok(Packet::finish()),
                    Kind::Error => {
                        Err(Status::aborted(format!("the receiver failed: {}", String::from_utf8_lossy(&packet.data))))
                    }
                    Kind::Stat | Kind::Data => Err(Status::invalid_argument("a receiver only asks")),
                },
                Ok(None) => Err(Status::aborted("the transfer was broken off")),
                Err(status) => Err(status),
            };
            // Nobody listens any more if it cannot be said.
            let _ = self.outgoing.send(last).await;
            return;
        }
    }

    fn enqueue(&mut self, id: u32) {
        let queue = self.queue.get_or_insert_with(|| {
            let (queue, wanted) = blocking::channel();
            let wanted = Arc::new(Mutex::new(wanted));
            for _ in 0..READERS {
                let (context, failed) = (Arc::clone(&self.context), Arc::clone(&self.failed));
                let (wanted, outgoing) = (Arc::clone(&wanted), self.outgoing.clone());
                self.tasks.spawn_blocking(move || read(&context, &wanted, &outgoing, &*failed));
            }
            queue
        });
        // The readers end early only when nobody takes what they read.
        let _ = queue.send(id);
    }
}

/// Sends one file after another until none is wanted any more.
fn read(context: &Context, wanted: &Mutex<blocking::Receiver<u32>>, outgoing: &Outgoing, failed: &Failed) {
    loop {
        let next = wanted.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(id) = next else { return };
        if let Err(error) = send_file(context, id, outgoing) {
            match error {
                Stopped::Failed(error) => _ = outgoing.blocking_send(Err(failed(error))),
                Stopped::Unheard => {}
            }
            return;
        }
    }
}

/// Why a file was not sent.
enum Stopped {
    /// It could not be read.
    Failed(ContextError),
    /// Nobody takes it any more.
    Unheard,
}

fn send_file(context: &Context, id: u32, outgoing: &Outgoing) -> Result<(), Stopped> {
    let entry = &context.entries()[id as usize];
    let mut content = context.open(entry).map_err(Stopped::Failed)?;
    let mut left = entry.size();
    loop {
        let room = usize::try_from(left).map_or(CHUNK, |left| left.clamp(1, CHUNK));
        let mut chunk = vec![0; room];
        let length = content.read(&mut chunk).map_err(Stopped::Failed)?;
        chunk.truncate(length);
        left = left.saturating_sub(length as u64);
        outgoing.blocking_send(Ok(Packet::data(id, Bytes::from(chunk)))).map_err(|_| Stopped::Unheard)?;
        if length == 0 {
            return Ok(());
        }
    }
}
