//! SSH agents, forwarded: steps may have signed what they want, and do nothing else with the user's agent.
//!
//! Spec: draft-ietf-sshm-ssh-agent. Source of the service: BuildKit `session/sshforward`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::journal::{Journal, Problem};
use super::rpc;

pub(super) const METHODS: [&str; 2] = ["/moby.sshforward.v1.SSH/CheckAgent", "/moby.sshforward.v1.SSH/ForwardAgent"];

/// The header that names the agent, and the name of one that is not named.
const ID: &str = "buildkit.ssh.id";
const DEFAULT: &str = "default";

/// Requests that are passed on.
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
/// The answer to all others.
const FAILURE: u8 = 5;

/// No message is longer; OpenSSH's own limit.
const MESSAGE_LIMIT: usize = 256 << 10;
/// Bytes of a message sent at once.
const CHUNK: usize = 32 << 10;
/// Messages that wait to be sent.
const WAITING: usize = 4;

/// Forwards to the agents that are offered.
#[derive(Debug)]
pub(super) struct Agents {
    pub(super) sockets: BTreeMap<String, PathBuf>,
    pub(super) journal: Journal,
    pub(super) tasks: TaskTracker,
}

impl Agents {
    async fn connect(&self, id: &str) -> Result<UnixStream, Status> {
        let id = if id.is_empty() { DEFAULT } else { id };
        let Some(socket) = self.sockets.get(id) else {
            self.journal.problem(Problem::NoSuchAgent { id: id.to_owned() });
            return Err(Status::not_found(format!("the SSH agent `{id}` is not forwarded")));
        };
        UnixStream::connect(socket).await.map_err(|source| {
            let status = Status::failed_precondition(format!("the SSH agent `{id}` does not answer: {source}"));
            self.journal.problem(Problem::Agent { id: id.to_owned(), socket: socket.clone(), source });
            status
        })
    }
}

#[tonic::async_trait]
impl Ssh for Agents {
    async fn check_agent(&self, request: Request<CheckAgentRequest>) -> Result<Response<CheckAgentResponse>, Status> {
        self.connect(&request.into_inner().id).await?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    type ForwardAgentStream = ReceiverStream<Result<BytesMessage, Status>>;

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let agent = self.connect(&rpc::value(request.metadata(), ID)?).await?;
        let bytes = request.into_inner().map(|message| message.map(|message| Bytes::from(message.data)));
        let step = StreamReader::new(Box::pin(bytes.map(|bytes| bytes.map_err(io::Error::other))));
        let (outgoing, answers) = mpsc::channel(WAITING);
        self.tasks.spawn(async move {
            tokio::select! {
                result = forward(step, agent, &outgoing) => {
                    if let Err(error) = result {
                        // Nobody listens any more if it cannot be said.
                        let _ = outgoing.send(Err(Status::failed_precondition(error.to_string()))).await;
                    }
                }
                // An agent may wait for its user for as long as it likes.
                () = outgoing.closed() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// Answers one request after another until the step asks no more.
async fn forward(
    mut step: impl AsyncRead + Unpin,
    mut agent: UnixStream,
    answers: &mpsc::Sender<Result<BytesMessage, Status>>,
) -> io::Result<()> {
    while let Some(request) = read_message(&mut step).await? {
        let answer = match request.first() {
            Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)) => {
                agent.write_all(&framed(&request)).await?;
                read_message(&mut agent).await?.ok_or(io::ErrorKind::UnexpectedEof)?
            }
            Some(_) | None => vec![FAILURE],
        };
        for chunk in framed(&answer).chunks(CHUNK) {
            if answers.send(Ok(BytesMessage { data: chunk.to_vec() })).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A message with its length before it.
fn framed(message: &[u8]) -> Vec<u8> {
    // At most `MESSAGE_LIMIT` bytes were read.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), message].concat()
}

/// The next message without its length; `None` at an orderly end.
async fn read_message(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if from.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[1..]).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MESSAGE_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message of the SSH agent protocol is too long"));
    }
    let mut message = vec![0; length];
    from.read_exact(&mut message).await?;
    Ok(Some(message))
}
