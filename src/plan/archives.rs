//! Layers that clawbuild makes of archives by itself: what an engine cannot unpack, or only one by one.

use std::collections::BTreeMap;

use oci::{Digest, Platform};
use recipe::{LockedRelease, Registry};
use serde_json::json;

use crate::stage::Stages;
use crate::{Download, Epoch, From, Ground, Origin, Stage, StageId};

/// Images of one layer that hold the files of an [`ArchiveSet`], by the set's digest.
pub type ArchiveLayers = BTreeMap<Digest, Digest>;

/// Archives whose files together make one layer. All of it is data, the same on every platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveSet {
    /// What it holds, such as `crates of zeroclaw`.
    pub name: String,
    /// The archives. Of two files of one path the later one counts.
    pub archives: Vec<Archive>,
}

/// One archive of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The archive.
    pub download: Download,
    /// Its length in bytes, where it is known.
    pub size: Option<u64>,
    /// How it is read.
    pub format: ArchiveFormat,
    /// The directory in it that is taken, with a slash at the end; everything when empty. Nothing may lie outside.
    pub strip: String,
    /// Where it goes in the layer: a relative directory, empty for the top.
    pub into: String,
    /// Files to write beside its own, by their path in `into`.
    pub extra: BTreeMap<String, String>,
}

/// What names of source archives of Python packages end in.
const SDIST: &str = ".tar.gz";

/// How an archive is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// A gzip-compressed tar.
    TarGz,
    /// A zip.
    Zip,
}

impl ArchiveFormat {
    const fn as_str(self) -> &'static str {
        match self {
            Self::TarGz => "tar.gz",
            Self::Zip => "zip",
        }
    }
}

impl ArchiveSet {
    /// The digest of everything the layer is made of.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let archives: Vec<_> = self
            .archives
            .iter()
            .map(|archive| {
                json!([
                    archive.download.checksum.to_string(),
                    archive.format.as_str(),
                    archive.strip,
                    archive.into,
                    archive.extra,
                ])
            })
            .collect();
        Digest::of(serde_json::to_vec(&archives).expect("values serialise"))
    }

    /// One release as it is. `None` for registries whose archives engines unpack themselves.
    pub(crate) fn of_release(release: &LockedRelease) -> Option<Self> {
        let strip = match release.registry {
            Registry::Npm | Registry::Crates => return None,
            // Spec: Go modules reference §Module zip files.
            Registry::Go => format!("{}@{}/", release.package, release.version),
            // Spec: PyPA, source distribution format; wheels have everything on top.
            Registry::PyPi if release.url.ends_with(SDIST) => {
                let filename = release.url.rsplit('/').next().unwrap_or_default();
                format!("{}/", filename.trim_end_matches(SDIST))
            }
            Registry::PyPi => String::new(),
        };
        let archive = Archive {
            download: download(&release.url, release.sha256),
            size: Some(release.size),
            format: if release.url.ends_with(SDIST) { ArchiveFormat::TarGz } else { ArchiveFormat::Zip },
            strip,
            into: String::new(),
            extra: BTreeMap::new(),
        };
        Some(Self { name: format!("{} {}", release.package, release.version), archives: vec![archive] })
    }

    /// The set as a stage of its own.
    pub(crate) fn stage(&self, stages: &mut Stages, ground: &Ground, platform: Platform, origin: Origin) -> StageId {
        if let Some(stage) = stages.named(&self.name) {
            return stage;
        }
        let manifest = *ground.archives.get(&self.digest()).expect("archives are unpacked before what needs them");
        let from = From::Layout { name: self.owner(), manifest, origin };
        stages.add(Stage { name: self.name.clone(), platform, epoch: Epoch(0), from, steps: Vec::new() })
    }

    /// Whose layer it is: its name, in what repositories' names may hold.
    #[must_use]
    pub fn owner(&self) -> String {
        let word = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
        let name: String = self.name.to_ascii_lowercase().chars().map(word).collect();
        let parts: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
        format!("archives/{}", parts.join("-"))
    }
}

/// A download named after its URL's last component.
pub(crate) fn download(url: &str, checksum: Digest) -> Download {
    let filename = url.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("archive");
    Download { url: url.to_owned(), checksum, filename: filename.to_owned() }
}
