//! HTTP to Docker: its Engine API, and connections that are upgraded to something else.

use bollard::{BollardRequest, Docker};
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::Endpoint;
use crate::transport::{DialError, Stream};

/// Seconds one answer may take. Docker may be loading or saving large images meanwhile.
const TIMEOUT: u64 = 1800;
/// Bytes of an error's text that are read.
const MESSAGE: usize = 16 << 10;

impl Endpoint {
    /// A client of the Engine API, which makes a connection for each request.
    ///
    /// # Panics
    /// Never: making the client checks nothing.
    #[must_use]
    pub fn client(&self) -> Docker {
        let endpoint = self.clone();
        let transport = move |request: BollardRequest| {
            let endpoint = endpoint.clone();
            async move { send(&endpoint, request).await.map_err(into_bollard) }
        };
        let version = bollard::API_DEFAULT_VERSION;
        Docker::connect_with_custom_transport(transport, Some("http://docker"), TIMEOUT, version)
            .expect("the client is only put together here")
    }
}

/// bollard hands errors of its transport on as they are.
fn into_bollard(error: DialError) -> bollard::errors::Error {
    bollard::errors::Error::IOError { err: std::io::Error::other(error) }
}

async fn send<B>(endpoint: &Endpoint, mut request: Request<B>) -> Result<Response<Incoming>, DialError>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let protocol =
        |error: hyper::Error| DialError::Protocol { address: endpoint.to_string(), source: Some(Box::new(error)) };
    // Only the path goes over the wire; whose it is, the connection says.
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    request.headers_mut().insert(HOST, HeaderValue::from_static("docker"));
    let stream = endpoint.connect().await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(protocol)?;
    // It ends with the response's body, or is taken out of it by an upgrade.
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(protocol)
}

/// Asks for `path` to become something else than HTTP, and gives the stream.
pub(super) async fn upgrade(
    endpoint: &Endpoint,
    path: &'static str,
    headers: &[(&'static str, String)],
) -> Result<Box<dyn Stream>, DialError> {
    let fail = |source: Box<dyn std::error::Error + Send + Sync>| DialError::Protocol {
        address: endpoint.to_string(),
        source: Some(source),
    };
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "h2c")
        .body(String::new())
        .map_err(|error| fail(error.into()))?;
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).map_err(|error| fail(error.into()))?;
        request.headers_mut().append(HeaderName::from_static(name), value);
    }
    let response = send(endpoint, request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        return Err(match (status, message(response).await) {
            (StatusCode::NOT_FOUND, _) => DialError::NotBuildKit { address: endpoint.to_string() },
            (status, text) => fail(format!("{path}: {status} {text}").trim_end().to_owned().into()),
        });
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|error| fail(error.into()))?;
    Ok(Box::new(TokioIo::new(upgraded)))
}

/// What an error says of itself.
async fn message(mut response: Response<Incoming>) -> String {
    let mut text = Vec::new();
    while text.len() < MESSAGE {
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(response.body_mut()).poll_frame(cx)).await;
        match frame.and_then(Result::ok).map(hyper::body::Frame::into_data) {
            Some(Ok(data)) => text.extend_from_slice(&data),
            Some(Err(_)) => {}
            None => break,
        }
    }
    #[derive(serde::Deserialize)]
    struct Answer {
        message: String,
    }
    match serde_json::from_slice(&text) {
        Ok(Answer { message }) => message,
        Err(_) => String::from_utf8_lossy(&text).trim().to_owned(),
    }
}
