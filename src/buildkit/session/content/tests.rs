//! A daemon that reads layouts and writes exports, with good manners and without.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use engine::Layout;
use oci::Digest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Status};

use super::super::fixture::{Daemon, Scene, within};
use super::super::{ContentSink, IncomingBlob, Offer, Problem, Receive};
use super::messages::{
    AbortRequest, Action, Empty, InfoRequest, InfoResponse, ReadRequest, ReadResponse, StatusRequest, StatusResponse,
    WriteRequest, WriteResponse,
};
use super::{ABORT, INFO, READ, STATUS, STORE, WRITE};

/// Keeps what it is given in memory.
#[derive(Debug, Default)]
struct Memory {
    blobs: Mutex<BTreeMap<Digest, Vec<u8>>>,
    /// Fails after so many bytes.
    room: Option<usize>,
}

impl ContentSink for Memory {
    fn size(&self, digest: &Digest) -> Option<u64> {
        self.blobs.lock().expect("whole").get(digest).map(|bytes| bytes.len() as u64)
    }

    fn receive(&self, blob: &IncomingBlob, content: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        match self.room {
            Some(room) => {
                content.take(room as u64).read_to_end(&mut bytes)?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            None => content.read_to_end(&mut bytes)?,
        };
        self.blobs.lock().expect("whole").insert(blob.digest, bytes);
        Ok(())
    }
}

fn to<M>(store: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(STORE, store.parse().expect("a header"));
    request
}

impl Daemon {
    async fn info(&self, store: &str, digest: &str) -> Result<i64, Status> {
        let request = to(store, InfoRequest { digest: digest.to_owned() });
        let response: InfoResponse = within(self.unary(INFO, request)).await?;
        let info = response.info.expect("an answer");
        assert_eq!(info.digest, digest);
        Ok(info.size)
    }

    async fn read(&self, store: &str, digest: &Digest, offset: i64, size: i64) -> Result<Vec<u8>, Status> {
        let request = to(store, ReadRequest { digest: digest.to_string(), offset, size });
        let mut pieces = within(self.server_streaming::<_, ReadResponse>(READ, request)).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = within(pieces.message()).await? {
            assert_eq!(piece.offset, bytes.len() as i64);
            bytes.extend_from_slice(&piece.data);
        }
        Ok(bytes)
    }

    async fn begin(&self, store: &str, digest: &Digest, total: usize) -> Result<Writing, Status> {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let first = WriteRequest {
            action: Action::Stat.into(),
            reference: format!("layer-{digest}"),
            total: total as i64,
            expected: digest.to_string(),
            ..WriteRequest::default()
        };
        requests.send(first).expect("somebody listens");
        let request = to(store, UnboundedReceiverStream::new(outgoing));
        let mut responses = within(self.streaming::<_, WriteResponse>(WRITE, request)).await?;
        let first = within(responses.message()).await?.expect("an answer");
        assert_eq!((first.action(), first.offset, first.total), (Action::Stat, 0, total as i64));
        Ok(Writing { requests, responses })
    }

    /// Sends a blob as containerd's client does.
    async fn send(&self, store: &str, content: &[u8]) -> Result<(), Status> {
        let digest = Digest::of(content);
        let mut writing = self.begin(store, &digest, content.len()).await?;
        let mut offset = 0;
        for piece in content.chunks(1000) {
            let response = writing.say(Action::Write, offset, piece).await?;
            offset += piece.len() as i64;
            assert_eq!(response.offset, offset);
        }
        let response = writing.say(Action::Commit, offset, b"").await?;
        assert_eq!((response.offset, response.digest), (offset, digest.to_string()));
        assert_eq!(within(writing.responses.message()).await?, None);
        Ok(())
    }
}

struct Writing {
    requests: mpsc::UnboundedSender<WriteRequest>,
    responses: tonic::Streaming<WriteResponse>,
}

impl Writing {
    async fn say(&mut self, action: Action, offset: i64, data: &[u8]) -> Result<WriteResponse, Status> {
        let data = Bytes::copy_from_slice(data);
        self.send(WriteRequest { action: action.into(), offset, data, ..WriteRequest::default() }).await
    }

    async fn send(&mut self, request: WriteRequest) -> Result<WriteResponse, Status> {
        // Sending to a call that has ended is found out by its answer.
        let _ = self.requests.send(request);
        within(self.responses.message()).await?.ok_or_else(|| Status::internal("it ended without an answer"))
    }
}

fn exporting() -> (Arc<Memory>, Offer) {
    let sink = Arc::new(Memory::default());
    (Arc::clone(&sink), Offer { receive: Receive::Content(sink), ..Offer::default() })
}

#[tokio::test]
async fn layouts_are_read_from() {
    let scene = Scene::new();
    let content: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let digest = scene.store.put_blob(&content).expect("puts").digest;
    let directory = scene.path("layout");
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("creates");
    fs::write(blobs.join(digest.hex()), &content).expect("writes");
    let layouts = BTreeMap::from([
        ("store".to_owned(), Layout::Store(scene.store.clone())),
        ("directory".to_owned(), Layout::Directory(directory.clone())),
    ]);
    let daemon = scene.serve(Offer { layouts, ..Offer::default() }).await;
    for store in ["oci:store", "oci:directory"] {
        assert_eq!(daemon.info(store, &digest.to_string()).await.expect("info"), 3_000_000);
        assert!(daemon.read(store, &digest, 0, 0).await.expect("reads") == content);
        assert!(daemon.read(store, &digest, 10, 2_000_000).await.expect("reads") == content[10..2_000_010]);
        assert_eq!(daemon.read(store, &digest, 2_999_999, 100).await.expect("reads"), content[2_999_999..]);
        assert_eq!(daemon.read(store, &digest, 3_000_000, 100).await.expect("reads"), b"");
        assert_eq!(daemon.read(store, &digest, -5, 3).await.expect("reads"), content[..3]);
        assert_eq!(daemon.read(store, &digest, 3_000_001, 1).await.expect_err("past it").code(), Code::OutOfRange);
        assert_eq!(
            daemon.read(store, &digest, i64::MAX, i64::MAX).await.expect_err("past it").code(),
            Code::OutOfRange
        );
        assert_eq!(daemon.read(store, &digest, 5, i64::MAX).await.expect("reads").len(), content.len() - 5);
        assert!(daemon.journal.take_problems().is_empty());
        let missing = Digest::of("missing");
        assert_eq!(daemon.info(store, &missing.to_string()).await.expect_err("missing").code(), Code::NotFound);
        assert!(matches!(&daemon.journal.take_problems()[..], [Problem::Blob { digest, .. }] if *digest == missing));
        let refused = daemon.begin(store, &missing, 1).await.err().expect("read only");
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    daemon.hang_up().await;
}

#[tokio::test]
async fn nothing_is_read_but_blobs_of_what_is_offered() {
    let scene = Scene::new();
    let digest = scene.store.put_blob(b"content").expect("puts").digest;
    let directory = scene.path("layout");
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(blobs.join(Digest::of("directory").hex())).expect("creates");
    symlink("/etc/passwd", blobs.join(Digest::of("link").hex())).expect("links");
    let layouts = BTreeMap::from([("one".to_owned(), Layout::Directory(directory))]);
    let daemon = scene.serve(Offer { layouts, ..Offer::default() }).await;
    for store in ["oci:other", "one", "export", "local:/tmp", "", "oci:", "oci:../store"] {
        assert_eq!(daemon.info(store, &digest.to_string()).await.expect_err(store).code(), Code::NotFound);
        assert!(matches!(&daemon.journal.take_problems()[..], [Problem::NoSuchStore { id }] if id == store));
    }
    let plain = within(daemon.unary::<_, InfoResponse>(INFO, Request::new(InfoRequest { digest: digest.to_string() })));
    assert_eq!(plain.await.expect_err("which store?").code(), Code::InvalidArgument);
    for digest in ["", "sha256:", "sha256:../../../../etc/passwd", "md5:00", &digest.hex()] {
        assert_eq!(daemon.info("oci:one", digest).await.expect_err(digest).code(), Code::InvalidArgument);
    }
    for name in ["directory", "link"] {
        let refused = daemon.read("oci:one", &Digest::of(name), 0, 0).await.expect_err(name);
        assert_eq!(refused.code(), Code::Internal, "{refused}");
    }
    for method in ["List", "Delete", "Update", "ListStatuses", "Unheard"] {
        let path: &'static str =
            Box::leak(format!("/containerd.services.content.v1.Content/{method}").into_boxed_str());
        let refused = within(daemon.unary::<_, Empty>(path, to("oci:one", Empty {}))).await.expect_err(method);
        assert_eq!(refused.code(), Code::Unimplemented);
    }
    daemon.hang_up().await;
}

#[tokio::test]
async fn exports_arrive_and_known_blobs_do_not_travel() {
    let scene = Scene::new();
    let (sink, offer) = exporting();
    let daemon = scene.serve(offer).await;
    let large = "0123456789".repeat(500_000).into_bytes();
    for content in [&large[..], b"small", b""] {
        daemon.send("export", content).await.expect("sends");
        let digest = Digest::of(content);
        assert!(sink.blobs.lock().expect("whole")[&digest] == content);
        assert_eq!(daemon.info("export", &digest.to_string()).await.expect("there"), content.len() as i64);
        let again = daemon.begin("export", &digest, content.len()).await.err().expect("known");
        assert_eq!(again.code(), Code::AlreadyExists);
    }
    let unread = daemon.read("export", &Digest::of("small"), 0, 0).await.expect_err("only written to");
    assert_eq!(unread.code(), Code::NotFound);
    assert!(daemon.journal.take_problems().is_empty());
    daemon.hang_up().await;
}

#[tokio::test]
async fn what_is_not_what_it_was_said_to_be_is_not_kept() {
    let scene = Scene::new();
    let (sink, offer) = exporting();
    let daemon = scene.serve(offer).await;
    let digest = Digest::of("content");
    let begin = async |total| daemon.begin("export", &digest, total).await.expect("begins");

    let mut other = begin(7).await;
    other.say(Action::Write, 0, b"CONTENT").await.expect("takes");
    assert_eq!(other.say(Action::Commit, 7, b"").await.expect_err("another digest").code(), Code::DataLoss);
    assert!(matches!(&daemon.journal.take_problems()[..], [Problem::Receive { .. }]));
    let mut short = begin(7).await;
    assert_eq!(short.say(Action::Commit, 0, b"conten").await.expect_err("too short").code(), Code::DataLoss);
    let mut long = begin(7).await;
    assert_eq!(long.say(Action::Write, 0, b"contents").await.expect_err("too long").code(), Code::OutOfRange);
    let mut skips = begin(7).await;
    assert_eq!(skips.say(Action::Write, 3, b"tent").await.expect_err("a gap").code(), Code::OutOfRange);
    for offset in [-1, i64::MIN, i64::MAX] {
        let refused = begin(7).await.say(Action::Write, offset, b"x").await.expect_err("no offset");
        assert_eq!(refused.code(), Code::OutOfRange, "{offset}");
    }
    let mut swaps = begin(7).await;
    let expected = Digest::of("other").to_string();
    let swap = WriteRequest { action: Action::Write.into(), expected, ..WriteRequest::default() };
    assert_eq!(swaps.send(swap).await.expect_err("another digest").code(), Code::InvalidArgument);
    drop(begin(7).await);
    assert!(sink.blobs.lock().expect("whole").is_empty());

    // And none of it is in the way of one that is right.
    daemon.send_when_free("export", b"content").await;
    assert_eq!(sink.blobs.lock().expect("whole").len(), 1);
    daemon.hang_up().await;
}

impl Daemon {
    /// As [`Daemon::send`], trying again while another transfer is being cleared away, as containerd's client does.
    async fn send_when_free(&self, store: &str, content: &[u8]) {
        for _ in 0..100 {
            match self.send(store, content).await {
                Err(status) if status.code() == Code::Unavailable => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                result => return result.expect("sends"),
            }
        }
        panic!("it never got free");
    }
}

#[tokio::test]
async fn transfers_can_begin_anew_be_watched_and_be_broken_off() {
    let scene = Scene::new();
    let (sink, offer) = exporting();
    let daemon = scene.serve(offer).await;
    let digest = Digest::of("content");
    let mut writing = daemon.begin("export", &digest, 0).await.expect("begins without a length");
    writing.say(Action::Write, 0, b"cont").await.expect("takes");
    let second = daemon.begin("export", &digest, 7).await.err().expect("not twice at a time");
    assert_eq!(second.code(), Code::Unavailable);
    let reference = format!("layer-{digest}");
    let status: StatusResponse =
        within(daemon.unary(STATUS, to("export", StatusRequest { reference: reference.clone() })))
            .await
            .expect("a status");
    let status = status.status.expect("a status");
    assert_eq!((status.offset, status.expected), (4, digest.to_string()));
    writing.say(Action::Write, 0, b"con").await.expect("from the start");
    assert_eq!(writing.say(Action::Stat, 0, b"").await.expect("a status").offset, 3);
    writing.say(Action::Commit, 3, b"tent").await.expect("whole");
    assert_eq!(sink.blobs.lock().expect("whole")[&digest], b"content");
    let gone = within(daemon.unary::<_, StatusResponse>(STATUS, to("export", StatusRequest { reference }))).await;
    assert_eq!(gone.expect_err("over").code(), Code::NotFound);

    let digest = Digest::of("other");
    let abort = || {
        let request = to("export", AbortRequest { reference: format!("layer-{digest}") });
        within(daemon.unary::<_, Empty>(ABORT, request))
    };
    assert_eq!(abort().await.expect_err("there is none").code(), Code::NotFound);
    let mut writing = daemon.begin("export", &digest, 5).await.expect("begins");
    writing.say(Action::Write, 0, b"oth").await.expect("takes");
    abort().await.expect("aborts");
    let ended = within(writing.responses.message()).await.expect_err("aborted");
    assert_eq!(ended.code(), Code::Aborted);
    daemon.send_when_free("export", b"other").await;

    for (reference, expected, code) in [
        ("", digest.to_string(), Code::InvalidArgument),
        ("x", String::new(), Code::FailedPrecondition),
        ("x", "sha256:x".to_owned(), Code::InvalidArgument),
    ] {
        let first = WriteRequest { reference: reference.to_owned(), expected, ..WriteRequest::default() };
        let request = to("export", futures::stream::iter([first]));
        let mut responses = within(daemon.streaming::<_, WriteResponse>(WRITE, request)).await.expect("begins");
        assert_eq!(within(responses.message()).await.expect_err("refused").code(), code);
    }
    daemon.hang_up().await;
}

#[tokio::test]
async fn a_sink_that_fails_fails_the_transfer() {
    let scene = Scene::new();
    let sink = Arc::new(Memory { room: Some(1500), ..Memory::default() });
    let daemon = scene.serve(Offer { receive: Receive::Content(sink), ..Offer::default() }).await;
    let failed = daemon.send("export", &[7; 100_000]).await.expect_err("full");
    assert_eq!(failed.code(), Code::ResourceExhausted);
    assert!(matches!(&daemon.journal.take_problems()[..], [Problem::Receive { .. }]));
    daemon.hang_up().await;
}

#[tokio::test]
async fn caches_are_read_and_written() {
    let scene = Scene::new();
    let path = scene.path("cache");
    fs::create_dir(&path).expect("creates");
    let daemon = scene.serve(Offer { caches: vec![path.clone()], ..Offer::default() }).await;
    let store = format!("local:{}", path.display());
    let digest = Digest::of("content");
    assert_eq!(daemon.info(&store, &digest.to_string()).await.expect_err("a miss").code(), Code::NotFound);
    daemon.send(&store, b"content").await.expect("sends");
    assert_eq!(daemon.read(&store, &digest, 3, 0).await.expect("reads"), b"tent");
    assert_eq!(daemon.begin(&store, &digest, 7).await.err().expect("known").code(), Code::AlreadyExists);
    assert!(daemon.journal.take_problems().is_empty(), "a miss is no problem");
    let names: Vec<_> = fs::read_dir(&path).expect("lists").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["blobs"], "nothing else stays");
    daemon.hang_up().await;
}
