//! Debian sets to images of one layer, assembled by clawbuild itself.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use debian::assemble::Filter;
use debian::{Assembly, BaseOptions, Installed, assemble};
use diag::progress::{Task, TaskId};
use diag::{Diagnostic, Reported as _, codes};
use futures::{StreamExt as _, TryStreamExt as _};
use oci::layer::compress::{Compression, LayerBlob, LayerWriter};
use oci::{Digest, Document as _, ImageConfig, Manifest, RootFs};
use plan::DebianLayers;
use recipe::{DebianRequest, Lock, LockedDebian, LockedPackage};
use registry::download::DownloadError;
use registry::progress::Meter;
use registry::{Expect, Url};
use serde::{Deserialize, Serialize};
use store::{Bucket, Key, Store, StoreError};

use super::Session;
use crate::cli::Failure;

/// How many packages are fetched at a time.
const FETCHES: usize = 16;
/// Layers are compressed alike whatever the image asks for: they are shared between images.
const COMPRESSION: Compression = Compression::Gzip;

/// The record of an assembled layer: an image, and what sets on top of it need to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Assembled {
    manifest: Digest,
    config: Digest,
    layer: Digest,
    installed: Digest,
}

/// A set to have as a layer.
struct Wanted<'a> {
    request: &'a DebianRequest,
    set: &'a LockedDebian,
    key: Key,
}

/// The images of these sets' layers. A set comes after the one it lies on. What is not in the store is fetched, all
/// sets at once, and assembled, one after the other.
pub(crate) async fn debian_layers(
    session: &Session,
    lock: &Lock,
    requests: &[DebianRequest],
) -> Result<DebianLayers, Failure> {
    let mut wanted = Vec::new();
    for request in requests {
        let set = lock.debian(request)?;
        if !set.packages.is_empty() {
            wanted.push(Wanted { request, set, key: key(lock, request, set) });
        }
    }
    let store = session.store();
    let missing: Vec<&Wanted<'_>> = wanted.iter().filter(|set| known(store, &set.key).is_none()).collect();
    refuse_offline(session, &missing)?;
    let fetched = futures::future::try_join_all(missing.iter().map(|set| fetch(session, set))).await?;
    let mut fetched: BTreeMap<Key, (Packages, Task)> = missing.iter().map(|set| set.key).zip(fetched).collect();
    let mut layers = DebianLayers::new();
    for set in &wanted {
        let ready = match fetched.remove(&set.key) {
            Some((packages, task)) => {
                let below = below(lock, set, &wanted).and_then(|other| known(store, &other.key));
                Some(assemble_set(session, set, packages, below, task).await?)
            }
            None => None,
        };
        let assembled = match ready {
            Some(assembled) => assembled,
            None => known(store, &set.key).expect("what was not missing is known, and the lease keeps it"),
        };
        layers.insert((set.request.owner.clone(), set.request.platform), assembled.manifest);
    }
    Ok(layers)
}

/// Without network, everything that is missing is told at once.
fn refuse_offline(session: &Session, missing: &[&Wanted<'_>]) -> Result<(), Failure> {
    if !session.settings().offline || session.has_mirrors() {
        return Ok(());
    }
    let is_missing = |package: &&LockedPackage| {
        session.downloader().stored(&Expect::sha256(package.sha256).with_size(package.size)).is_none()
    };
    let packages = missing.iter().flat_map(|wanted| wanted.set.packages.iter()).filter(is_missing);
    let urls: Vec<String> = packages.map(|package| package.url.clone()).collect();
    if urls.is_empty() {
        return Ok(());
    }
    Err(Diagnostic::new(
        codes::lock::OFFLINE,
        format!("{} inputs are not in the store, and the network is off", urls.len()),
    )
    .related("missing", urls)
    .help("run the same command once without `--offline`")
    .into())
}

/// The nearest set below that has packages: those that added nothing have no layer.
fn below<'a, 'b>(lock: &Lock, set: &Wanted<'_>, wanted: &'b [Wanted<'a>]) -> Option<&'b Wanted<'a>> {
    let platform = set.request.platform;
    let mut next = set.request.below.as_deref();
    while let Some(owner) = next {
        let found = wanted.iter().find(|other| other.request.owner == owner && other.request.platform == platform);
        if found.is_some() {
            return found;
        }
        next = lock.debian_of(owner, platform)?.below.as_deref();
    }
    None
}

/// A layer that was assembled before and is still whole.
fn known(store: &Store, key: &Key) -> Option<Assembled> {
    let known: Assembled = store.record(Bucket::Bases, key)?;
    let blobs = [known.manifest, known.config, known.layer, known.installed];
    blobs.iter().all(|blob| store.blob_size(blob).is_some()).then_some(known)
}

/// Everything the layer's bytes depend on, the sets below included.
fn key(lock: &Lock, request: &DebianRequest, set: &LockedDebian) -> Key {
    let mut parts: Vec<Vec<u8>> = vec![
        b"debian layer".to_vec(),
        debian::assemble::IDENTITY.as_bytes().to_vec(),
        COMPRESSION.identity().as_bytes().to_vec(),
        set.epoch.to_le_bytes().to_vec(),
        vec![u8::from(request.slim)],
    ];
    let mut next = Some(set);
    while let Some(set) = next {
        parts.push(b"set".to_vec());
        parts.extend(set.packages.iter().map(|package| package.sha256.as_bytes().to_vec()));
        next = set.below.as_deref().and_then(|owner| lock.debian_of(owner, set.platform));
    }
    Key::of(parts.iter().map(Vec::as_slice))
}

type Packages = Vec<(debian::LockedPackage, PathBuf)>;

async fn fetch(session: &Session, wanted: &Wanted<'_>) -> Result<(Packages, Task), Failure> {
    let Wanted { request, set, key } = wanted;
    let name = format!("[{}] {} Debian packages for {}", request.owner, set.packages.len(), request.platform);
    let task = session.progress().task(TaskId::new(format!("debian {}", key.hex())), name);
    let fetches = set.packages.iter().map(|package| {
        let task = &task;
        async move {
            let meter = Meter::new(task, package.name.clone());
            let url = Url::parse(&package.url).map_err(|error| bad_url(package, &error))?;
            let expect = Expect::sha256(package.sha256).with_size(package.size);
            let fetched = session.downloader().fetch(&url, &expect, &meter).await;
            let fetched = fetched.map_err(|error| missing(request, package, &error))?;
            Ok::<_, Failure>((debian_package(package), session.store().blob_path(&fetched.digest)))
        }
    });
    let fetching = futures::stream::iter(fetches).buffered(FETCHES).try_collect::<Packages>();
    let packages = tokio::select! {
        packages = fetching => packages,
        () = session.cancel().cancelled() => Err(super::interrupted()),
    };
    match packages {
        Ok(packages) => Ok((packages, task)),
        Err(failure) => task.conclude(Err(failure)),
    }
}

async fn assemble_set(
    session: &Session,
    wanted: &Wanted<'_>,
    packages: Packages,
    below: Option<Assembled>,
    task: Task,
) -> Result<Assembled, Failure> {
    let work = Work {
        store: session.store().clone(),
        key: wanted.key,
        platform: wanted.set.platform,
        epoch: wanted.set.epoch,
        slim: wanted.request.slim,
        packages,
        below,
    };
    let place = (wanted.request.place.clone(), "for this set");
    let done = tokio::task::spawn_blocking(move || {
        let result = work.run(&task);
        task.conclude(result)
    });
    done.await.expect("assembling does not panic").map_err(|failure| {
        let ((source, span), text) = place;
        let label = |diagnostic: Diagnostic| diagnostic.label(&source, span, text);
        Failure::several(failure.into_diagnostics().into_iter().map(label).collect())
    })
}

/// What one assembly needs, free of the session, since it runs on a thread of its own.
struct Work {
    store: Store,
    key: Key,
    platform: oci::Platform,
    epoch: i64,
    slim: bool,
    packages: Packages,
    below: Option<Assembled>,
}

impl Work {
    fn run(&self, task: &Task) -> Result<Assembled, Failure> {
        let _single_flight = self.store.lock(&format!("debian-{}", self.key.hex()))?;
        if let Some(known) = known(&self.store, &self.key) {
            return Ok(known);
        }
        let (layer, installed) = self.layer(task)?;
        let config = ImageConfig {
            created: None,
            author: None,
            architecture: self.platform.architecture,
            os: self.platform.os,
            config: oci::ContainerConfig::default(),
            rootfs: RootFs::new(vec![layer.diff_id]),
            history: Vec::new(),
        };
        let manifest = Manifest::new(config.descriptor(), vec![layer.descriptor.clone()]);
        let installed = serde_json::to_vec(&installed).expect("records serialise");
        let assembled = Assembled {
            config: self.store.put_blob(&config.to_bytes())?.digest,
            manifest: self.store.put_blob(&manifest.to_bytes())?.digest,
            installed: self.store.put_blob(&installed)?.digest,
            layer: layer.descriptor.digest,
        };
        self.store.put_record(Bucket::Bases, &self.key, &assembled)?;
        Ok(assembled)
    }

    fn layer(&self, task: &Task) -> Result<(LayerBlob, Installed), Failure> {
        let below: Option<Installed> = match &self.below {
            Some(below) => Some(serde_json::from_slice(&self.store.read_blob(&below.installed)?).map_err(|error| {
                Diagnostic::new(codes::store::MISMATCH, "the record of the packages below cannot be read")
                    .caused_by(&error)
            })?),
            None => None,
        };
        let options = BaseOptions {
            filter: if self.slim { Filter::slim() } else { Filter::default() },
            ..BaseOptions::default()
        };
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let writer = LayerWriter::new(self.store.blob_writer()?, COMPRESSION, threads);
        let assembly = Assembly {
            architecture: self.platform.architecture.debian(),
            packages: &self.packages,
            below: below.as_ref(),
            options: &options,
            epoch: self.epoch,
            spool: self.store.temp(),
            threads,
            progress: Some(task),
        };
        let (installed, writer) = assemble(&assembly, writer)?;
        let written = |source: io::Error| StoreError::io("write a layer to", self.store.root())(source);
        let (layer, blob) = writer.finish().map_err(written)?;
        blob.commit(Some(&layer.descriptor.digest))?;
        Ok((layer, installed))
    }
}

/// A package that cannot be fetched. One the archive has replaced is told as such: the lock can be renewed.
fn missing(request: &DebianRequest, package: &LockedPackage, error: &DownloadError) -> Failure {
    if !error.is_not_found() {
        return error.diagnostic().label(&request.place.0, request.place.1, "needed for this set").into();
    }
    let message = format!("the archive no longer has {} {}, which the lock pins", package.name, package.version);
    let diagnostic = Diagnostic::new(codes::lock::SUPERSEDED, message)
        .label(&request.place.0, request.place.1, "pinned for this set")
        .cause(error.to_string())
        .help(format!("resolve the set anew: `clawbuild lock --update {}`", request.owner));
    Failure::superseded(&request.owner, diagnostic)
}

fn bad_url(package: &LockedPackage, error: &url::ParseError) -> Failure {
    Diagnostic::new(codes::lock::SYNTAX, format!("`{}` in the lock is not a URL", package.url)).caused_by(error).into()
}

/// A package of the lock as the assembler and the solver know it.
pub(crate) fn debian_package(package: &LockedPackage) -> debian::LockedPackage {
    debian::LockedPackage {
        name: package.name.clone(),
        version: package.version.clone(),
        architecture: package.architecture.clone(),
        suite: String::new(),
        filename: package.url.clone(),
        size: package.size,
        sha256: package.sha256,
        source: String::new(),
    }
}
