//! Requests to one repository: authorised, repeated where that helps, refusals understood.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use oci::{Digest, Repository, Tag};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use url::Url;

use super::challenge::{Challenge, challenge};
use super::endpoint::Direction;
use super::peer::Peer;
use super::token::Scope;
use super::{ImageError, ImageSettings};
use crate::http::{Http, HttpError, RedactedUrl, is_transient, status_error};
use crate::progress::Meter;
use store::StoreError;

/// What a request carries. It can be read again for another try.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Nothing,
    Bytes(Bytes),
    /// A part of a file: from an offset, so many bytes.
    File {
        path: PathBuf,
        offset: u64,
        length: u64,
    },
}

/// A request that can be made again.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) payload: Payload,
}

impl Call {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), payload: Payload::Nothing }
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn payload(self, payload: Payload) -> Self {
        Self { payload, ..self }
    }
}

/// The last part of a manifest's URL.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name<'a> {
    Tag(&'a Tag),
    Digest(&'a Digest),
}

/// Requests to one repository in one direction.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) http: Http,
    pub(super) settings: ImageSettings,
    pub(super) peer: Arc<Peer>,
    pub(super) repository: Repository,
    pub(super) direction: Direction,
    pub(super) scope: Scope,
}

/// A registry hashes what it was sent before it answers; a large layer takes its time.
const COMMIT_PATIENCE: u32 = 5;

impl Session {
    pub(super) fn manifest_url(&self, name: Name<'_>) -> Url {
        match name {
            Name::Tag(tag) => self.url(&format!("manifests/{tag}")),
            Name::Digest(digest) => self.url(&format!("manifests/{digest}")),
        }
    }

    pub(super) fn blob_url(&self, digest: &Digest) -> Url {
        self.url(&format!("blobs/{digest}"))
    }

    pub(super) fn url(&self, rest: &str) -> Url {
        self.peer.endpoint.url(&self.repository, rest)
    }

    /// Makes a request, again where that may help. The answer is a success, or a status in `accepted`.
    pub(super) async fn call(&self, call: &Call, accepted: &[StatusCode]) -> Result<Response, ImageError> {
        let mut backoff = self.http.backoff();
        loop {
            match self.call_once(call, accepted, &Sending::nothing(&Meter::silent())).await {
                Ok(response) => return Ok(response),
                Err(error) if backoff.wait(&error, &Meter::silent()).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes a request once, or twice when the registry wants other authorisation.
    pub(super) async fn call_once(
        &self,
        call: &Call,
        accepted: &[StatusCode],
        sending: &Sending<'_>,
    ) -> Result<Response, ImageError> {
        // What a registry sends elsewhere, to signed storage for instance, is no business of its credentials.
        let ours = self.peer.endpoint.owns(&call.url);
        let mut authorization = match ours {
            true => self.peer.authorization(&self.http, &self.scope).await?,
            false => None,
        };
        let mut renewed = false;
        loop {
            let response = self.send(call, authorization.as_ref(), sending).await?;
            let status = response.status();
            if status.is_success() || accepted.contains(&status) {
                return Ok(response);
            }
            let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            if refused && ours && !renewed {
                renewed = true;
                let wanted = challenge(response.headers());
                let new = self.peer.renewed(&self.http, &self.scope, authorization.as_ref(), wanted).await?;
                if new.is_some() {
                    authorization = new;
                    continue;
                }
            }
            return Err(self.refusal(&call.url, response).await);
        }
    }

    /// What an unsuccessful answer means.
    async fn refusal(&self, url: &Url, response: Response) -> ImageError {
        let insufficient = matches!(
            challenge(response.headers()),
            Some(Challenge::Bearer(bearer)) if bearer.insufficient
        );
        let error = status_error(url, response).await;
        let HttpError::Status { status, detail, .. } = &error else { return error.into() };
        let detail = detail.clone();
        match *status {
            // Docker Hub says so to those it knows when they may not push.
            StatusCode::UNAUTHORIZED if !(insufficient && self.peer.has_credentials().await) => {
                self.peer.unauthorized().await
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ImageError::Denied { repository: self.repository.clone(), direction: self.direction, detail }
            }
            status if is_transient(status) || self.direction == Direction::Pull => error.into(),
            StatusCode::NOT_FOUND => ImageError::NoRepository { repository: self.repository.clone(), detail },
            status => ImageError::Rejected {
                repository: self.repository.clone(),
                what: url.path_segments().and_then(|mut path| path.nth_back(1)).unwrap_or("a part").to_owned(),
                status,
                detail,
            },
        }
    }

    async fn send(
        &self,
        call: &Call,
        authorization: Option<&HeaderValue>,
        sending: &Sending<'_>,
    ) -> Result<Response, ImageError> {
        let trust = self.peer.endpoint.trust;
        let mut request = self.http.client(&call.url, trust)?.request(call.method.clone(), call.url.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        match &call.payload {
            Payload::Nothing if matches!(call.method, Method::POST | Method::PUT | Method::PATCH) => {
                request = request.header(CONTENT_LENGTH, 0);
            }
            Payload::Nothing => {}
            Payload::Bytes(bytes) => request = request.body(bytes.clone()),
            Payload::File { path, offset, length } => {
                let failed = |source| StoreError::io("read", path)(source);
                let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
                file.seek(std::io::SeekFrom::Start(*offset)).await.map_err(failed)?;
                let sent = Arc::new(AtomicU64::new(0));
                let counter = Arc::clone(&sent);
                let stream = tokio_util::io::ReaderStream::with_capacity(file.take(*length), 256 << 10);
                let stream = futures::StreamExt::inspect(stream, move |chunk| {
                    if let Ok(chunk) = chunk {
                        counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    }
                });
                let body = reqwest::Body::wrap_stream(stream);
                let request = request.header(CONTENT_LENGTH, *length).body(body);
                let upload = Upload { sent: &sent, length: *length, sending };
                return Ok(upload.watch(&self.http, &call.url, request).await?);
            }
        }
        Ok(self.http.send(&call.url, request).await?)
    }
}

/// What is told of a request's body while it is sent.
#[derive(Debug)]
pub(super) struct Sending<'a> {
    pub(super) meter: &'a Meter<'a>,
    /// Bytes of the whole that earlier requests have sent.
    pub(super) before: u64,
    /// The length of the whole.
    pub(super) total: u64,
}

impl<'a> Sending<'a> {
    /// A request without a body worth telling of.
    pub(super) fn nothing(meter: &'a Meter<'a>) -> Self {
        Self { meter, before: 0, total: 0 }
    }
}

/// Bytes on their way to a registry.
struct Upload<'a> {
    sent: &'a AtomicU64,
    length: u64,
    sending: &'a Sending<'a>,
}

impl Upload<'_> {
    /// Waits for the answer for as long as bytes move.
    async fn watch(&self, http: &Http, url: &Url, request: reqwest::RequestBuilder) -> Result<Response, HttpError> {
        let silence = http.settings().silence_timeout;
        let mut response = std::pin::pin!(request.send());
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            if let Ok(response) = tokio::time::timeout(Duration::from_millis(100), response.as_mut()).await {
                return response.map_err(|error| HttpError::from_transport(RedactedUrl::new(url), error));
            }
            let sent = self.sent.load(Ordering::Relaxed);
            self.sending.meter.moved(self.sending.before + sent, Some(self.sending.total));
            if sent != seen {
                (seen, since) = (sent, Instant::now());
            }
            let patience = if sent == self.length { silence * COMMIT_PATIENCE } else { silence };
            if since.elapsed() > patience {
                return Err(HttpError::Silent { url: RedactedUrl::new(url), after: patience });
            }
        }
    }
}

/// A header as text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The digest a registry says its answer has. Spec: OCI distribution-spec §Legacy Docker support HTTP headers.
pub(super) fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    header(headers, "docker-content-digest")?.parse().ok()
}
