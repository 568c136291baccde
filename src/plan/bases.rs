//! Bases: images of their own, which others start from by digest.
//!
//! A base's layers carry the base's own epoch, so every image on it shares them byte for byte.

use std::collections::BTreeMap;

use diag::Spanned;
use oci::{ContainerConfig, Digest, Platform};
use recipe::{Base, BaseParent, DebianRequest, Lock, Name};

use crate::archives::download;
use crate::stage::Stages;
use crate::{
    ArchiveSet, Copy, CopyFrom, Download, Epoch, FileAction, From, Ground, ImagePlan, Origin, Plan, Project, Stage,
    StageId, Step, StepKind, requests,
};

/// Base images in the local store, by name and platform.
pub type BaseImages = BTreeMap<(Name, Platform), Digest>;

/// Images of one layer that hold the packages of a Debian set, by owner and platform. Sets that added nothing have none.
pub type DebianLayers = BTreeMap<(String, Platform), Digest>;

/// A base whose requests the lock answers.
#[derive(Clone, Debug)]
pub struct LockedBase<'a> {
    /// The base.
    pub base: &'a Base,
    /// For what.
    pub platform: Platform,
    pub(crate) below: Vec<&'a Base>,
    pub(crate) lock: &'a Lock,
}

impl<'a> LockedBase<'a> {
    /// A base and what it stands on. Its requests must have been checked against the lock.
    pub(crate) fn new(chain: &[&'a Base], platform: Platform, lock: &'a Lock) -> Self {
        let (base, below) = chain.split_last().expect("a chain holds at least the base asked for");
        Self { base, platform, below: below.to_vec(), lock }
    }

    /// The request for its Debian packages, if it adds any.
    #[must_use]
    pub fn debian(&self) -> Option<DebianRequest> {
        requests::base_request(self.base, &self.below, self.platform)
    }

    /// No time in the base exceeds it: the newest release of anything in it, bases below included.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        let own = |base: &Base, below: &[&Base]| {
            let set =
                requests::base_request(base, below, self.platform).and_then(|request| self.lock.debian(&request).ok());
            let unpacked = base.unpack.iter().filter_map(|unpack| self.release(unpack, &base.source));
            set.map(|set| set.epoch).into_iter().chain(unpacked.map(|pinned| pinned.published)).max().unwrap_or(0)
        };
        let below = (0..self.below.len()).map(|depth| own(self.below[depth], &self.below[..depth]));
        Epoch(below.chain([own(self.base, &self.below)]).max().unwrap_or(0))
    }

    /// The archive a part of the base is taken from.
    pub(crate) fn release(&self, unpack: &recipe::Unpack, source: &diag::Source) -> Option<&'a recipe::LockedRelease> {
        self.lock.release(&unpack.archive.request(self.platform.architecture, source)).ok()
    }

    /// The archives whose files its plan takes from layers that clawbuild makes itself.
    #[must_use]
    pub fn archives(&self) -> Vec<ArchiveSet> {
        let releases = self.base.unpack.iter().filter_map(|unpack| self.release(unpack, &self.base.source));
        releases.filter_map(ArchiveSet::of_release).collect()
    }

    /// Plans the base's image. The ground must hold the base below, and the layers of its Debian set and archives.
    #[must_use]
    pub fn plan(&self, ground: &Ground) -> Plan {
        let mut stages = Stages::default();
        let base = self.base;
        let owner = requests::owner(base);
        let origin = |span| Origin { source: base.source.clone(), span };
        let mut steps = Vec::new();
        let mut from = match &base.parent.value {
            BaseParent::Scratch => From::Scratch,
            BaseParent::Image(reference) => {
                From::Image { reference: reference.clone(), origin: origin(base.parent.span) }
            }
            BaseParent::Base(name) => layout(&ground.images, name, self.platform, origin(base.parent.span)),
        };
        if let (Some(manifest), Some(set)) = (ground.layers.get(&(owner.clone(), self.platform)), &base.debian) {
            let name = debian_step_name(self.lock, self.debian().as_ref());
            if from == From::Scratch {
                from = From::Layout { name, manifest: *manifest, origin: origin(set.archive.span) };
            } else {
                let kind = StepKind::Overlay { name: owner.clone(), manifest: *manifest };
                steps.push(Step { name, origin: origin(set.archive.span), kind });
            }
        }
        for unpack in &base.unpack {
            let pinned = self.release(unpack, &base.source).expect("requests were checked against the lock");
            let archive = match ArchiveSet::of_release(pinned) {
                Some(set) => {
                    let origin = origin(unpack.archive.package.span);
                    CopyFrom::Stage(set.stage(&mut stages, ground, self.platform, origin))
                }
                None => CopyFrom::Archive(download(&pinned.url, pinned.sha256)),
            };
            let copies = unpack.files.iter().map(|file| {
                FileAction::Copy(Copy {
                    path: format!("/{}", file.from.value.trim_start_matches("./").trim_matches('/')),
                    ..Copy::new(archive.clone(), file.to.value.clone())
                })
            });
            let name = format!("{} {}", pinned.package, pinned.version);
            steps.push(Step {
                name,
                origin: origin(unpack.archive.package.span),
                kind: StepKind::Files(copies.collect()),
            });
        }
        let history = self.history();
        let result = stages.add(Stage { name: owner, platform: self.platform, epoch: self.epoch(), from, steps });
        let image = ImagePlan {
            config: ContainerConfig {
                env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
                labels: BTreeMap::from([
                    ("org.opencontainers.image.title".to_owned(), format!("base/{}", base.name.value)),
                    ("org.opencontainers.image.description".to_owned(), base.summary.clone()),
                ]),
                ..ContainerConfig::default()
            },
            epoch: self.epoch(),
            version: base.provides.values().next().map_or_else(|| "0".to_owned(), |version| version.value.clone()),
            repository: None,
            naming: recipe::Naming::default(),
            history,
        };
        Plan {
            target: base.name.value.clone().into(),
            platform: self.platform,
            stages: stages.into_vec(),
            result,
            image,
        }
    }

    /// One line for each layer of the base, bases below first.
    pub(crate) fn history(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for depth in 0..=self.below.len() {
            let (base, below) = match self.below.get(depth) {
                Some(base) => (*base, &self.below[..depth]),
                None => (self.base, &self.below[..]),
            };
            let request = requests::base_request(base, below, self.platform);
            let packages = request.as_ref().and_then(|request| self.lock.debian(request).ok());
            if packages.is_some_and(|set| !set.packages.is_empty()) {
                lines.push(debian_step_name(self.lock, request.as_ref()));
            }
            let unpacked = base.unpack.iter().filter_map(|unpack| self.release(unpack, &base.source));
            lines.extend(unpacked.map(|pinned| format!("{} {}", pinned.package, pinned.version)));
        }
        lines
    }
}

/// `base/debian: 78 Debian packages`.
pub(crate) fn debian_step_name(lock: &Lock, request: Option<&DebianRequest>) -> String {
    let Some(request) = request else { return String::new() };
    let count = lock.debian(request).map_or(0, |set| set.packages.len());
    format!("{}: {count} Debian packages", request.owner)
}

/// A base's image as what a stage starts from.
pub(crate) fn layout(images: &BaseImages, name: &Name, platform: Platform, origin: Origin) -> From {
    let manifest = images.get(&(name.clone(), platform)).expect("bases are built before what stands on them");
    From::Layout { name: format!("{}{name}", requests::DEBIAN_OWNER_BASE), manifest: *manifest, origin }
}

/// The bases a chain needs for a platform, lowest first.
pub(crate) fn locked_chain<'a>(
    project: &'a Project,
    asked: &Spanned<Name>,
    source: &diag::Source,
    platform: Platform,
    lock: &'a Lock,
) -> Result<Vec<LockedBase<'a>>, crate::PlanError> {
    let chain = project.chain(asked, source)?;
    Ok((1..=chain.len()).map(|length| LockedBase::new(&chain[..length], platform, lock)).collect())
}

/// A base by name and those it stands on, lowest first. Its requests must have been checked against the lock.
///
/// # Errors
/// A circle.
pub fn locked_base<'a>(
    project: &'a Project,
    name: &Name,
    platform: Platform,
    lock: &'a Lock,
) -> Result<Vec<LockedBase<'a>>, crate::PlanError> {
    let base = project.base(name).expect("targets are looked up before they are built");
    locked_chain(project, &base.name, &base.source, platform, lock)
}

/// A tool's archive as a stage of its own, to be mounted.
pub(crate) fn archive_stage(
    stages: &mut Stages,
    name: &str,
    download: Download,
    platform: Platform,
    origin: Origin,
) -> StageId {
    if let Some(stage) = stages.named(name) {
        return stage;
    }
    let from = From::Archive { download, origin };
    stages.add(Stage { name: name.to_owned(), platform, epoch: Epoch(0), from, steps: Vec::new() })
}
