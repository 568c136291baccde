//! OCI image layouts, as directories and as tar archives, and the check of everything an image consists of.
//!
//! An archive written here is both an OCI layout and what `docker load` of any age takes: [`Form::Docker`] adds
//! Docker's `manifest.json`, whose paths lead to the same blobs. Spec: OCI image-spec image-layout.md; Docker image
//! specification v1.2 §Combined Image JSON + Filesystem Changeset Format.

use std::io::{self, Read};
use std::path::PathBuf;

use crate::{Descriptor, Digest, Reference};

mod archive;
mod directory;
mod error;
mod images;
mod read;
mod validate;

pub use archive::Form;
pub use error::LayoutError;
pub use images::Images;
pub use read::{Found, Layout};
pub use validate::{Problem, Report, validate};

#[cfg(test)]
mod tests;

/// Where content lies by digest.
pub trait BlobSource {
    /// Opens content for reading. It need not be checked: whoever reads it does that.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] for content that is not there, and what the system says.
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + Send + '_>>;

    /// The file that holds the content, where there is one that never changes, so that a layout on the same disk may
    /// be given another name of it.
    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        let _ = digest;
        None
    }
}

/// An image or index to export, under its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The manifest or index.
    pub root: Descriptor,
    /// Its names. Without any, it can be found by digest only.
    pub names: Vec<Reference>,
}

/// The file that marks a layout, and all that is in it.
const MARK: (&str, &str) = ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);

/// A tag, in a layout's index. Spec: OCI image-spec annotations.md.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole reference, which containerd and Docker on top of it take the name from.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// The whole name that an entry of a layout's index has, where it has one.
#[must_use]
pub fn image_name(entry: &Descriptor) -> Option<Reference> {
    entry.annotations.get(IMAGE_NAME)?.parse().ok()
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
