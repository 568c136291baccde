//! Builders behind the standard streams of another program: kubectl, ssh, podman.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, BufReader, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::{Dial, DialError, Purpose, Stream};

/// How many lines of what the program writes are kept for the message.
const LINES: usize = 20;
const LINE: u64 = 4096;
/// How long a program that says nothing is waited for. After that it is left to HTTP/2 to find out.
const GREETING: Duration = Duration::from_secs(30);
/// How long a program may take to end once it has closed its output.
const ENDING: Duration = Duration::from_secs(2);

/// A program whose standard input and output are connected with the builder.
///
/// It runs in a process group of its own, so that an interrupt from the terminal leaves the connection there for an
/// orderly end; it is killed with the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The address, as the user knows it.
    pub address: String,
    /// The program, looked for along `PATH`.
    pub program: String,
    /// Its arguments. Nothing of them is secret: other users of the machine see them.
    pub args: Vec<String>,
    /// Whether the other side speaks first, as gRPC servers do. Then a program that fails is noticed here, with what
    /// it wrote.
    pub greets: bool,
}

#[async_trait]
impl Dial for Process {
    fn describe(&self) -> String {
        self.address.clone()
    }

    async fn dial(&self, _: Purpose<'_>) -> Result<Box<dyn Stream>, DialError> {
        let mut running = self.start().map_err(|error| self.fail(Vec::new(), Some(error)))?;
        if self.greets {
            running.await_greeting().await.map_err(|error| self.fail(running.last_lines(), Some(error)))?;
            if running.greeting.is_empty() && running.ended {
                running.await_end().await;
                return Err(self.fail(running.last_lines(), None));
            }
        }
        Ok(Box::new(running))
    }
}

impl Process {
    /// The command as it would be typed.
    #[must_use]
    pub fn command_line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn start(&self) -> io::Result<Running> {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("the program has no standard streams");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let errors = child.stderr.take().ok_or_else(missing)?;
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        tokio::spawn(keep_last(errors, Arc::clone(&lines)));
        Ok(Running {
            child,
            input: Some(input),
            output,
            lines,
            greeting: VecDeque::new(),
            was_heard: false,
            ended: false,
        })
    }

    fn fail(&self, last_lines: Vec<String>, source: Option<io::Error>) -> DialError {
        DialError::Command { address: self.address.clone(), command: self.command_line(), last_lines, source }
    }
}

async fn keep_last(errors: ChildStderr, lines: Arc<Mutex<VecDeque<String>>>) {
    let mut errors = BufReader::new(errors);
    let mut line = Vec::new();
    // Pieces of overlong lines count as lines: memory stays bounded whatever the program writes.
    while let Ok(count @ 1..) = (&mut errors).take(LINE).read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line[..count]).trim_end().to_owned();
        let mut lines = lines.lock().expect("nothing panics while holding it");
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(text);
        line.clear();
    }
}

/// The program, running, as a byte stream.
struct Running {
    child: Child,
    /// Dropped to end it: the program sees the end of its input then.
    input: Option<ChildStdin>,
    output: ChildStdout,
    lines: Arc<Mutex<VecDeque<String>>>,
    /// What was read before anybody asked for it.
    greeting: VecDeque<u8>,
    was_heard: bool,
    ended: bool,
}

impl Running {
    async fn await_greeting(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        if let Ok(read) = timeout(GREETING, self.output.read(&mut buffer)).await {
            let count = read?;
            self.ended = count == 0;
            self.greeting.extend(&buffer[..count]);
        }
        Ok(())
    }

    /// Waits for what it writes last.
    async fn await_end(&mut self) {
        let _ = timeout(ENDING, self.child.wait()).await;
        // The lines come over another pipe, which is read by another task.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    fn last_lines(&self) -> Vec<String> {
        self.lines.lock().expect("nothing panics while holding it").iter().cloned().collect()
    }
}

impl AsyncRead for Running {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.greeting.is_empty() {
            let count = buf.remaining().min(self.greeting.len());
            let bytes: Vec<u8> = self.greeting.drain(..count).collect();
            buf.put_slice(&bytes);
            self.was_heard = true;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.output).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.was_heard = true;
        } else if !self.was_heard && buf.remaining() > 0 {
            // An end before the first byte: what the program wrote says more than an empty answer.
            let why = self.last_lines().pop().unwrap_or_else(|| "it ended without a word".to_owned());
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Running {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(input) = &mut self.input {
            ready!(Pin::new(input).poll_flush(cx))?;
        }
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn process(script: &str, greets: bool) -> Process {
        let args = ["-c", script].map(str::to_owned).to_vec();
        Process { address: "test://x".to_owned(), program: "sh".to_owned(), args, greets }
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_greeting_is_not_lost() {
        let mut stream = process("printf hello; cat", true).dial(Purpose::Control).await.expect("a stream");
        stream.write_all(b" there").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello there");
    }

    #[tokio::test]
    async fn a_program_that_fails_is_quoted() {
        let process = process("echo one >&2; echo 'no such container' >&2; exit 1", true);
        match process.dial(Purpose::Control).await.map(drop) {
            Err(DialError::Command { last_lines, source: None, command, .. }) => {
                assert_eq!(last_lines, ["one", "no such container"]);
                assert!(command.starts_with("sh -c"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn one_that_does_not_speak_first_is_quoted_when_read() {
        let dialed = process("echo refused >&2; exit 1", false).dial(Purpose::Control).await;
        let mut stream = dialed.expect("nothing is known yet");
        // Its words come over another pipe, and may come later than its end.
        let mut error = stream.read_u8().await.expect_err("it ended");
        for _ in 0..500 {
            if error.to_string() == "refused" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            error = stream.read_u8().await.expect_err("it ended");
        }
        panic!("{error}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there() {
        let process = Process { program: "clawbuild-no-such-program".to_owned(), ..process("", true) };
        match process.dial(Purpose::Control).await.map(drop) {
            Err(DialError::Command { source: Some(source), .. }) => {
                assert_eq!(source.kind(), io::ErrorKind::NotFound);
            }
            other => panic!("{other:?}"),
        }
    }
}
