//! A server that does as it is told, faults included.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use registry::Url;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Answers.
    Answer { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// Promises the whole body, sends half of it and closes.
    Half { headers: Vec<(String, String)>, body: Vec<u8> },
    /// Closes without a word.
    Close,
    /// Says nothing for a long time.
    Stall,
    /// Passes the request on to the server at this address, and its answer back.
    Forward(String),
    /// Passes the request on and closes without giving the answer back.
    ForwardAndClose(String),
}

impl Reply {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::Answer { status: 200, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Self::Answer { headers, .. } | Self::Half { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.into()));
        }
        self
    }
}

/// A running server on the loopback; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts a server; `script` is given each request and how many came before it.
    pub(crate) async fn start(script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("an address").to_string();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let server = Self { address, requests: Arc::clone(&requests) };
        let script = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, requests) = (Arc::clone(&script), Arc::clone(&requests));
                tokio::spawn(async move {
                    // A client that goes away is part of the tests.
                    let _ = converse(stream, script.as_ref(), &requests).await;
                });
            }
        });
        server
    }

    /// Answers each of the requests in turn, and the last reply to all that follow.
    pub(crate) async fn in_turn(replies: Vec<Reply>) -> Self {
        Self::start(move |_, count| replies[count.min(replies.len() - 1)].clone()).await
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).expect("a url")
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }
}

async fn converse(
    mut stream: TcpStream,
    script: &(dyn Fn(&Request, usize) -> Reply + Send + Sync),
    requests: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let Some(request) = receive(&mut stream).await? else { return Ok(()) };
    let count = {
        let mut requests = requests.lock().expect("no panic");
        requests.push(request.clone());
        requests.len() - 1
    };
    match script(&request, count) {
        Reply::Answer { status, headers, body } => {
            stream.write_all(&head(status, &headers, body.len())).await?;
            if request.method != "HEAD" {
                stream.write_all(&body).await?;
            }
        }
        Reply::Half { headers, body } => {
            stream.write_all(&head(200, &headers, body.len())).await?;
            stream.write_all(&body[..body.len() / 2]).await?;
        }
        Reply::Close => {}
        Reply::Stall => tokio::time::sleep(Duration::from_secs(60)).await,
        Reply::Forward(address) => {
            let answer = forward(&address, &request).await?;
            stream.write_all(&answer).await?;
        }
        Reply::ForwardAndClose(address) => {
            forward(&address, &request).await?;
        }
    }
    stream.shutdown().await
}

async fn receive(stream: &mut TcpStream) -> std::io::Result<Option<Request>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).await?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let (method, target) = (method.to_owned(), target.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    assert!(!headers.contains_key("transfer-encoding"), "every body is sent with its length");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    Ok(Some(Request { method, target, headers, body }))
}

fn head(status: u16, headers: &[(String, String)], length: usize) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    // An answer to HEAD says how long the content would be, which the script then gives.
    if !headers.iter().any(|(name, _)| name == "content-length") {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// Gives a request to another server and takes its whole answer.
async fn forward(address: &str, request: &Request) -> std::io::Result<Vec<u8>> {
    let mut upstream = TcpStream::connect(address).await?;
    let mut head = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", request.method, request.target);
    for (name, value) in request.headers.iter().filter(|(name, _)| name.as_str() != "connection") {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    upstream.write_all(format!("{head}\r\n").as_bytes()).await?;
    upstream.write_all(&request.body).await?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await?;
    Ok(answer)
}
