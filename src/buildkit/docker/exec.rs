//! buildkitd in a container: the standard streams of `buildctl dial-stdio`, run there over Docker's API.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::ContainerStateStatusEnum;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_util::io::StreamReader;

use super::Endpoint;
use crate::transport::{Dial, DialError, Purpose, Stream};

const COMMAND: [&str; 2] = ["buildctl", "dial-stdio"];
const LINES: usize = 20;
/// How long buildctl may say nothing. After that it is left to HTTP/2 to find out.
const GREETING: std::time::Duration = std::time::Duration::from_secs(30);

/// A buildkitd in a container of a Docker daemon. A container that is stopped is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerDial {
    endpoint: Endpoint,
    container: String,
}

impl ContainerDial {
    /// The buildkitd in the container of this name or id.
    #[must_use]
    pub fn new(endpoint: Endpoint, container: impl Into<String>) -> Self {
        Self { endpoint, container: container.into() }
    }

    fn failed(&self, last_lines: Vec<String>, source: Option<io::Error>) -> DialError {
        let command = format!("docker exec -i {} {}", self.container, COMMAND.join(" "));
        DialError::Command { address: self.describe(), command, last_lines, source }
    }

    async fn start(&self, docker: &Docker) -> Result<(), DialError> {
        let fail = |error| self.failed(Vec::new(), Some(io_error(error)));
        let inspected = docker.inspect_container(&self.container, None).await.map_err(fail)?;
        let status = inspected.state.and_then(|state| state.status);
        if matches!(status, Some(ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EXITED)) {
            docker.start_container(&self.container, None).await.map_err(fail)?;
        }
        Ok(())
    }
}

#[async_trait]
impl Dial for ContainerDial {
    fn describe(&self) -> String {
        format!("docker-container://{}", self.container)
    }

    async fn dial(&self, _: Purpose<'_>) -> Result<Box<dyn Stream>, DialError> {
        let docker = self.endpoint.client();
        let fail = |error| self.failed(Vec::new(), Some(io_error(error)));
        self.start(&docker).await?;
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(COMMAND.to_vec()),
            ..CreateExecOptions::default()
        };
        let exec = docker.create_exec(&self.container, options).await.map_err(fail)?;
        let StartExecResults::Attached { output, input } = docker.start_exec(&exec.id, None).await.map_err(fail)?
        else {
            return Err(self.failed(Vec::new(), Some(io::Error::other("Docker did not attach its streams"))));
        };
        let lines = Arc::new(Mutex::new(Vec::new()));
        let errors = Arc::clone(&lines);
        let data = output.map_err(io_error).try_filter_map(move |output| {
            futures::future::ready(Ok(match output {
                LogOutput::StdOut { message } | LogOutput::Console { message } => Some(message),
                LogOutput::StdErr { message } => {
                    keep(&errors, &message);
                    None
                }
                LogOutput::StdIn { .. } => None,
            }))
        });
        let mut output = StreamReader::new(data.boxed());
        // A gRPC server speaks first. If nothing comes but the end, buildctl has said why.
        let mut greeting = vec![0; 4096];
        let count = match timeout(GREETING, output.read(&mut greeting)).await {
            Err(_) => None,
            Ok(read) => Some(read.map_err(|error| self.failed(Vec::new(), Some(error)))?),
        };
        if count == Some(0) {
            return Err(self.failed(lines.lock().expect("nothing panics while holding it").clone(), None));
        }
        greeting.truncate(count.unwrap_or(0));
        let output = Box::new(io::Cursor::new(greeting).chain(output));
        Ok(Box::new(Attached { output, input }))
    }
}

fn keep(lines: &Mutex<Vec<String>>, message: &Bytes) {
    let mut lines = lines.lock().expect("nothing panics while holding it");
    for line in String::from_utf8_lossy(message).lines().filter(|line| !line.trim().is_empty()) {
        if lines.len() < LINES {
            lines.push(line.to_owned());
        }
    }
}

fn io_error(error: bollard::errors::Error) -> io::Error {
    match error {
        bollard::errors::Error::IOError { err } => err,
        error => io::Error::other(error),
    }
}

/// Both directions of an attached exec.
struct Attached {
    output: Box<dyn AsyncRead + Send + Unpin>,
    input: Pin<Box<dyn AsyncWrite + Send>>,
}

impl AsyncRead for Attached {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for Attached {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.input.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_shutdown(cx)
    }
}
