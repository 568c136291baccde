//! Caches of type `local`: OCI layouts that the daemon reads its cache from and writes it to.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use oci::{Descriptor, Digest, media_type};
use rustix::fs::FlockOperation;
use serde_json::{Value, json};

use super::super::offer::{ContentSink, IncomingBlob};

/// The blobs of a layout that the daemon writes to.
#[derive(Debug)]
pub(super) struct CacheDirectory(pub(super) PathBuf);

impl CacheDirectory {
    fn blobs(&self) -> PathBuf {
        self.0.join("blobs/sha256")
    }
}

impl ContentSink for CacheDirectory {
    fn size(&self, digest: &Digest) -> Option<u64> {
        let metadata = fs::symlink_metadata(self.blobs().join(digest.hex())).ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    fn receive(&self, blob: &IncomingBlob, content: &mut dyn Read) -> io::Result<()> {
        let blobs = self.blobs();
        fs::create_dir_all(&blobs)?;
        let mut file = tempfile::Builder::new().prefix(".ingest-").tempfile_in(&self.0)?;
        io::copy(content, &mut file)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o444))?;
        file.persist(blobs.join(blob.digest.hex()))?;
        Ok(())
    }
}

/// The directory of a cache of type `local`: which manifest is the cache, by tag. Source: BuildKit
/// `client/ociindex/ociindex.go`.
#[derive(Clone, Copy, Debug)]
pub struct LocalCache<'a>(&'a Path);

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const IMAGE_NAME: &str = "io.containerd.image.name";

impl<'a> LocalCache<'a> {
    /// The tag of a cache that is not given one.
    pub const DEFAULT_TAG: &'static str = "latest";

    /// A cache in this directory, which need not be there yet.
    #[must_use]
    pub const fn new(directory: &'a Path) -> Self {
        Self(directory)
    }

    /// The digest of the cache with this tag, which the daemon has to be told to import it. `None` where there is no
    /// cache yet, or none with this tag.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the index is malformed, and what the system says.
    pub fn find(&self, tag: &str) -> io::Result<Option<Digest>> {
        let Some(index) = self.read()? else { return Ok(None) };
        let entries = index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default();
        let tagged = |key| entries.iter().find(|entry| entry["annotations"][key] == tag);
        let Some(entry) = tagged(IMAGE_NAME).or_else(|| tagged(REF_NAME)) else { return Ok(None) };
        let digest = entry["digest"].as_str().unwrap_or_default();
        let digest: Digest = digest.parse().map_err(|error| invalid(&self.index(), error))?;
        // Without its manifest the daemon would fail rather than miss.
        Ok(CacheDirectory(self.0.to_owned()).size(&digest).map(|_| digest))
    }

    /// Gives a cache the daemon has written this tag; `manifest` is what it said of it (`cache.manifest`). Another one
    /// with the tag loses it, all else in the index stays.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the index is malformed, and what the system says.
    pub fn tag(&self, tag: &str, manifest: &Descriptor) -> io::Result<()> {
        fs::create_dir_all(self.0)?;
        let lock = File::create(self.0.join("index.json.lock"))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        let mut index = self
            .read()?
            .unwrap_or_else(|| json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": []}));
        let mut entry = serde_json::to_value(manifest)?;
        entry["annotations"][REF_NAME] = json!(tag);
        let entries =
            index["manifests"].as_array_mut().ok_or_else(|| invalid(&self.index(), "it lists no manifests"))?;
        entries.retain(|entry| {
            let annotations = &entry["annotations"];
            annotations[REF_NAME] != tag || annotations.get(IMAGE_NAME).is_some()
        });
        entries.push(entry);
        self.replace("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.replace("index.json", &serde_json::to_vec(&index)?)?;
        // As BuildKit's own client leaves it. Still locked, so whoever waits for this one goes on alone.
        fs::remove_file(self.0.join("index.json.lock"))
    }

    fn index(&self) -> PathBuf {
        self.0.join("index.json")
    }

    fn read(&self) -> io::Result<Option<Value>> {
        let path = self.index();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| invalid(&path, error)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".index-").tempfile_in(self.0)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.persist(self.0.join(name))?;
        Ok(())
    }
}

fn invalid(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("`{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_leads_to_the_cache_that_got_it_last() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("cache");
        let cache = LocalCache::new(&path);
        assert_eq!(cache.find("latest").expect("nothing there"), None);
        let receive = |text: &str| {
            let descriptor = Descriptor::of(media_type::INDEX, text.as_bytes());
            let blob = IncomingBlob { digest: descriptor.digest, size: None, reference: "ref".to_owned() };
            fs::create_dir_all(&path).expect("creates");
            CacheDirectory(path.clone()).receive(&blob, &mut text.as_bytes()).expect("receives");
            descriptor
        };
        let [first, second] = ["first", "second"].map(receive);
        cache.tag("latest", &first).expect("tags");
        cache.tag("other", &first).expect("tags");
        cache.tag("latest", &second).expect("tags");
        assert_eq!(cache.find("latest").expect("reads"), Some(second.digest));
        assert_eq!(cache.find("other").expect("reads"), Some(first.digest));
        assert_eq!(cache.find("none").expect("reads"), None);
        let index = oci::layout::Layout::open(&path).expect("a layout").index().clone();
        assert_eq!(index.manifests.len(), 2);
        fs::remove_file(path.join("blobs/sha256").join(first.digest.hex())).expect("removes");
        assert_eq!(cache.find("other").expect("reads"), None, "without its manifest it is a miss");
        fs::write(path.join("index.json"), "{").expect("writes");
        assert_eq!(cache.find("latest").expect_err("torn").kind(), io::ErrorKind::InvalidData);
    }
}
