//! Sending one blob. Spec: OCI distribution-spec §Pushing blobs.

use oci::{Descriptor, Digest, Repository};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode};
use store::{Store, StoreError};
use url::Url;

use super::ImageError;
use super::session::{Call, Payload, Sending, Session, content_digest, header};
use crate::progress::Meter;

/// A blob to send.
#[derive(Debug)]
pub(super) struct Blob<'a> {
    pub(super) store: &'a Store,
    pub(super) session: &'a Session,
    pub(super) descriptor: &'a Descriptor,
    /// Repositories of the same registry that may have it.
    pub(super) mount_from: &'a [&'a Repository],
}

/// How a blob came to be in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Uploaded,
    Skipped,
    Mounted,
}

/// An upload that was begun.
#[derive(Debug)]
struct Begun {
    location: Url,
    /// The smallest piece the registry takes, except for the last.
    least_chunk: u64,
}

/// How much goes in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pieces {
    /// The whole blob.
    One,
    /// So many bytes at a time.
    Of(u64),
}

/// What is tried with a registry that refuses a blob for its length, and the least that is.
const CHUNK: u64 = 16 << 20;
const LEAST_CHUNK: u64 = 1 << 20;

impl Blob<'_> {
    fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// Sees to it that the registry has the blob.
    pub(super) async fn send(&self, meter: &Meter<'_>) -> Result<Sent, ImageError> {
        let _place = self.session.http.transfer().await;
        let mut pieces = self.session.settings.chunk.map_or(Pieces::One, |chunk| Pieces::Of(chunk.get()));
        let mut backoff = self.session.http.backoff();
        loop {
            // Again after a failure: what was sent may have arrived after all.
            if self.is_there().await? {
                return Ok(Sent::Skipped);
            }
            let Some(begun) = self.begin().await? else { return Ok(Sent::Mounted) };
            let error = match self.transfer(begun, pieces, meter).await {
                Ok(()) => {
                    meter.moved(self.descriptor.size, Some(self.descriptor.size));
                    return Ok(Sent::Uploaded);
                }
                Err(error) => error,
            };
            if let (Some(smaller), true) = (pieces.smaller(self.descriptor.size), is_too_large(&error)) {
                pieces = smaller;
            } else if !backoff.wait(&error, meter).await {
                return Err(self.explain(error).await);
            }
        }
    }

    async fn is_there(&self) -> Result<bool, ImageError> {
        let call = Call::new(Method::HEAD, self.session.blob_url(self.digest()));
        Ok(self.session.call(&call, &[StatusCode::NOT_FOUND]).await?.status().is_success())
    }

    /// Sends the blob's bytes, once.
    async fn transfer(&self, begun: Begun, pieces: Pieces, meter: &Meter<'_>) -> Result<(), ImageError> {
        let size = self.descriptor.size;
        if self.store.blob_size(self.digest()) != Some(size) {
            return Err(StoreError::Missing(*self.digest()).into());
        }
        match pieces {
            Pieces::Of(chunk) if size > chunk.max(begun.least_chunk) => self.in_pieces(begun, chunk, meter).await,
            Pieces::One | Pieces::Of(_) => {
                let whole = Payload::File { path: self.store.blob_path(self.digest()), offset: 0, length: size };
                self.finish(begun.location, whole, &Sending { meter, before: 0, total: size }).await
            }
        }
    }

    /// Begins an upload; `None` when the registry took the blob from another repository instead.
    async fn begin(&self) -> Result<Option<Begun>, ImageError> {
        let url = self.session.url("blobs/uploads/");
        for other in self.mount_from {
            // Asked beforehand, since a mount that fails begins an upload. Not being allowed to look is no reason not
            // to send.
            let refusals = [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED];
            let there = self.session.peer.endpoint.url(other, &format!("blobs/{}", self.digest()));
            if !self.session.call(&Call::new(Method::HEAD, there), &refusals).await?.status().is_success() {
                continue;
            }
            let mut mount = url.clone();
            mount.query_pairs_mut().append_pair("mount", &self.digest().to_string()).append_pair("from", other.path());
            let response = self.session.call(&Call::new(Method::POST, mount.clone()), &[]).await?;
            return match response.status() {
                StatusCode::CREATED => Ok(None),
                _ => self.begun(&mount, &response).map(Some),
            };
        }
        let response = self.session.call(&Call::new(Method::POST, url.clone()), &[]).await?;
        self.begun(&url, &response).map(Some)
    }

    fn begun(&self, asked: &Url, response: &Response) -> Result<Begun, ImageError> {
        let least_chunk = header(response.headers(), "oci-chunk-min-length").and_then(|text| text.parse().ok());
        Ok(Begun { location: self.location(asked, response.headers())?, least_chunk: least_chunk.unwrap_or(0) })
    }

    /// Where the upload goes on.
    fn location(&self, asked: &Url, headers: &HeaderMap) -> Result<Url, ImageError> {
        let text = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let mut url = text.and_then(|text| asked.join(text).ok()).ok_or_else(|| ImageError::Protocol {
            registry: self.session.peer.endpoint.name.clone(),
            problem: "it begins an upload and does not say where",
        })?;
        // A registry behind a proxy that ends TLS may not know that it is spoken to over TLS.
        if asked.scheme() == "https" && url.scheme() == "http" && url.host_str() == asked.host_str() {
            let same_port = url.port() == asked.port();
            if url.set_scheme("https").is_ok() && !same_port {
                let _ = url.set_port(asked.port());
            }
        }
        Ok(url)
    }

    /// Ends an upload, sending `rest` with the request.
    async fn finish(&self, mut location: Url, rest: Payload, sending: &Sending<'_>) -> Result<(), ImageError> {
        location.query_pairs_mut().append_pair("digest", &self.digest().to_string());
        let call = octets(Call::new(Method::PUT, location)).payload(rest);
        let response = self.session.call_once(&call, &[], sending).await?;
        match content_digest(response.headers()) {
            Some(found) if found != *self.digest() => Err(ImageError::Digest {
                reference: Box::new(self.session.repository.with_digest(*self.digest())),
                expected: *self.digest(),
                found,
            }),
            _ => Ok(()),
        }
    }

    /// Sends piece after piece. When one is lost, the registry says how much it has.
    async fn in_pieces(&self, begun: Begun, chunk: u64, meter: &Meter<'_>) -> Result<(), ImageError> {
        let size = self.descriptor.size;
        let chunk = chunk.max(begun.least_chunk).max(1);
        let (mut location, mut offset) = (begun.location, 0);
        let mut backoff = self.session.http.backoff();
        while offset < size {
            let length = chunk.min(size - offset);
            let range = HeaderValue::from_str(&format!("{offset}-{}", offset + length - 1)).expect("digits");
            let path = self.store.blob_path(self.digest());
            let call = octets(Call::new(Method::PATCH, location.clone()))
                .header(CONTENT_RANGE, range)
                .payload(Payload::File { path, offset, length });
            match self.session.call_once(&call, &[], &Sending { meter, before: offset, total: size }).await {
                Ok(response) => {
                    location = self.location(&location, response.headers())?;
                    let next = received(response.headers()).unwrap_or(offset + length);
                    if next <= offset || next > size {
                        return Err(self.protocol("it loses what it was sent"));
                    }
                    offset = next;
                    backoff = self.session.http.backoff();
                }
                Err(error) if is_too_large(&error) => return Err(error),
                Err(error) => {
                    if !is_out_of_step(&error) && !backoff.wait(&error, meter).await {
                        return Err(error);
                    }
                    // The upload may be gone: then the first error stands, and the blob is begun anew.
                    let Ok((onward, there)) = self.standing(&location).await else { return Err(error) };
                    if is_out_of_step(&error) && there == offset {
                        return Err(error);
                    }
                    (location, offset) = (onward, there);
                }
            }
            meter.moved(offset, Some(size));
        }
        self.finish(location, Payload::Nothing, &Sending::nothing(meter)).await
    }

    /// How far an upload has come, and where it goes on. Spec: OCI distribution-spec §Pushing a blob in chunks.
    async fn standing(&self, location: &Url) -> Result<(Url, u64), ImageError> {
        let response = self.session.call(&Call::new(Method::GET, location.clone()), &[]).await?;
        let headers = response.headers();
        let onward = self.location(location, headers).unwrap_or_else(|_| location.clone());
        let there = received(headers).ok_or_else(|| self.protocol("it does not say how much of an upload it has"))?;
        Ok((onward, there))
    }

    fn protocol(&self, problem: &'static str) -> ImageError {
        ImageError::Protocol { registry: self.session.peer.endpoint.name.clone(), problem }
    }

    /// A registry that refuses a blob may be right: then the store is what is broken.
    async fn explain(&self, error: ImageError) -> ImageError {
        if !matches!(error, ImageError::Rejected { .. } | ImageError::Digest { .. }) {
            return error;
        }
        let (store, digest) = (self.store.clone(), *self.digest());
        match tokio::task::spawn_blocking(move || store.verify_blob(&digest)).await {
            Ok(Err(damaged)) => damaged.into(),
            Ok(Ok(_)) | Err(_) => error,
        }
    }
}

impl Pieces {
    /// What to try when these are too large for a blob of this size.
    fn smaller(self, size: u64) -> Option<Self> {
        let chunk = match self {
            Self::One => CHUNK.min(size / 2),
            Self::Of(chunk) => chunk / 2,
        };
        (chunk >= LEAST_CHUNK).then_some(Self::Of(chunk))
    }
}

fn octets(call: Call) -> Call {
    call.header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
}

/// How many bytes of an upload the registry has. `0-0` is what some say when they have none.
fn received(headers: &HeaderMap) -> Option<u64> {
    let text = header(headers, "range")?;
    let last: u64 = text.trim_start_matches("bytes=").split_once('-')?.1.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}

fn rejected_with(error: &ImageError, expected: StatusCode) -> bool {
    matches!(error, ImageError::Rejected { status, .. } if *status == expected)
}

fn is_too_large(error: &ImageError) -> bool {
    rejected_with(error, StatusCode::PAYLOAD_TOO_LARGE)
}

fn is_out_of_step(error: &ImageError) -> bool {
    rejected_with(error, StatusCode::RANGE_NOT_SATISFIABLE)
}
