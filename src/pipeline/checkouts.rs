//! Commits as images of one layer, for engines outside this process: what stands in for a repository is this machine's
//! business, and often only here.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use diag::progress::{Task, TaskId};
use diag::{Diagnostic, Reported as _, codes};
use engine::git::Repository;
use llb::GitCommit;
use oci::layer::compress::LayerWriter;
use oci::layer::tar::{Entry, Kind, TarError, TarWriter};
use plan::{Checkout, Checkouts};
use store::{Key, Store, StoreError};

use super::Session;
use super::archives::{COMPRESSION, known, put_image};
use crate::cli::Failure;

/// Raised when the bytes change that a commit becomes.
const IDENTITY: &[u8] = b"checkouts 2";

/// The images of those commits that the engine cannot fetch by itself, because they come from elsewhere than their URL
/// says.
///
/// # Errors
/// A commit cannot be had, or whatever stands in the way of writing.
pub(super) async fn checkouts(session: &Session, wanted: &[Checkout]) -> Result<Checkouts, Failure> {
    let mut images = Checkouts::new();
    let mirrors = &session.http().settings().mirrors;
    let moved: Vec<&Checkout> = wanted.iter().filter(|one| mirrors.replacement(&one.url).is_some()).collect();
    if moved.is_empty() || session.embedded().await?.is_some() {
        return Ok(images);
    }
    for one in moved {
        let identity = COMPRESSION.identity();
        let key = Key::of([IDENTITY, identity.as_bytes(), one.url.as_bytes(), one.commit.as_bytes()]);
        let image = match known(session.store(), &key) {
            Some(image) => image,
            None => {
                let task = session.progress().task(TaskId::new(format!("checkout {}", key.hex())), one.url.clone());
                let result = write(session, one, &key, &task).await;
                task.conclude(result)?
            }
        };
        images.insert(one.clone(), image.manifest);
    }
    Ok(images)
}

async fn write(
    session: &Session,
    one: &Checkout,
    key: &Key,
    task: &Task,
) -> Result<super::archives::Unpacked, Failure> {
    let store = session.store();
    let commit: GitCommit = one.commit.parse().map_err(|error| {
        Failure::from(Diagnostic::new(codes::lock::SYNTAX, "the lock holds no commit id").caused_by(&error))
    })?;
    let directory = tempfile::tempdir_in(store.temp())
        .map_err(|error| StoreError::io("make a directory in", store.temp())(error))?;
    let repository = Repository::new(store, session.http(), &one.url, task, session.cancel());
    repository.export(&commit, directory.path()).await.map_err(|error| Failure::from(error.diagnostic()))?;
    let (store, key) = (store.clone(), *key);
    let written = tokio::task::spawn_blocking(move || {
        let layer = layer(&store, directory.path())?;
        put_image(&store, &key, &layer)
    });
    written.await.expect("writing does not panic")
}

fn layer(store: &Store, root: &Path) -> Result<oci::layer::compress::LayerBlob, Failure> {
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let mut tar = TarWriter::new(LayerWriter::new(store.blob_writer()?, COMPRESSION, threads));
    let failed = |error: TarError| StoreError::io("write a layer to", store.root())(io::Error::other(error));
    let top = PathBuf::from(Checkout::DIRECTORY.trim_start_matches('/'));
    append(&mut tar, root, &top).map_err(|error| StoreError::io("write a layer to", store.root())(error))?;
    let writer = tar.finish().map_err(failed)?;
    let (layer, blob) = writer.finish().map_err(|error| StoreError::io("write a layer to", store.root())(error))?;
    blob.commit(Some(&layer.descriptor.digest))?;
    Ok(layer)
}

/// A file, or a directory with everything in it in the order of names, as `name`. All of it belongs to root.
fn append<W: io::Write>(tar: &mut TarWriter<W>, path: &Path, name: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let kind = if meta.is_dir() {
        Kind::Directory
    } else if meta.is_symlink() {
        Kind::Symlink { target: fs::read_link(path)?.as_os_str().as_bytes().to_vec() }
    } else {
        Kind::File { size: meta.len() }
    };
    let mode = if meta.is_symlink() { 0o777 } else { meta.mode() & 0o7777 };
    let entry = Entry {
        path: name.as_os_str().as_bytes().to_vec(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: meta.mtime(),
        nanoseconds: 0,
        xattrs: BTreeMap::new(),
    };
    if meta.is_file() {
        return tar.append(&entry, &mut fs::File::open(path)?).map_err(io::Error::other);
    }
    tar.append_empty(&entry).map_err(io::Error::other)?;
    if meta.is_dir() {
        let names = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for below in names {
            append(tar, &path.join(&below), &name.join(&below))?;
        }
    }
    Ok(())
}
