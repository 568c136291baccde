//! Manifests and indexes as registries have them. Others' documents hold more than ours: platforms clawbuild does not
//! build for, digests of other kinds, attestations under the platform `unknown`.

use oci::{Architecture, Descriptor, Digest, Manifest, Os, Platform, Reference, media_type};
use serde::Deserialize;

use super::ImageError;

/// The documents that can stand under a tag.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// No document is longer.
pub(super) const DOCUMENT_LIMIT: u64 = 8 << 20;

/// A manifest or an index.
#[derive(Debug)]
pub(super) enum Document {
    Manifest(Box<Manifest>),
    Index(Index),
}

/// An index.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    manifests: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<RawPlatform>,
}

#[derive(Debug, Deserialize)]
struct RawPlatform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
}

impl RawPlatform {
    fn text(&self) -> String {
        let variant = if self.variant.is_empty() { String::new() } else { format!("/{}", self.variant) };
        format!("{}/{}{variant}", self.os, self.architecture)
    }

    /// The platform, if it is one that is built for. Variants that every such processor has are left out.
    fn platform(&self) -> Option<Platform> {
        if self.os != "linux" {
            return None;
        }
        let architecture = match (self.architecture.as_str(), self.variant.as_str()) {
            ("amd64", "" | "v1") => Architecture::Amd64,
            ("arm64", "" | "v8") => Architecture::Arm64,
            ("riscv64", "") => Architecture::Riscv64,
            _ => return None,
        };
        Some(Platform { architecture, os: Os::Linux })
    }
}

impl Document {
    /// Reads a document of the type that came with it, or that it says of itself.
    pub(super) fn parse(bytes: &[u8], media_type: &str, reference: &Reference) -> Result<Self, ImageError> {
        let malformed = |source| ImageError::Document { reference: Box::new(reference.clone()), source };
        match media_type {
            media_type::INDEX | media_type::DOCKER_INDEX => {
                serde_json::from_slice(bytes).map(Self::Index).map_err(malformed)
            }
            media_type::MANIFEST | media_type::DOCKER_MANIFEST => {
                serde_json::from_slice(bytes).map(|manifest| Self::Manifest(Box::new(manifest))).map_err(malformed)
            }
            other => {
                Err(ImageError::MediaType { reference: Box::new(reference.clone()), media_type: other.to_owned() })
            }
        }
    }
}

/// What a document says it is. Where it says nothing, as old OCI documents do, its fields tell.
pub(super) fn media_type_of(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let probe: Probe = serde_json::from_slice(bytes).ok()?;
    let guess = match (probe.manifests, probe.layers) {
        (Some(_), _) => Some(media_type::INDEX),
        (None, Some(_)) => Some(media_type::MANIFEST),
        (None, None) => None,
    };
    probe.media_type.or_else(|| guess.map(str::to_owned))
}

impl Index {
    /// The manifest for a platform, the first if there are several.
    pub(super) fn select(&self, platform: Platform, reference: &Reference) -> Result<Descriptor, ImageError> {
        let fits = |entry: &&Entry| entry.platform.as_ref().and_then(RawPlatform::platform) == Some(platform);
        self.manifests.iter().filter(fits).find_map(|entry| entry.descriptor().ok()).ok_or_else(|| {
            let known = |entry: &Entry| entry.platform.as_ref().map(RawPlatform::text);
            let mut found: Vec<_> = self.manifests.iter().filter_map(known).collect();
            found.retain(|platform| !platform.starts_with("unknown"));
            ImageError::NoPlatform { reference: Box::new(reference.clone()), platform, found }
        })
    }

    /// Everything it lists.
    pub(super) fn descriptors(&self) -> Result<Vec<Descriptor>, oci::DigestError> {
        self.manifests.iter().map(Entry::descriptor).collect()
    }
}

impl Entry {
    fn descriptor(&self) -> Result<Descriptor, oci::DigestError> {
        let digest: Digest = self.digest.parse()?;
        let platform = self.platform.as_ref().and_then(RawPlatform::platform);
        Ok(Descriptor { platform, ..Descriptor::new(self.media_type.clone(), digest, self.size) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(platform: &str, nibble: char) -> String {
        let digest = nibble.to_string().repeat(64);
        format!(
            r#"{{"mediaType":"{}","digest":"sha256:{digest}","size":9,"platform":{platform}}}"#,
            media_type::MANIFEST
        )
    }

    #[test]
    fn a_platform_is_found_among_those_of_others() {
        let entries = [
            entry(r#"{"architecture":"arm","os":"linux","variant":"v7"}"#, '1'),
            entry(r#"{"architecture":"amd64","os":"windows","os.version":"10.0.17763.1"}"#, '2'),
            entry(r#"{"architecture":"unknown","os":"unknown"}"#, '3'),
            entry(r#"{"architecture":"arm64","os":"linux","variant":"v8"}"#, '4'),
            entry(r#"{"architecture":"amd64","os":"linux","variant":"v3"}"#, '5'),
            entry(r#"{"architecture":"amd64","os":"linux"}"#, '6'),
        ];
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        let reference = "ghcr.io/a/b:1".parse().expect("a reference");
        assert_eq!(media_type_of(text.as_bytes()).as_deref(), Some(media_type::INDEX));
        let Ok(Document::Index(index)) = Document::parse(text.as_bytes(), media_type::INDEX, &reference) else {
            panic!("an index");
        };
        let selected = |platform| index.select(platform, &reference).map(|found| found.digest.hex());
        assert_eq!(selected(Platform::LINUX_ARM64).ok(), Some("4".repeat(64)));
        assert_eq!(selected(Platform::LINUX_AMD64).ok(), Some("6".repeat(64)));
        match selected(Platform::LINUX_RISCV64) {
            Err(ImageError::NoPlatform { found, .. }) => {
                assert_eq!(found, ["linux/arm/v7", "windows/amd64", "linux/arm64/v8", "linux/amd64/v3", "linux/amd64"]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn other_documents_are_told_apart() {
        let reference = "ghcr.io/a/b:1".parse().expect("a reference");
        let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert!(matches!(Document::parse(b"{}", schema1, &reference), Err(ImageError::MediaType { .. })));
        assert!(matches!(Document::parse(b"{}", media_type::INDEX, &reference), Err(ImageError::Document { .. })));
        assert_eq!(media_type_of(b"{}"), None);
        assert_eq!(media_type_of(br#"{"layers":[],"config":{}}"#).as_deref(), Some(media_type::MANIFEST));
        assert_eq!(media_type_of(br#"{"mediaType":"x/y","layers":[]}"#).as_deref(), Some("x/y"));
    }
}
