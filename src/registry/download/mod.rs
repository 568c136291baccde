//! Checksummed downloads into the store.

mod error;
mod flight;
mod sink;

use std::time::Duration;

use oci::Digest;
use serde::{Deserialize, Serialize};
use store::{BlobWriter, Bucket, Key, Lock, Store, StoreError};
use url::Url;

pub use error::DownloadError;

use crate::http::{Download, Http, RedactedUrl};
use crate::integrity::{Expect, Sha512};
use crate::progress::Meter;
use flight::Flights;
use sink::Sink;

/// Content that lies in the store, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its digest, by which the store has it.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Brings content into the store. Cheap to clone; clones share their flights.
#[derive(Clone, Debug)]
pub struct Downloader {
    http: Http,
    store: Store,
    flights: Flights,
}

/// The record of a download: which blob some expected content is.
#[derive(Debug, Serialize, Deserialize)]
struct Downloaded {
    blob: Digest,
    size: u64,
}

impl Downloader {
    /// Downloads over `http` into `store`.
    #[must_use]
    pub fn new(http: Http, store: Store) -> Self {
        Self { http, store, flights: Flights::default() }
    }

    /// The transport.
    #[must_use]
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The content if the store has it already. Touches no network.
    #[must_use]
    pub fn stored(&self, expect: &Expect) -> Option<Fetched> {
        let (digest, size) = match (expect.sha256, expect.sha512) {
            (Some(digest), _) => (digest, self.store.blob_size(&digest)?),
            (None, Some(sha512)) => {
                let record: Downloaded = self.store.record(Bucket::Downloads, &sha512_key(&sha512))?;
                // The blob may have been pruned, or cut short by a crash, after the record was written.
                let whole = self.store.blob_size(&record.blob)? == record.size;
                whole.then_some((record.blob, record.size))?
            }
            (None, None) => return None,
        };
        expect.size.is_none_or(|expected| expected == size).then_some(Fetched { digest, size })
    }

    /// Brings the content of `url` into the store, unless it is there. Several who want the same content, in this
    /// process or others, fetch it once.
    ///
    /// # Errors
    /// [`DownloadError`]; nothing of a failed download is kept.
    pub async fn fetch(&self, url: &Url, expect: &Expect, meter: &Meter<'_>) -> Result<Fetched, DownloadError> {
        if let Some(fetched) = self.stored(expect) {
            return Ok(fetched);
        }
        self.once(expect, self.transfer(url, expect, meter)).await
    }

    /// Runs `fetch` unless the content is there, or somebody else fetches it meanwhile.
    pub(crate) async fn once<E: From<StoreError>>(
        &self,
        expect: &Expect,
        fetch: impl Future<Output = Result<Fetched, E>>,
    ) -> Result<Fetched, E> {
        let Some(name) = flight_name(expect) else { return fetch.await };
        let flight = self.flights.join(&name);
        let _in_process = flight.lock().await;
        let _between_processes = self.wait_for_lock(&name).await?;
        match self.stored(expect) {
            Some(fetched) => Ok(fetched),
            None => fetch.await,
        }
    }

    /// Fetches, trying again as the policy says.
    async fn transfer(&self, url: &Url, expect: &Expect, meter: &Meter<'_>) -> Result<Fetched, DownloadError> {
        let _place = self.http.transfer().await;
        let mut backoff = self.http.backoff();
        loop {
            match self.attempt(url, expect, meter).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) if backoff.wait(&error, meter).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(&self, url: &Url, expect: &Expect, meter: &Meter<'_>) -> Result<Fetched, DownloadError> {
        let download = self.http.open(url, &[]).await?;
        let fetched = receive(&self.store, download, expect, meter).await?;
        // By its SHA-256 the blob is found without a record; that one only says that it is a download.
        let key = expect.sha512.map_or_else(|| Key::from(fetched.digest), |sha512| sha512_key(&sha512));
        let record = Downloaded { blob: fetched.digest, size: fetched.size };
        self.store.put_record_unsynced(Bucket::Downloads, &key, &record)?;
        Ok(fetched)
    }

    /// Waits for a lock without holding a thread, so that an interrupted run ends at once.
    async fn wait_for_lock(&self, name: &str) -> Result<Lock, StoreError> {
        let mut pause = Duration::from_millis(5);
        loop {
            if let Some(lock) = self.store.try_lock(name)? {
                return Ok(lock);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}

/// Takes a body into the store, checking what is known of it.
pub(crate) async fn receive(
    store: &Store,
    mut download: Download,
    expect: &Expect,
    meter: &Meter<'_>,
) -> Result<Fetched, DownloadError> {
    let url = download.url().clone();
    let wrong_size = |found| match expect.size {
        Some(expected) if expected != found => Err(DownloadError::Size { url: url.clone(), expected, found }),
        _ => Ok(()),
    };
    if let Some(total) = download.total {
        wrong_size(total)?;
    }
    let total = expect.size.or(download.total);
    let sink = Sink::open(store, expect.sha512.is_some())?;
    let mut done = 0;
    meter.moved(done, total);
    while let Some(chunk) = download.chunk().await? {
        done += chunk.len() as u64;
        if expect.size.is_some_and(|expected| done > expected) {
            wrong_size(done)?;
        }
        if !sink.write(chunk).await {
            break;
        }
        meter.moved(done, total);
    }
    let written = sink.finish(Checks { url: url.clone(), expect: *expect }).await?;
    meter.moved(written.size, Some(written.size));
    Ok(written)
}

/// What is checked before content gets its name.
#[derive(Debug)]
struct Checks {
    url: RedactedUrl,
    expect: Expect,
}

impl Checks {
    /// Gives the blob its name if it is what was expected.
    fn commit(&self, blob: BlobWriter, size: u64, sha512: Option<Sha512>) -> Result<Fetched, DownloadError> {
        let url = || self.url.clone();
        if let Some(expected) = self.expect.size.filter(|expected| *expected != size) {
            return Err(DownloadError::Size { url: url(), expected, found: size });
        }
        if let (Some(expected), Some(found)) = (self.expect.sha512, sha512)
            && expected != found
        {
            let (expected, found) = (Box::new(expected), Box::new(found));
            return Err(DownloadError::Sha512 { url: url(), expected, found });
        }
        match blob.commit(self.expect.sha256.as_ref()) {
            Ok(committed) => Ok(Fetched { digest: committed.digest, size: committed.size }),
            Err(StoreError::Mismatch { expected, found }) => Err(DownloadError::Sha256 { url: url(), expected, found }),
            Err(error) => Err(error.into()),
        }
    }
}

fn sha512_key(sha512: &Sha512) -> Key {
    Key::of([b"sha512".as_slice(), sha512.as_bytes()])
}

/// The name of the lock under which this content is fetched; content nothing is known of is nobody else's.
fn flight_name(expect: &Expect) -> Option<String> {
    match (expect.sha256, expect.sha512) {
        (Some(digest), _) => Some(format!("fetch-{}", digest.hex())),
        (None, Some(sha512)) => Some(format!("fetch-{}", sha512_key(&sha512).hex())),
        (None, None) => None,
    }
}
