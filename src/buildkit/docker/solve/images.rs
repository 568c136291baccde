//! Images over Docker's Engine API: loading trees, saving results.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use bollard::Docker;
use bollard::query_parameters::{ImportImageOptions, RemoveImageOptions};
use futures::{StreamExt as _, TryStreamExt as _};
use oci::layer::compress::{Compression, Decompressor};
use oci::layer::tar::{Entry, TarError, TarWriter};
use oci::{Descriptor, DiffId, Digest, Document as _, ImageConfig, Platform, RootFs, media_type};
use store::Store;
use tokio::sync::{Mutex, OnceCell};
use tokio_util::io::{ReaderStream, SyncIoBridge};

use super::spool::{Slice, Spool, SpoolError};
use crate::docker::{DockerError, Endpoint};
use crate::solve::blocking;

/// The repository of trees that were loaded for builds to stand on.
const REPOSITORY: &str = "clawbuild.local/tree";
/// Bytes under way between the writer of an archive and Docker.
const WINDOW: usize = 1 << 20;

/// One layer, as Docker knows it.
#[derive(Clone, Debug)]
pub(super) struct ImageLayer {
    pub(super) diff_id: DiffId,
    pub(super) content: Content,
}

/// Where a layer's archive is.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// In the store.
    Blob(Descriptor),
    /// In an image Docker made, at this position.
    Made(Arc<Made>, usize),
    /// Here.
    Bytes(Arc<Vec<u8>>),
}

/// An image that Docker made in the course of a solve.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) id: String,
    pub(super) diff_ids: Vec<DiffId>,
    saved: OnceCell<Arc<Spool>>,
}

/// The images of one daemon.
#[derive(Debug)]
pub(super) struct DockerImages {
    pub(super) endpoint: Endpoint,
    client: Docker,
    store: Store,
    made: Mutex<HashMap<String, Arc<Made>>>,
}

impl DockerImages {
    pub(super) fn new(endpoint: Endpoint, store: Store) -> Self {
        Self { client: endpoint.client(), endpoint, store, made: Mutex::default() }
    }

    /// The image with these layers, by a reference that BuildKit resolves there. It is loaded unless it is there, which
    /// is told too.
    pub(super) async fn tree(&self, layers: &[ImageLayer], platform: Platform) -> Result<(String, bool), DockerError> {
        let config = ImageConfig {
            created: None,
            author: None,
            architecture: platform.architecture,
            os: platform.os,
            config: oci::ContainerConfig::default(),
            rootfs: RootFs::new(layers.iter().map(|layer| layer.diff_id).collect()),
            history: Vec::new(),
        };
        let bytes = config.to_bytes();
        let id = Digest::of(&bytes);
        let reference = format!("{REPOSITORY}:{}", id.hex());
        let expected: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id).collect();
        if self.find(&reference).await?.as_ref() == Some(&expected) {
            return Ok((reference, true));
        }
        self.load(&reference, bytes, layers).await?;
        match self.find(&reference).await? {
            Some(found) if found == expected => Ok((reference, false)),
            found => Err(DockerError::Unexpected {
                endpoint: self.endpoint.to_string(),
                found: found.map_or_else(|| "no image".to_owned(), |layers| format!("an image of {layers:?}")),
                expected: format!("one of {expected:?}"),
            }),
        }
    }

    /// The layers of an image, if it is there. Its id depends on where the daemon keeps its images.
    async fn find(&self, reference: &str) -> Result<Option<Vec<DiffId>>, DockerError> {
        match self.client.inspect_image(reference).await {
            Ok(image) => self.diff_ids(image.root_fs).map(Some),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(self.fail("look for an image", error)),
        }
    }

    fn diff_ids(&self, root: Option<bollard::models::ImageInspectRootFs>) -> Result<Vec<DiffId>, DockerError> {
        let layers = root.and_then(|root| root.layers).unwrap_or_default();
        let diff_ids = layers.iter().map(|layer| layer.parse().map(DiffId)).collect::<Result<_, _>>();
        diff_ids.map_err(|_| DockerError::Unexpected {
            endpoint: self.endpoint.to_string(),
            found: layers.join(", "),
            expected: "SHA-256 diff IDs".to_owned(),
        })
    }

    async fn load(&self, reference: &str, config: Vec<u8>, layers: &[ImageLayer]) -> Result<(), DockerError> {
        let mut sources = Vec::with_capacity(layers.len());
        for layer in layers {
            sources.push(match &layer.content {
                Content::Blob(descriptor) => Source::Blob(descriptor.clone()),
                Content::Bytes(bytes) => Source::Bytes(Arc::clone(bytes)),
                Content::Made(made, position) => Source::Slice(self.layer(made, *position).await?),
            });
        }
        let (writer, reader) = tokio::io::duplex(WINDOW);
        let (store, reference) = (self.store.clone(), reference.to_owned());
        let writing = tokio::task::spawn_blocking(move || {
            write_archive(&store, &reference, &config, &sources, SyncIoBridge::new(writer))
        });
        let body = ReaderStream::with_capacity(reader, WINDOW);
        let options = ImportImageOptions { quiet: true, ..Default::default() };
        let loading = self.client.import_image_stream(options, body, None);
        let loaded: Result<Vec<_>, _> = loading.try_collect().await;
        let written = match writing.await {
            Ok(written) => written,
            Err(error) => Err(TarError::Write(io::Error::other(error))),
        };
        let fail = |error| self.fail("load an image", error);
        // Where Docker hangs up, writing fails too; its own word is the better one.
        let messages = loaded.map_err(fail)?;
        if let Some(error) = messages.into_iter().find_map(|message| message.error_detail) {
            return Err(fail(bollard::errors::Error::DockerResponseServerError {
                status_code: 500,
                message: error.message.unwrap_or_default(),
            }));
        }
        written.map_err(|error| fail(bollard::errors::Error::IOError { err: io::Error::other(error) }))
    }

    /// The image of this id, with the diff IDs of its layers.
    pub(super) async fn made(&self, id: &str) -> Result<Arc<Made>, DockerError> {
        let mut known = self.made.lock().await;
        if let Some(made) = known.get(id) {
            return Ok(Arc::clone(made));
        }
        let inspected = self.client.inspect_image(id).await.map_err(|error| self.fail("show an image", error))?;
        let diff_ids = self.diff_ids(inspected.root_fs)?;
        let made = Arc::new(Made { id: id.to_owned(), diff_ids, saved: OnceCell::new() });
        known.insert(id.to_owned(), Arc::clone(&made));
        Ok(made)
    }

    /// The archive of a layer of an image that Docker made.
    pub(super) async fn layer(&self, made: &Made, position: usize) -> Result<Slice, DockerError> {
        let spool = made.saved.get_or_try_init(|| self.save(made)).await?;
        spool.layer(position).ok_or_else(|| self.saved(made, SpoolError::Missing(position.to_string())))
    }

    async fn save(&self, made: &Made) -> Result<Arc<Spool>, DockerError> {
        let fail = |error: SpoolError| self.saved(made, error);
        let file = Spool::file(self.store.temp()).map_err(|error| fail(error.into()))?;
        let mut pieces = self.client.export_image(&made.id).boxed();
        let mut target = tokio::fs::File::from_std(file.try_clone().map_err(|error| fail(error.into()))?);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| self.fail("save an image", error))?;
            tokio::io::AsyncWriteExt::write_all(&mut target, &piece).await.map_err(|error| fail(error.into()))?;
        }
        tokio::io::AsyncWriteExt::flush(&mut target).await.map_err(|error| fail(error.into()))?;
        let directory = self.store.temp().to_owned();
        let spool = blocking(move || Spool::open(file, &directory)).await.map_err(fail)?;
        match spool.len() == made.diff_ids.len() {
            true => Ok(Arc::new(spool)),
            false => Err(fail(SpoolError::Missing(format!("of {}", made.diff_ids.len())))),
        }
    }

    /// Removes what was only made to be looked at. What has got a name meanwhile stays.
    pub(super) async fn clean_up(&self) {
        let made: Vec<_> = self.made.lock().await.drain().map(|(id, _)| id).collect();
        for id in made {
            let is_named = match self.client.inspect_image(&id).await {
                Ok(image) => image.repo_tags.is_some_and(|tags| !tags.is_empty()),
                Err(_) => true,
            };
            if !is_named {
                let options = RemoveImageOptions { noprune: true, ..RemoveImageOptions::default() };
                // It costs no space: its layers are those of the build cache.
                let _ = self.client.remove_image(&id, Some(options), None).await;
            }
        }
    }

    pub(super) fn saved(&self, made: &Made, error: SpoolError) -> DockerError {
        DockerError::Saved { image: made.id.clone(), source: Box::new(error) }
    }

    fn fail(&self, action: &str, error: bollard::errors::Error) -> DockerError {
        DockerError::api(&self.endpoint, action, error)
    }
}

enum Source {
    Blob(Descriptor),
    Slice(Slice),
    Bytes(Arc<Vec<u8>>),
}

/// Writes an archive as `docker save` does. Spec: Docker's image specification v1.2, §Combined Image JSON + Filesystem
/// Changeset Format.
fn write_archive(
    store: &Store,
    reference: &str,
    config: &[u8],
    layers: &[Source],
    sink: impl io::Write,
) -> Result<(), TarError> {
    let mut tar = TarWriter::new(io::BufWriter::with_capacity(WINDOW, sink));
    tar.append_bytes(&Entry::file("config.json", 0), config)?;
    let mut names = Vec::with_capacity(layers.len());
    for (number, layer) in layers.iter().enumerate() {
        let name = format!("{number}.tar");
        match layer {
            Source::Bytes(bytes) => tar.append_bytes(&Entry::file(name.as_str(), 0), bytes)?,
            Source::Slice(slice) => {
                tar.append(&Entry::file(name.as_str(), slice.len()), &mut slice.at(0))?;
            }
            Source::Blob(descriptor) => {
                let (mut file, size) = content(store, descriptor).map_err(TarError::Read)?;
                tar.append(&Entry::file(name.as_str(), size), &mut file)?;
            }
        }
        names.push(name);
    }
    let listing = serde_json::json!([{ "Config": "config.json", "RepoTags": [reference], "Layers": names }]);
    tar.append_bytes(&Entry::file("manifest.json", 0), listing.to_string().as_bytes())?;
    tar.finish()?.flush().map_err(TarError::Write)
}

/// A blob in a compression that every Docker reads, and its length.
fn content(store: &Store, descriptor: &Descriptor) -> io::Result<(File, u64)> {
    let blob = store.open_blob(&descriptor.digest).map_err(io::Error::other)?;
    if descriptor.media_type != media_type::LAYER_ZSTD {
        return Ok((blob, descriptor.size));
    }
    let mut plain = Spool::file(store.temp())?;
    let mut decompressor = Decompressor::new(blob)?;
    debug_assert_eq!(decompressor.compression(), Compression::Zstd);
    let size = io::copy(&mut decompressor, &mut plain)?;
    io::Seek::rewind(&mut plain)?;
    Ok((plain, size))
}
