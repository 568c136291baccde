//! OCI layouts and archives out of the store, and back into it.

use std::io;
use std::path::Path;

use oci::layout::{BlobSource as _, Form, Images, Layout, LayoutError, Named};
use oci::{Descriptor, Platform, Reference};
use store::Store;

use super::{ImageName, Run};
use crate::cli::Failure;

/// An image of the store under its names, ready to be written somewhere.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    store: Store,
    named: Named,
}

impl Export {
    pub(crate) fn new(run: &Run, root: &Descriptor, name: &ImageName) -> Self {
        let named = Named { root: root.clone(), names: name.references().to_vec() };
        Self { store: run.store().clone(), named }
    }

    /// As a layout directory, which changes in one step; one that holds the image already is left alone.
    pub(crate) fn to_directory(&self, destination: &Path) -> Result<(), LayoutError> {
        self.images()?.write_directory(destination)
    }

    /// As an archive, which appears under its name only when whole.
    pub(crate) fn to_archive(&self, form: Form, destination: &Path) -> Result<(), LayoutError> {
        self.images()?.save_archive(form, destination)
    }

    /// As an archive in Docker's form.
    pub(crate) fn to_docker(&self, sink: &mut dyn io::Write) -> Result<(), LayoutError> {
        self.images()?.write_archive(docker_form(), sink)
    }

    fn images(&self) -> Result<Images<'_>, LayoutError> {
        Images::read(&self.store, vec![self.named.clone()])
    }
}

/// Docker gives the names to the image of this machine's platform, where there are several.
pub(crate) fn docker_form() -> Form {
    Form::Docker { platform: Platform::host().unwrap_or(Platform::LINUX_AMD64) }
}

/// An image of a layout, now in the store.
#[derive(Clone, Debug)]
pub struct FoundLayout {
    /// The manifest or index.
    pub root: Descriptor,
    /// The name it has there.
    pub name: Option<Reference>,
}

/// Brings the image of a layout directory or archive into the store, every blob checked.
///
/// # Errors
/// It is no layout, holds no image or several, lacks a blob, or holds a wrong one.
pub fn read_layout(run: &Run, path: &Path) -> Result<FoundLayout, Failure> {
    let layout = Layout::open(path)?;
    let mut root = layout.root(None)?.clone();
    let name = oci::layout::image_name(&root);
    root.annotations.clear();
    let images = Images::read(&layout, vec![Named { root: root.clone(), names: Vec::new() }])?;
    let store = run.store();
    for (digest, size) in images.blobs() {
        if store.blob_size(digest) == Some(size) {
            continue;
        }
        let unreadable = |source| LayoutError::Blob { digest: *digest, source };
        let mut blob = layout.open(digest).map_err(unreadable)?;
        let mut writer = store.blob_writer()?;
        io::copy(&mut blob, &mut writer).map_err(unreadable)?;
        writer.commit(Some(digest))?;
    }
    Ok(FoundLayout { root, name })
}
