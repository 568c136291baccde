//! Fetching images.

use diag::progress::Task;
use oci::{Descriptor, Digest, Manifest, Platform, Reference};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};

use super::document::{ACCEPTED, DOCUMENT_LIMIT, Document, media_type_of};
use super::endpoint::Direction;
use super::session::{Call, Name, Sending, Session, content_digest, header};
use super::{ImageError, Images};
use crate::download::{DownloadError, Fetched, receive};
use crate::http::{HttpError, RedactedUrl};
use crate::integrity::Expect;
use crate::progress::Meter;

/// An image whose every blob is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// What the reference names: an index, or the manifest itself.
    pub root: Descriptor,
    /// The manifest for the platform.
    pub manifest: Descriptor,
    /// The manifest's content. Config and layers lie in the store too.
    pub content: Manifest,
}

impl Images {
    /// What a reference names at this moment. Only asks; nothing is fetched into the store.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn resolve(&self, reference: &Reference) -> Result<Descriptor, ImageError> {
        let session = self.session(&reference.repository, Direction::Pull, []).await?;
        resolve(&session, reference).await
    }

    /// Brings a manifest or index into the store, and nothing of what it lists.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn fetch_manifest(&self, reference: &Reference) -> Result<Descriptor, ImageError> {
        self.document(reference).await.map(|(descriptor, _)| descriptor)
    }

    /// Brings an image for one platform into the store: index if there is one, manifest, config and layers. What is
    /// there already is not fetched; when all of it is and the reference has a digest, no network is touched.
    ///
    /// # Errors
    /// [`ImageError`]. Blobs that came whole before the failure stay.
    pub async fn pull(&self, reference: &Reference, platform: Platform, task: &Task) -> Result<Pulled, ImageError> {
        let (root, bytes) = self.document(reference).await?;
        let (manifest, content) = match Document::parse(&bytes, &root.media_type, reference)? {
            Document::Manifest(content) => (root.clone(), content),
            Document::Index(index) => {
                let selected = index.select(platform, reference)?;
                let inner = reference.repository.with_digest(selected.digest);
                let (_, bytes) = self.document(&inner).await?;
                match Document::parse(&bytes, &selected.media_type, &inner)? {
                    Document::Manifest(content) => (selected, content),
                    Document::Index(_) => {
                        let media_type = selected.media_type;
                        return Err(ImageError::MediaType { reference: Box::new(inner), media_type });
                    }
                }
            }
        };
        let blobs = content.layers.iter().chain([&content.config]);
        futures::future::try_join_all(blobs.map(|blob| self.blob(reference, blob, task))).await?;
        Ok(Pulled { root, manifest, content: *content })
    }

    /// A manifest or index, from the store if it is there and known by digest.
    async fn document(&self, reference: &Reference) -> Result<(Descriptor, Vec<u8>), ImageError> {
        let store = self.0.downloader.store();
        if let Some(digest) = reference.digest
            && let Ok(bytes) = store.read_blob(&digest)
            && let Some(media_type) = media_type_of(&bytes)
        {
            return Ok((Descriptor::of(media_type, &bytes), bytes));
        }
        let session = self.session(&reference.repository, Direction::Pull, []).await?;
        let (descriptor, bytes) = fetch_document(&session, reference).await?;
        store.put_blob(&bytes)?;
        Ok((descriptor, bytes))
    }

    /// Brings a blob into the store.
    async fn blob(&self, reference: &Reference, blob: &Descriptor, task: &Task) -> Result<(), ImageError> {
        let expect = Expect::sha256(blob.digest).with_size(blob.size);
        let downloader = &self.0.downloader;
        if downloader.stored(&expect).is_some() {
            return Ok(());
        }
        let meter = Meter::new(task, short(&blob.digest));
        let fetch = async {
            let session = self.session(&reference.repository, Direction::Pull, []).await?;
            let _place = session.http.transfer().await;
            let mut backoff = session.http.backoff();
            loop {
                match self.try_blob(&session, reference, &expect, &meter).await {
                    Ok(fetched) => return Ok(fetched),
                    Err(error) if backoff.wait(&error, &meter).await => {}
                    Err(error) => return Err(error),
                }
            }
        };
        downloader.once(&expect, fetch).await.map(|_: Fetched| ())
    }

    async fn try_blob(
        &self,
        session: &Session,
        reference: &Reference,
        expect: &Expect,
        meter: &Meter<'_>,
    ) -> Result<Fetched, ImageError> {
        let digest = expect.sha256.expect("blobs are known by their digests");
        let url = session.blob_url(&digest);
        let response = session
            .call_once(&Call::new(Method::GET, url.clone()), &[], &Sending::nothing(meter))
            .await
            .map_err(|error| not_found(error, &reference.repository.with_digest(digest)))?;
        let download = session.http.download(&url, response);
        Ok(receive(self.0.downloader.store(), download, expect, meter).await?)
    }
}

/// How a blob is called where there is little room.
pub(super) fn short(digest: &Digest) -> String {
    digest.to_string()[..19].to_owned()
}

fn name(reference: &Reference) -> Result<Name<'_>, ImageError> {
    match (&reference.digest, &reference.tag) {
        (Some(digest), _) => Ok(Name::Digest(digest)),
        (None, Some(tag)) => Ok(Name::Tag(tag)),
        (None, None) => Err(ImageError::Untagged(Box::new(reference.clone()))),
    }
}

fn not_found(error: ImageError, reference: &Reference) -> ImageError {
    match error {
        ImageError::Http(HttpError::Status { status: StatusCode::NOT_FOUND, .. }) => {
            ImageError::NotFound(Box::new(reference.clone()))
        }
        error => error,
    }
}

/// Asks what a reference names, without its content where the registry allows that.
pub(super) async fn resolve(session: &Session, reference: &Reference) -> Result<Descriptor, ImageError> {
    let url = session.manifest_url(name(reference)?);
    let call = Call::new(Method::HEAD, url).header(ACCEPT, HeaderValue::from_static(ACCEPTED));
    // Some registries do not know HEAD here, or leave out what the answer should say.
    let response = session.call(&call, &[StatusCode::METHOD_NOT_ALLOWED]).await;
    let response = response.map_err(|error| not_found(error, reference))?;
    let headers = response.headers();
    let size = header(headers, "content-length").and_then(|length| length.parse::<u64>().ok()).filter(|size| *size > 0);
    match (content_digest(headers), media_type_header(headers), size) {
        (Some(digest), Some(media_type), Some(size)) if response.status().is_success() => {
            expect_digest(reference, digest)?;
            Ok(Descriptor::new(media_type, digest, size))
        }
        _ => Ok(fetch_document(session, reference).await?.0),
    }
}

/// Fetches a manifest or index and checks it.
async fn fetch_document(session: &Session, reference: &Reference) -> Result<(Descriptor, Vec<u8>), ImageError> {
    let url = session.manifest_url(name(reference)?);
    let call = Call::new(Method::GET, url.clone()).header(ACCEPT, HeaderValue::from_static(ACCEPTED));
    let mut backoff = session.http.backoff();
    loop {
        let attempt = async {
            let response = session.call_once(&call, &[], &Sending::nothing(&Meter::silent())).await?;
            let (media_type, said) = (media_type_header(response.headers()), content_digest(response.headers()));
            let bytes = session.http.download(&url, response).bytes(DOCUMENT_LIMIT).await?;
            let found = Digest::of(&bytes);
            // Cut or changed on the way: look again.
            if let Some(expected) = said.or(reference.digest).filter(|expected| *expected != found) {
                return Err(DownloadError::Sha256 { url: RedactedUrl::new(&url), expected, found }.into());
            }
            expect_digest(reference, found)?;
            let media_type = media_type_of(&bytes).or(media_type).unwrap_or_default();
            Ok((Descriptor::of(media_type, &bytes), bytes.to_vec()))
        };
        match attempt.await {
            Ok(document) => return Ok(document),
            Err(error) if backoff.wait(&error, &Meter::silent()).await => {}
            Err(error) => return Err(not_found(error, reference)),
        }
    }
}

fn expect_digest(reference: &Reference, found: Digest) -> Result<(), ImageError> {
    match reference.digest {
        Some(expected) if expected != found => {
            Err(ImageError::Digest { reference: Box::new(reference.clone()), expected, found })
        }
        _ => Ok(()),
    }
}

fn media_type_header(headers: &reqwest::header::HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or(text).trim().to_owned())
}
