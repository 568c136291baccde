//! What a target becomes: an image for each platform asked for, and their index where there are several.

use oci::{Descriptor, Document as _, Index};

use super::{Built, Session};
use crate::cli::Failure;

/// The images of one target.
#[derive(Clone, Debug)]
pub struct Product {
    /// Sorted by platform; never empty.
    images: Vec<Built>,
    root: Descriptor,
}

impl Product {
    /// Joins what was built for several platforms. A single image stands for itself.
    ///
    /// # Errors
    /// The store cannot be written.
    ///
    /// # Panics
    /// When there is no image at all.
    pub fn new(session: &Session, mut images: Vec<Built>) -> Result<Self, Failure> {
        images.sort_by_key(|built| built.plan.platform);
        let root = match &images[..] {
            [] => panic!("a product has an image"),
            [one] => one.image.manifest.clone(),
            several => {
                let index = Index::new(several.iter().map(|built| built.image.manifest.clone()).collect());
                session.store().put_blob(&index.to_bytes())?;
                index.descriptor()
            }
        };
        Ok(Self { images, root })
    }

    /// The images, sorted by platform.
    #[must_use]
    pub fn images(&self) -> &[Built] {
        &self.images
    }

    /// The one whose recipe names it: they differ in platform only.
    #[must_use]
    pub fn first(&self) -> &Built {
        &self.images[0]
    }

    /// The manifest, or the index of several.
    #[must_use]
    pub fn root(&self) -> &Descriptor {
        &self.root
    }
}
