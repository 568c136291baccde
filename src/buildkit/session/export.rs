//! Receiving an exported stream: `FileSend`.
//!
//! Source: BuildKit `session/filesync/filesync.go`. Exporters that send files one by one use the same method with
//! other messages; none of those is asked for.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSend;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::{Request, Response, Status, Streaming};

use super::journal::{Journal, Problem};
use super::offer::StreamSink;
use super::pipe::{PipeReader, pipe};

pub(super) const METHODS: [&str; 1] = ["/moby.filesync.v1.FileSend/DiffCopy"];

/// Headers with this in front are what the exporter says of its result.
const METADATA: &str = "exporter-md-";

/// Passes the stream on to who takes it.
#[derive(Debug)]
pub(super) struct Exports {
    sink: Option<Arc<dyn StreamSink>>,
    is_taken: AtomicBool,
    journal: Journal,
    tasks: TaskTracker,
}

impl Exports {
    pub(super) fn new(sink: Option<Arc<dyn StreamSink>>, journal: Journal, tasks: TaskTracker) -> Self {
        Self { sink, is_taken: AtomicBool::new(false), journal, tasks }
    }
}

#[tonic::async_trait]
impl FileSend for Exports {
    type DiffCopyStream = ReceiverStream<Result<BytesMessage, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let sink = self.sink.clone().ok_or_else(|| Status::not_found("nothing is to be exported as a stream"))?;
        if self.is_taken.swap(true, Ordering::Relaxed) {
            return Err(Status::failed_precondition("one export was wanted, and is there already"));
        }
        let metadata = exporter_metadata(request.metadata());
        let (answers, sent) = mpsc::channel(1);
        let (journal, tasks) = (self.journal.clone(), self.tasks.clone());
        self.tasks.spawn(async move {
            let (writer, mut reader) = pipe();
            let taken = tasks.spawn_blocking(move || take(&*sink, &metadata, &mut reader));
            let mut messages = request.into_inner();
            let passed = async {
                while let Some(message) = messages.message().await? {
                    if writer.write(Bytes::from(message.data)).await.is_err() {
                        // The sink gave up; its own words follow.
                        return Ok(());
                    }
                }
                let _ = writer.finish().await;
                Ok(())
            };
            let passed: Result<(), Status> = tokio::select! {
                passed = passed => passed,
                () = answers.closed() => Err(Status::cancelled("nobody waits any more")),
            };
            // Whatever came to an end too early makes the sink fail: it never saw the end.
            let failure = match (taken.await, passed) {
                (Ok(Ok(())), Ok(())) => return,
                (_, Err(status)) => status,
                (Ok(Err(error)), Ok(())) => failed(&journal, &error.to_string()),
                (Err(error), Ok(())) => failed(&journal, &error.to_string()),
            };
            // Nobody listens any more if it cannot be said.
            let _ = answers.send(Err(failure)).await;
        });
        Ok(Response::new(ReceiverStream::new(sent)))
    }
}

/// Has the stream taken, all of it.
fn take(sink: &dyn StreamSink, metadata: &BTreeMap<String, String>, content: &mut PipeReader) -> io::Result<()> {
    sink.receive(metadata, content)?;
    // An archive may be followed by padding nobody reads.
    io::copy(content, &mut io::sink()).map(|_| ())
}

fn failed(journal: &Journal, message: &str) -> Status {
    let what = "the exported files".to_owned();
    journal.problem(Problem::Receive { what, message: message.to_owned() });
    Status::internal(message)
}

fn exporter_metadata(headers: &MetadataMap) -> BTreeMap<String, String> {
    let known = headers.iter().filter_map(|header| match header {
        KeyAndValueRef::Ascii(key, value) => {
            let name = key.as_str().strip_prefix(METADATA)?;
            Some((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        }
        KeyAndValueRef::Binary(..) => None,
    });
    known.collect()
}
