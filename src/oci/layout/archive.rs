//! Layouts written as tar archives.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::Serialize;

use super::directory::parent;
use super::{Images, LayoutError, MARK, blob_path};
use crate::layer::tar::{Entry, TarWriter};
use crate::{Document as _, Platform, Reference};

/// Who is to read an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Those who read OCI layouts.
    Oci,
    /// `docker load` too, of any version.
    Docker {
        /// Of an image for several platforms, the one that gets the names where Docker knows only single ones. The
        /// first, if there is none for it.
        platform: Platform,
    },
}

/// One image of Docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl Images<'_> {
    /// Writes an archive in BuildKit's form: directories, blobs sorted by digest, the documents sorted by name; all
    /// from 1970 and root's. Every byte follows from the images.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn write_archive(&self, form: Form, sink: &mut dyn Write) -> Result<(), LayoutError> {
        let mut tar = TarWriter::new(BufWriter::with_capacity(256 * 1024, sink));
        for directory in ["blobs", "blobs/sha256"] {
            tar.append_empty(&Entry::directory(directory))?;
        }
        for (digest, &size) in &self.blobs {
            let mut blob = self.open(digest, size)?;
            tar.append(&Entry::file(blob_path(digest), size).with_mode(0o444), &mut blob)?;
            blob.check()?;
        }
        let mut documents = BTreeMap::from([("index.json", (0o644, self.index().to_bytes()))]);
        documents.insert(MARK.0, (0o444, MARK.1.as_bytes().to_vec()));
        if let Form::Docker { platform } = form {
            documents.insert("manifest.json", (0o644, self.docker_manifest(platform)));
        }
        for (name, (mode, bytes)) in documents {
            tar.append_bytes(&Entry::file(name, 0).with_mode(mode), &bytes)?;
        }
        let mut buffered = tar.finish()?;
        Ok(buffered.flush().map_err(crate::layer::tar::TarError::Write)?)
    }

    /// As [`Images::write_archive`], to a file that appears under its name only when whole.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn save_archive(&self, form: Form, destination: &Path) -> Result<(), LayoutError> {
        let parent = parent(destination);
        fs::create_dir_all(parent).map_err(LayoutError::io("create", parent))?;
        let builder = &mut tempfile::Builder::new();
        let builder = builder.prefix(".clawbuild-").permissions(fs::Permissions::from_mode(0o644));
        let mut file = builder.tempfile_in(parent).map_err(LayoutError::io("create a file in", parent))?;
        self.write_archive(form, &mut file)?;
        file.as_file().sync_all().map_err(LayoutError::io("write", destination))?;
        let persisted = file.persist(destination).map_err(|error| error.error);
        persisted.map(drop).map_err(LayoutError::io("write", destination))
    }

    fn docker_manifest(&self, platform: Platform) -> Vec<u8> {
        let mut images = Vec::new();
        for (number, root) in self.roots.iter().enumerate() {
            let manifests: Vec<_> = self.manifests.iter().filter(|found| found.root == number).collect();
            let chosen = manifests.iter().position(|found| found.platform == Some(platform)).unwrap_or(0);
            for (place, found) in manifests.iter().enumerate() {
                let names = if place == chosen { &root.names[..] } else { &[] };
                images.push(DockerImage {
                    config: blob_path(&found.manifest.config.digest),
                    repo_tags: names.iter().filter(|name| name.tag.is_some()).map(Reference::familiar).collect(),
                    layers: found.manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
                });
            }
        }
        serde_json::to_vec(&images).expect("a list of strings is JSON")
    }
}
