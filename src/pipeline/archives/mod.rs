//! Sets of archives to images of one layer, written by clawbuild itself.
//!
//! The layer's bytes follow from the archives' alone: every file belongs to root, is 0644 or 0755, and has one time.

mod write;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;

use diag::progress::{Task, TaskId};
use diag::{Diagnostic, Reported as _, codes};
use futures::{StreamExt as _, TryStreamExt as _};
use oci::layer::compress::{Compression, LayerBlob, LayerWriter};
use oci::{Digest, Document as _, ImageConfig, Manifest, Platform, RootFs};
use plan::{Archive, ArchiveLayers, ArchiveSet};
use registry::progress::Meter;
use registry::{Expect, Url};
use serde::{Deserialize, Serialize};
use store::{Bucket, Key, Store, StoreError};

use super::Session;
use crate::cli::Failure;

/// How many archives are fetched at a time.
const FETCHES: usize = 16;
/// Layers are compressed alike whatever the image asks for: they are shared between images.
pub(super) const COMPRESSION: Compression = Compression::Gzip;

/// The record of a layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unpacked {
    pub(super) manifest: Digest,
    config: Digest,
    layer: Digest,
}

/// The images of these sets' layers, for any platform. What is not in the store is fetched and unpacked.
///
/// # Errors
/// Whatever stands in the way; what was fetched stays in the store.
pub(crate) async fn archive_layers(session: &Session, sets: &[ArchiveSet]) -> Result<ArchiveLayers, Failure> {
    let mut layers = ArchiveLayers::new();
    for set in sets {
        let inputs = set.digest();
        if layers.contains_key(&inputs) {
            continue;
        }
        let key = key(set);
        let unpacked = match known(session.store(), &key) {
            Some(unpacked) => unpacked,
            None => {
                let name = format!("[{}] {} archives", set.name, set.archives.len());
                let task = session.progress().task(TaskId::new(format!("archives {}", key.hex())), name);
                match fetch(session, set, &task).await {
                    Ok(()) => unpack(session, set, key, task).await?,
                    Err(failure) => return task.conclude(Err(failure)),
                }
            }
        };
        layers.insert(inputs, unpacked.manifest);
    }
    Ok(layers)
}

fn key(set: &ArchiveSet) -> Key {
    let identity = COMPRESSION.identity();
    Key::of([&b"archives"[..], write::IDENTITY.as_bytes(), identity.as_bytes(), set.digest().as_bytes()])
}

/// What is in the store by this key, whole.
pub(super) fn known(store: &Store, key: &Key) -> Option<Unpacked> {
    let known: Unpacked = store.record(Bucket::Bases, key)?;
    let blobs = [known.manifest, known.config, known.layer];
    blobs.iter().all(|blob| store.blob_size(blob).is_some()).then_some(known)
}

fn expect(archive: &Archive) -> Expect {
    Expect { size: archive.size, ..Expect::sha256(archive.download.checksum) }
}

async fn fetch(session: &Session, set: &ArchiveSet, task: &Task) -> Result<(), Failure> {
    let missing: Vec<&Archive> =
        set.archives.iter().filter(|archive| session.downloader().stored(&expect(archive)).is_none()).collect();
    if session.settings().offline && !session.has_mirrors() && !missing.is_empty() {
        let message = format!("{} inputs are not in the store, and the network is off", missing.len());
        return Err(Diagnostic::new(codes::lock::OFFLINE, message)
            .related("missing", missing.iter().map(|archive| archive.download.url.clone()).collect())
            .help("run the same command once without `--offline`")
            .into());
    }
    let fetches = missing.into_iter().map(|archive| async move {
        let meter = Meter::new(task, archive.download.filename.clone());
        let url = Url::parse(&archive.download.url).map_err(|error| {
            let message = format!("`{}` in the lock is not a URL", archive.download.url);
            Failure::from(Diagnostic::new(codes::lock::SYNTAX, message).caused_by(&error))
        })?;
        let fetched = session.downloader().fetch(&url, &expect(archive), &meter).await;
        fetched.map(drop).map_err(|error| Failure::from(error.diagnostic()))
    });
    let fetching = futures::stream::iter(fetches).buffer_unordered(FETCHES).try_collect::<Vec<()>>();
    tokio::select! {
        fetched = fetching => fetched.map(drop),
        () = session.cancel().cancelled() => Err(super::interrupted()),
    }
}

async fn unpack(session: &Session, set: &ArchiveSet, key: Key, task: Task) -> Result<Unpacked, Failure> {
    let (store, set) = (session.store().clone(), set.clone());
    let done = tokio::task::spawn_blocking(move || {
        let result = write_image(&store, &set, &key);
        task.conclude(result)
    });
    done.await.expect("unpacking does not panic")
}

fn write_image(store: &Store, set: &ArchiveSet, key: &Key) -> Result<Unpacked, Failure> {
    let _single_flight = store.lock(&format!("archives-{}", key.hex()))?;
    if let Some(known) = known(store, key) {
        return Ok(known);
    }
    let layer = write_layer(store, set)?;
    put_image(store, key, &layer)
}

/// An image of one layer and no config, recorded under `key`.
pub(super) fn put_image(store: &Store, key: &Key, layer: &LayerBlob) -> Result<Unpacked, Failure> {
    let platform = Platform::LINUX_AMD64;
    let config = ImageConfig {
        created: None,
        author: None,
        architecture: platform.architecture,
        os: platform.os,
        config: oci::ContainerConfig::default(),
        rootfs: RootFs::new(vec![layer.diff_id]),
        history: Vec::new(),
    };
    let manifest = Manifest::new(config.descriptor(), vec![layer.descriptor.clone()]);
    let unpacked = Unpacked {
        config: store.put_blob(&config.to_bytes())?.digest,
        manifest: store.put_blob(&manifest.to_bytes())?.digest,
        layer: layer.descriptor.digest,
    };
    store.put_record(Bucket::Bases, key, &unpacked)?;
    Ok(unpacked)
}

fn write_layer(store: &Store, set: &ArchiveSet) -> Result<LayerBlob, Failure> {
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let writer = LayerWriter::new(store.blob_writer()?, COMPRESSION, threads);
    let blobs: BTreeMap<Digest, std::path::PathBuf> =
        set.archives.iter().map(|archive| archive.download.checksum).map(|sum| (sum, store.blob_path(&sum))).collect();
    let writer = write::write(set, &|sum| std::fs::File::open(&blobs[sum]), writer)?;
    let written = |source: io::Error| StoreError::io("write a layer to", store.root())(source);
    let (layer, blob) = writer.finish().map_err(written)?;
    blob.commit(Some(&layer.descriptor.digest))?;
    Ok(layer)
}
