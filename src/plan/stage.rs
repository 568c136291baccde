//! Stages and steps.

use std::collections::BTreeMap;

use diag::{Source, Span};
use oci::{Digest, Platform, Reference};
use recipe::{ContainerPath, TargetName};

use crate::{Epoch, ImagePlan};

/// The secret that carries the host's certificate bundle to steps with network, so that they work behind proxies
/// that intercept TLS. As a secret it is part of no cache key and no layer.
pub const CA_SECRET: &str = "clawbuild.ca";

/// Everything needed to build one image for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is built.
    pub target: TargetName,
    /// What it runs on.
    pub platform: Platform,
    /// The stages. A stage refers only to stages before it.
    pub stages: Vec<Stage>,
    /// The stage whose tree is the image's.
    pub result: StageId,
    /// The image's config, complete but for its layers.
    pub image: ImagePlan,
}

/// A stage of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub(crate) usize);

/// Where something was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The recipe or base.
    pub source: Source,
    /// Where in it.
    pub span: Span,
}

/// A file tree and the steps that make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its name, such as `openclaw build` or `base/node`.
    pub name: String,
    /// What its steps run on, and which of an index's manifests it starts from.
    pub platform: Platform,
    /// `SOURCE_DATE_EPOCH` for its steps, and the time of what they write. Stages that several targets share have one
    /// that depends on none of them.
    pub epoch: Epoch,
    /// What it starts from.
    pub from: From,
    /// Its steps, in order.
    pub steps: Vec<Step>,
}

/// What a stage starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(StageId),
    /// An image in the local store, made by clawbuild itself.
    Layout {
        /// What it holds, such as `base/debian`.
        name: String,
        /// Its manifest.
        manifest: Digest,
        /// Who asked for it.
        origin: Origin,
    },
    /// The contents of a tar archive that is downloaded.
    Archive {
        /// The archive.
        download: Download,
        /// Who asked for it.
        origin: Origin,
    },
    /// A commit of a git repository, without its history.
    Git {
        /// The repository.
        url: String,
        /// The commit's id.
        commit: String,
        /// Who asked for it.
        origin: Origin,
    },
    /// An image in a registry, by digest.
    Image {
        /// The image.
        reference: Reference,
        /// Who asked for it.
        origin: Origin,
    },
}

/// One step: one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What the user sees, such as `pnpm fetch`.
    pub name: String,
    /// Where it was asked for.
    pub origin: Origin,
    /// What it does.
    pub kind: StepKind,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Runs a program.
    Run(Run),
    /// Changes files; all actions together make one layer.
    Files(Vec<FileAction>),
    /// Lays the tree of an image in the local store over the stage's.
    Overlay {
        /// What it holds.
        name: String,
        /// Its manifest.
        manifest: Digest,
    },
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Variables. The lowering adds those every step has.
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub workdir: ContainerPath,
    /// Whether it may use the network.
    pub network: bool,
    /// What is mounted.
    pub mounts: Vec<Mount>,
}

/// Something mounted while a program runs, which does not enter the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub target: ContainerPath,
    /// What.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A path of an earlier stage, read-only.
    Stage {
        /// The stage.
        stage: StageId,
        /// The path in it.
        path: ContainerPath,
    },
    /// A directory kept between builds.
    Cache {
        /// Its name; equal names are the same directory.
        id: String,
    },
    /// An empty directory in memory.
    Tmpfs,
    /// A secret given on the command line.
    Secret {
        /// Its name.
        id: String,
        /// Whether the step also runs without it.
        optional: bool,
    },
}

/// One change to files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileAction {
    /// Copies.
    Copy(Copy),
    /// Writes a file.
    Write {
        /// Where.
        path: ContainerPath,
        /// What.
        data: Vec<u8>,
        /// Its mode.
        mode: u32,
        /// Its owner.
        owner: (u32, u32),
    },
    /// Makes a directory and those above it.
    Directory {
        /// Where.
        path: ContainerPath,
        /// Its mode.
        mode: u32,
        /// Its owner.
        owner: (u32, u32),
    },
    /// Makes a symbolic link.
    Symlink {
        /// Where the link lies.
        path: ContainerPath,
        /// What it says.
        target: String,
    },
    /// Removes files; the path's last component may hold wildcards.
    Remove {
        /// What.
        path: ContainerPath,
    },
}

/// Files to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// From where.
    pub from: CopyFrom,
    /// What, absolute in the source.
    pub path: String,
    /// Where to.
    pub to: ContainerPath,
    /// Whether `to` is a directory that receives the source, or the contents of a source directory; else it is the copy's own name.
    pub into: bool,
    /// The copies' owner.
    pub owner: (u32, u32),
    /// The copies' mode, where it is not the source's.
    pub mode: Option<u32>,
    /// Patterns of what is left out, relative to `path`.
    pub exclude: Vec<String>,
    /// The copies' modification time, seconds since 1970, where it is not the source's.
    pub timestamp: Option<i64>,
}

impl Copy {
    /// A plain copy of everything from `from` to `to`, to be narrowed by struct update.
    #[must_use]
    pub(crate) fn new(from: CopyFrom, to: ContainerPath) -> Self {
        Self {
            from,
            path: "/".to_owned(),
            to,
            into: false,
            owner: (0, 0),
            mode: None,
            exclude: Vec::new(),
            timestamp: None,
        }
    }
}

/// What files are copied from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyFrom {
    /// An earlier stage.
    Stage(StageId),
    /// Files on this machine.
    Context(Context),
    /// The contents of a tar archive that is downloaded.
    Archive(Download),
}

/// A directory on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Which: the engine is told where it lies.
    pub name: String,
    /// Patterns of what counts; everything when empty.
    pub include: Vec<String>,
    /// Patterns of what does not, in `.dockerignore`'s language.
    pub exclude: Vec<String>,
}

/// A file fetched by its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// Where it lies.
    pub url: String,
    /// Its digest.
    pub checksum: Digest,
    /// What it is called in the tree it makes.
    pub filename: String,
}

impl Plan {
    /// The stage of this name.
    #[must_use]
    pub fn stage_named(&self, name: &str) -> Option<StageId> {
        self.stages.iter().position(|stage| stage.name == name).map(StageId)
    }

    /// The stage with this id.
    #[must_use]
    pub fn stage(&self, id: StageId) -> &Stage {
        &self.stages[id.0]
    }
}

/// Collects stages; gives out ids only for stages that are there, so a plan cannot dangle.
#[derive(Debug, Default)]
pub(crate) struct Stages(Vec<Stage>);

impl Stages {
    pub(crate) fn add(&mut self, stage: Stage) -> StageId {
        self.0.push(stage);
        StageId(self.0.len() - 1)
    }

    pub(crate) fn named(&self, name: &str) -> Option<StageId> {
        self.0.iter().position(|stage| stage.name == name).map(StageId)
    }

    pub(crate) fn into_vec(self) -> Vec<Stage> {
        self.0
    }
}

/// A normal absolute path known at compile time.
pub(crate) fn path(text: &str) -> ContainerPath {
    text.parse().expect("a normal absolute path")
}
