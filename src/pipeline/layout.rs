//! OCI layouts and archives out of the store, and layouts into it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use diag::{Diagnostic, codes};
use oci::{Descriptor, Digest, Document as _, Index, Manifest, Reference, media_type};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use store::{Store, StoreError};

use super::{Built, ImageName, Session};
use crate::cli::Failure;

/// Spec: OCI image-spec image-layout.md §oci-layout file.
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// Spec: OCI image-spec annotations.md.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The name containerd and `docker load` give an image from an OCI archive.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The image as one layout's `index.json` lists it: once for each of its names.
fn index(built: &Built, name: &ImageName) -> Index {
    let entry = |reference: &Reference| {
        let mut descriptor = built.image.manifest.clone();
        let tag = reference.tag.as_ref().map(ToString::to_string).unwrap_or_default();
        descriptor.annotations.insert(REF_NAME.to_owned(), tag);
        descriptor.annotations.insert(CONTAINERD_NAME.to_owned(), reference.to_string());
        descriptor
    };
    Index::new(name.references().iter().map(entry).collect())
}

/// Every blob of an image, sorted by digest.
fn blobs(built: &Built) -> Vec<(Digest, u64)> {
    let image = &built.image;
    let descriptors =
        [&image.manifest, &image.config].into_iter().chain(image.layers.iter().map(|layer| &layer.descriptor));
    let mut blobs: Vec<(Digest, u64)> = descriptors.map(|descriptor| (descriptor.digest, descriptor.size)).collect();
    blobs.sort();
    blobs.dedup();
    blobs
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| StoreError::io(action, &path)(source).into()
}

/// Writes an OCI layout directory that holds the image and nothing else. Blobs are links to the store's where the
/// filesystem allows. The directory changes in one step; one that holds the image already is left alone.
pub(crate) fn write_layout(
    session: &Session,
    built: &Built,
    name: &ImageName,
    destination: &Path,
) -> Result<(), Failure> {
    let index = index(built, name).to_bytes();
    let blobs = blobs(built);
    if is_up_to_date(destination, &index, &blobs) {
        return Ok(());
    }
    refuse_foreign(destination)?;
    let parent = match destination.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(failed("create", parent))?;
    let made = tempfile::Builder::new()
        .prefix(".clawbuild-")
        .tempdir_in(parent)
        .map_err(failed("create a directory in", parent))?;
    fill(session.store(), made.path(), &index, &blobs)?;
    fs::set_permissions(made.path(), fs::Permissions::from_mode(0o755)).map_err(failed("write", made.path()))?;
    if destination.exists() {
        // The old directory takes the new one's place, and goes with it.
        renameat_with(CWD, made.path(), CWD, destination, RenameFlags::EXCHANGE)
            .map_err(|error| failed("replace", destination)(error.into()))?;
        return Ok(());
    }
    fs::rename(made.path(), destination).map_err(failed("create", destination))?;
    // It has another name now; there is nothing left to remove.
    let _ = made.keep();
    Ok(())
}

fn fill(store: &Store, directory: &Path, index: &[u8], blobs: &[(Digest, u64)]) -> Result<(), Failure> {
    let blob_directory = directory.join("blobs/sha256");
    fs::create_dir_all(&blob_directory).map_err(failed("create", &blob_directory))?;
    for (digest, _) in blobs {
        let (from, to) = (store.blob_path(digest), blob_directory.join(digest.hex()));
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).map_err(failed("write", &to))?;
        }
    }
    for (file, bytes) in [("oci-layout", LAYOUT.as_bytes()), ("index.json", index)] {
        let path = directory.join(file);
        let mut out = fs::File::create(&path).map_err(failed("create", &path))?;
        out.write_all(bytes).and_then(|()| out.sync_all()).map_err(failed("write", &path))?;
    }
    Ok(())
}

fn is_up_to_date(directory: &Path, index: &[u8], blobs: &[(Digest, u64)]) -> bool {
    let whole = |(digest, size): &(Digest, u64)| {
        fs::metadata(directory.join("blobs/sha256").join(digest.hex())).is_ok_and(|meta| meta.len() == *size)
    };
    fs::read(directory.join("index.json")).is_ok_and(|found| found == index) && blobs.iter().all(whole)
}

/// Only layouts and empty directories are replaced: a mistyped destination must not cost anybody their files.
fn refuse_foreign(destination: &Path) -> Result<(), Failure> {
    let empty = || fs::read_dir(destination).is_ok_and(|mut entries| entries.next().is_none());
    if !destination.exists() || destination.join("oci-layout").is_file() || (destination.is_dir() && empty()) {
        return Ok(());
    }
    let message = format!("`{}` is there and is no OCI layout", destination.display());
    Err(Diagnostic::new(codes::cli::FILE, message).help("name another destination, or remove it").into())
}

/// An image as one tar archive that OCI tools and `docker load`, old and new, read alike: an OCI layout with Docker's
/// `manifest.json` beside it. Deterministic: entries are sorted, all times are zero.
pub(crate) struct Archive {
    store: Store,
    index: Vec<u8>,
    docker: Vec<u8>,
    blobs: Vec<(Digest, u64)>,
}

impl Archive {
    pub(crate) fn new(session: &Session, built: &Built, name: &ImageName) -> Self {
        let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let docker = serde_json::json!([{
            "Config": path(&built.image.config.digest),
            "RepoTags": name.references().iter().map(Reference::familiar).collect::<Vec<_>>(),
            "Layers": built.image.layers.iter().map(|layer| path(&layer.descriptor.digest)).collect::<Vec<_>>(),
        }]);
        Self {
            store: session.store().clone(),
            index: index(built, name).to_bytes(),
            docker: docker.to_string().into_bytes(),
            blobs: blobs(built),
        }
    }

    /// Writes the archive.
    pub(crate) fn write(&self, out: &mut impl Write) -> Result<(), Failure> {
        let mut tar = tar::Builder::new(out);
        let write = failed("write", Path::new("the archive"));
        let result: Result<(), ArchiveError> = (|| {
            for directory in ["blobs/", "blobs/sha256/"] {
                tar.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), directory, io::empty())?;
            }
            for (digest, size) in &self.blobs {
                let blob = self.store.open_blob(digest)?;
                let name = format!("blobs/sha256/{}", digest.hex());
                tar.append_data(&mut header(tar::EntryType::Regular, 0o444, *size), name, blob)?;
            }
            for (name, bytes) in
                [("index.json", &self.index[..]), ("manifest.json", &self.docker), ("oci-layout", LAYOUT.as_bytes())]
            {
                tar.append_data(&mut header(tar::EntryType::Regular, 0o644, bytes.len() as u64), name, bytes)?;
            }
            tar.finish()?;
            Ok(())
        })();
        match result {
            Ok(()) => Ok(()),
            Err(ArchiveError::Store(error)) => Err(error.into()),
            Err(ArchiveError::Io(error)) => Err(write(error)),
        }
    }
}

enum ArchiveError {
    Store(StoreError),
    Io(io::Error),
}

impl From<StoreError> for ArchiveError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Writes an archive to a file, which appears under its name only when whole.
pub(crate) fn write_archive(
    session: &Session,
    built: &Built,
    name: &ImageName,
    destination: &Path,
) -> Result<(), Failure> {
    let parent = match destination.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(failed("create", parent))?;
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(parent)
        .map_err(failed("create a file in", parent))?;
    Archive::new(session, built, name).write(&mut file)?;
    file.as_file().sync_all().map_err(failed("write", destination))?;
    file.persist(destination).map_err(|error| failed("write", destination)(error.error))?;
    Ok(())
}

/// An image of a layout, now in the store.
#[derive(Clone, Debug)]
pub struct FoundLayout {
    /// The manifest or index.
    pub root: Descriptor,
    /// The name it has there.
    pub name: Option<Reference>,
}

/// Brings the image of a layout directory into the store, every blob checked.
///
/// # Errors
/// The layout holds no image or several, lacks a blob, or holds a wrong one.
pub fn read_layout(session: &Session, directory: &Path) -> Result<FoundLayout, Failure> {
    let bad = |message: String| Failure::from(Diagnostic::new(codes::oci::LAYOUT_INVALID, message));
    let path = directory.join("index.json");
    let bytes = fs::read(&path).map_err(failed("read", &path))?;
    let index: Index =
        serde_json::from_slice(&bytes).map_err(|error| bad(format!("`{}` is no index: {error}", path.display())))?;
    let Some(first) = index.manifests.first() else {
        return Err(bad(format!("`{}` holds no image", directory.display())));
    };
    if index.manifests.iter().any(|other| other.digest != first.digest) {
        return Err(bad(format!("`{}` holds several images", directory.display())));
    }
    let name = first.annotations.get(CONTAINERD_NAME).and_then(|name| name.parse().ok());
    let mut root = first.clone();
    root.annotations.clear();
    ingest(session.store(), directory, &root)?;
    Ok(FoundLayout { root, name })
}

fn ingest(store: &Store, directory: &Path, descriptor: &Descriptor) -> Result<(), Failure> {
    if store.blob_size(&descriptor.digest) != Some(descriptor.size) {
        let path: PathBuf = directory.join("blobs/sha256").join(descriptor.digest.hex());
        let mut blob = fs::File::open(&path).map_err(failed("read", &path))?;
        let mut writer = store.blob_writer()?;
        io::copy(&mut blob, &mut writer).map_err(failed("copy", &path))?;
        writer.commit(Some(&descriptor.digest))?;
    }
    let unreadable = |error: serde_json::Error| {
        Failure::from(Diagnostic::new(
            codes::oci::LAYOUT_INVALID,
            format!("{} cannot be read: {error}", descriptor.digest),
        ))
    };
    let children = match descriptor.media_type.as_str() {
        media_type::INDEX | media_type::DOCKER_INDEX => {
            let index: Index = serde_json::from_slice(&store.read_blob(&descriptor.digest)?).map_err(unreadable)?;
            index.manifests
        }
        media_type::MANIFEST | media_type::DOCKER_MANIFEST => {
            let manifest: Manifest =
                serde_json::from_slice(&store.read_blob(&descriptor.digest)?).map_err(unreadable)?;
            [manifest.config].into_iter().chain(manifest.layers).collect()
        }
        _ => Vec::new(),
    };
    children.iter().try_for_each(|child| ingest(store, directory, child))
}
