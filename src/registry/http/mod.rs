//! The one transport: TLS, proxies, mirrors, retries, timeouts and the offline switch.

mod error;
mod mirrors;
mod redact;
pub(crate) mod retry;
mod tls;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, Response, redirect};
use tokio::sync::{Semaphore, SemaphorePermit};
use url::{Host, Url};

pub use error::HttpError;
pub(crate) use error::is_transient;
pub use mirrors::{MirrorError, Mirrors};
pub use redact::RedactedUrl;
pub use retry::RetryPolicy;
pub use tls::{TlsError, Trust};

use crate::progress::Meter;
use retry::{Backoff, retry_after};

/// How requests are made.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// URL prefixes fetched from elsewhere.
    pub mirrors: Mirrors,
    /// Whether every request over the network is an error. Mirrors that are files still work.
    pub offline: bool,
    /// How often failed requests are tried again.
    pub retry: RetryPolicy,
    /// Transfers at a time.
    pub transfers: usize,
    /// Time a connection may take to be made.
    pub connect_timeout: Duration,
    /// Time a server may be silent.
    pub silence_timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            mirrors: Mirrors::default(),
            offline: false,
            retry: RetryPolicy::default(),
            transfers: 12,
            connect_timeout: Duration::from_secs(15),
            silence_timeout: Duration::from_secs(60),
        }
    }
}

/// Makes requests. Cheap to make and to clone: certificates are read and connections made when first needed.
#[derive(Clone, Debug)]
pub struct Http(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: HttpSettings,
    transfers: Semaphore,
    clients: [OnceLock<Client>; 4],
}

const USER_AGENT: &str = concat!("clawbuild/", env!("CARGO_PKG_VERSION"));
/// Redirections followed in a row.
const REDIRECTIONS: usize = 10;
/// Bytes an HTTP/2 server may send ahead: enough for a gigabit at 50 ms.
const WINDOW: u32 = 8 << 20;
/// Bytes of an error's body that are looked at.
const DETAIL_LIMIT: usize = 16 << 10;

impl Http {
    /// A transport with these settings. Does no IO.
    #[must_use]
    pub fn new(settings: HttpSettings) -> Self {
        let transfers = Semaphore::new(settings.transfers.max(1));
        Self(Arc::new(Inner { settings, transfers, clients: Default::default() }))
    }

    /// The settings it was made with.
    #[must_use]
    pub fn settings(&self) -> &HttpSettings {
        &self.0.settings
    }

    /// Reads a small document, trying again as the retry policy says.
    ///
    /// # Errors
    /// Any [`HttpError`]; [`HttpError::TooLong`] past `limit` bytes.
    pub async fn get_bytes(&self, url: &Url, limit: u64) -> Result<Bytes, HttpError> {
        self.get_document(url, &[], limit).await
    }

    /// As [`Http::get_bytes`], with headers.
    pub(crate) async fn get_document(
        &self,
        url: &Url,
        headers: &[(HeaderName, HeaderValue)],
        limit: u64,
    ) -> Result<Bytes, HttpError> {
        let mut backoff = self.backoff();
        loop {
            let document = async { self.open(url, headers).await?.bytes(limit).await };
            match document.await {
                Ok(bytes) => return Ok(bytes),
                Err(error) if backoff.wait(&error, &Meter::silent()).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Begins a download, once: mirrors are applied, a status other than success is an error.
    pub(crate) async fn open(&self, url: &Url, headers: &[(HeaderName, HeaderValue)]) -> Result<Download, HttpError> {
        let target = self.0.settings.mirrors.rewrite(url);
        if target.scheme() == "file" {
            return Download::from_file(url, &target).await;
        }
        let request = self.client(&target, Trust::Verified)?.get(target.clone());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let response = self.send(&target, request).await?;
        let response = expect_success(&target, response).await?;
        Ok(self.download(&target, response))
    }

    /// Sends a request with no body or a small one, once, and takes any status for an answer.
    pub(crate) async fn send(&self, url: &Url, request: reqwest::RequestBuilder) -> Result<Response, HttpError> {
        let silence = self.0.settings.silence_timeout;
        match tokio::time::timeout(silence, request.send()).await {
            Ok(result) => result.map_err(|error| HttpError::from_transport(RedactedUrl::new(url), error)),
            Err(_) => Err(HttpError::Silent { url: RedactedUrl::new(url), after: silence }),
        }
    }

    /// The body of an answer.
    pub(crate) fn download(&self, url: &Url, response: Response) -> Download {
        let total = response.content_length();
        let silence = self.0.settings.silence_timeout;
        Download { url: RedactedUrl::new(url), total, received: 0, source: Source::Server(response, silence) }
    }

    /// The client for requests to `url`. This is where going offline is refused.
    pub(crate) fn client(&self, url: &Url, trust: Trust) -> Result<&Client, HttpError> {
        if !matches!(url.scheme(), "https" | "http") {
            return Err(HttpError::Scheme { url: RedactedUrl::new(url) });
        }
        if self.0.settings.offline {
            return Err(HttpError::Offline { url: RedactedUrl::new(url) });
        }
        let local = is_loopback(url);
        let slot = &self.0.clients[usize::from(local) + 2 * usize::from(trust == Trust::Anyone)];
        match slot.get() {
            Some(client) => Ok(client),
            None => {
                let client = self.make_client(local, trust)?;
                Ok(slot.get_or_init(|| client))
            }
        }
    }

    fn make_client(&self, local: bool, trust: Trust) -> Result<Client, TlsError> {
        let settings = &self.0.settings;
        let builder = Client::builder()
            .user_agent(USER_AGENT)
            .tls_backend_preconfigured(tls::client_config(trust)?)
            .connect_timeout(settings.connect_timeout)
            .http2_initial_stream_window_size(WINDOW)
            .http2_initial_connection_window_size(WINDOW)
            .redirect(redirect::Policy::custom(follow))
            .referer(false);
        // A proxy cannot reach this machine's loopback for us.
        let builder = if local { builder.no_proxy() } else { builder };
        builder.build().map_err(|_| TlsError::Config(rustls::Error::General("the HTTP client refuses it".to_owned())))
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.0.settings.retry)
    }

    /// Waits for a place among the transfers.
    pub(crate) async fn transfer(&self) -> SemaphorePermit<'_> {
        self.0.transfers.acquire().await.expect("the semaphore is never closed")
    }
}

/// Follows a few redirections, but never from TLS to plain HTTP.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let downgrade = attempt.url().scheme() == "http" && attempt.previous().iter().any(|url| url.scheme() == "https");
    if downgrade {
        attempt.error("the redirection leads from https to http")
    } else if attempt.previous().len() > REDIRECTIONS {
        attempt.error("too many redirections")
    } else {
        attempt.follow()
    }
}

/// Whether the URL's host is this very machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Turns an answer that is no success into an error, with the server's own words.
pub(crate) async fn expect_success(url: &Url, response: Response) -> Result<Response, HttpError> {
    if response.status().is_success() { Ok(response) } else { Err(status_error(url, response).await) }
}

/// The error an unsuccessful answer is.
pub(crate) async fn status_error(url: &Url, mut response: Response) -> HttpError {
    let (status, retry_after) = (response.status(), retry_after(response.headers()));
    let mut body = Vec::new();
    // The status is what counts: a body that breaks off only shortens the words.
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk[..chunk.len().min(DETAIL_LIMIT - body.len())]);
        if body.len() == DETAIL_LIMIT {
            break;
        }
    }
    HttpError::Status { url: RedactedUrl::new(url), status, detail: error::detail(&body), retry_after }
}

/// A body on its way, from a server or from a file that stands in for one.
#[derive(Debug)]
pub(crate) struct Download {
    url: RedactedUrl,
    /// The whole length, where it is known.
    pub(crate) total: Option<u64>,
    received: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// The answer, and how long it may be silent.
    Server(Response, Duration),
    File(tokio_util::io::ReaderStream<tokio::fs::File>, std::path::PathBuf),
}

impl Download {
    async fn from_file(wanted: &Url, file: &Url) -> Result<Self, HttpError> {
        let url = RedactedUrl::new(wanted);
        // A query or fragment means nothing to a file.
        let path = file.to_file_path().map_err(|()| HttpError::Scheme { url: url.clone() })?;
        let failed = |source| HttpError::File { url: url.clone(), path: path.clone(), source };
        let file = tokio::fs::File::open(&path).await.map_err(failed)?;
        let meta = file.metadata().await.map_err(failed)?;
        if meta.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        let stream = tokio_util::io::ReaderStream::with_capacity(file, 256 << 10);
        Ok(Self { url, total: Some(meta.len()), received: 0, source: Source::File(stream, path) })
    }

    /// What may be shown of where it comes from.
    pub(crate) fn url(&self) -> &RedactedUrl {
        &self.url
    }

    /// The next bytes; `None` at the end. A body that ends early is an error.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let chunk = match &mut self.source {
            Source::Server(response, silence) => match tokio::time::timeout(*silence, response.chunk()).await {
                Ok(chunk) => chunk.map_err(|error| HttpError::Truncated {
                    url: self.url.clone(),
                    received: self.received,
                    source: error.without_url(),
                })?,
                Err(_) => return Err(HttpError::Silent { url: self.url.clone(), after: *silence }),
            },
            Source::File(stream, path) => futures::TryStreamExt::try_next(stream)
                .await
                .map_err(|source| HttpError::File { url: self.url.clone(), path: path.clone(), source })?,
        };
        self.received += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Ok(chunk)
    }

    /// The whole body, if it is no longer than `limit`.
    pub(crate) async fn bytes(mut self, limit: u64) -> Result<Bytes, HttpError> {
        let too_long = |url: &RedactedUrl| HttpError::TooLong { url: url.clone(), limit };
        if self.total.is_some_and(|total| total > limit) {
            return Err(too_long(&self.url));
        }
        let mut body = bytes::BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if self.received > limit {
                return Err(too_long(&self.url));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}
