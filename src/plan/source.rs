//! The source of a recipe's program as a tree.

use std::collections::BTreeMap;

use oci::{Digest, Platform};
use recipe::{GitRequest, LockedCommit, LockedRelease, Registry, SourceSpec};

use crate::archives::download;
use crate::stage::{Stages, path};
use crate::{
    ArchiveSet, Context, Copy, CopyFrom, Epoch, FileAction, From, Ground, LockedRecipe, Origin, Stage, StageId, Step,
    StepKind,
};

/// A commit whose files a plan needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checkout {
    /// The repository.
    pub url: String,
    /// The commit's id.
    pub commit: String,
}

/// Images of one layer that hold a commit's files, in [`Checkout::DIRECTORY`].
pub type Checkouts = BTreeMap<Checkout, Digest>;

impl Checkout {
    /// Where an image of [`Checkouts`] holds the files: the root of an image has no time of its own, a directory does.
    pub const DIRECTORY: &str = "/checkout";

    /// What a stage of its files starts from, and where they lie in it: an image where there is one, else whatever the
    /// engine fetches.
    pub(crate) fn from(&self, ground: &Ground, origin: Origin) -> (From, &'static str) {
        let Self { url, commit } = self;
        match ground.checkouts.get(self) {
            Some(manifest) => {
                let name = format!("checkouts/{commit}");
                (From::Layout { name, manifest: *manifest, origin }, Self::DIRECTORY)
            }
            None => (From::Git { url: url.clone(), commit: commit.clone(), origin }, "/"),
        }
    }
}

/// What the lock has for the program's source.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LockedSource<'a> {
    /// A release.
    Release(&'a LockedRelease),
    /// A commit.
    Commit(&'a LockedCommit),
    /// Nothing: the recipe itself says it all.
    Nothing,
}

/// Where a source's files lie.
#[derive(Clone, Debug)]
pub(crate) struct SourceTree {
    from: CopyFrom,
    /// The source's root in it.
    root: String,
}

impl SourceTree {
    /// The tree, unfiltered but for what the user has ignored and `exclude`.
    pub(crate) fn of(
        stages: &mut Stages,
        locked: &LockedRecipe<'_>,
        ground: &Ground,
        platform: Platform,
        exclude: &[&str],
    ) -> Self {
        let recipe = locked.recipe;
        let origin = Origin { source: recipe.source.clone(), span: recipe.origin.span };
        let whole = |from| Self { from, root: "/".to_owned() };
        match (&recipe.origin.value, locked.source) {
            (SourceSpec::Release { .. }, LockedSource::Release(release)) => match ArchiveSet::of_release(release) {
                Some(set) => whole(CopyFrom::Stage(set.stage(stages, ground, platform, origin))),
                None => {
                    let root = match release.registry {
                        Registry::Npm => "/package".to_owned(),
                        _ => format!("/{}-{}", release.package, release.version),
                    };
                    Self { from: CopyFrom::Archive(download(&release.url, release.sha256)), root }
                }
            },
            (SourceSpec::Git { url, .. }, LockedSource::Commit(commit)) => {
                let checkout = Checkout { url: url.value.clone(), commit: commit.commit.clone() };
                let (from, root) = checkout.from(ground, origin);
                let name = format!("{} checkout", recipe.name.value);
                let checkout = stages.named(&name).unwrap_or_else(|| {
                    let epoch = Epoch(commit.committed);
                    stages.add(Stage { name, platform, epoch, from, steps: Vec::new() })
                });
                Self { from: CopyFrom::Stage(checkout), root: root.to_owned() }
            }
            (SourceSpec::Archive { url, sha256, root, .. }, _) => {
                let from = CopyFrom::Archive(download(&url.value, sha256.value));
                Self { from, root: format!("/{root}") }
            }
            (SourceSpec::Path { .. } | SourceSpec::Release { .. } | SourceSpec::Git { .. }, _) => {
                whole(CopyFrom::Context(Context {
                    name: "source".to_owned(),
                    include: Vec::new(),
                    exclude: exclude.iter().map(|&pattern| pattern.to_owned()).chain(locked.ignore.clone()).collect(),
                }))
            }
        }
    }

    /// The tree narrowed to these patterns, where it lies on this machine: files that change then change nothing else.
    pub(crate) fn only(&self, patterns: &[&str]) -> Self {
        let mut narrow = self.clone();
        if let CopyFrom::Context(context) = &mut narrow.from {
            context.include = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        }
        narrow
    }

    /// What files are copied from, and the source's root in it.
    pub(crate) fn into_parts(self) -> (CopyFrom, String) {
        (self.from, self.root)
    }

    /// Everything, copied into `to`.
    pub(crate) fn copy(&self, to: &str) -> FileAction {
        FileAction::Copy(Copy { path: self.root.clone(), into: true, ..Copy::new(self.from.clone(), path(to)) })
    }

    /// One file or directory of it.
    pub(crate) fn part(&self, from: &str, to: &recipe::ContainerPath, epoch: Epoch) -> FileAction {
        FileAction::Copy(Copy {
            path: format!("{}/{from}", self.root.trim_end_matches('/')),
            timestamp: Some(epoch.0),
            ..Copy::new(self.from.clone(), to.clone())
        })
    }

    /// The tree as a stage of its own with the source's root on top.
    pub(crate) fn stage(
        &self,
        stages: &mut Stages,
        locked: &LockedRecipe<'_>,
        platform: Platform,
        more: Vec<FileAction>,
    ) -> StageId {
        let name = format!("{} source", locked.recipe.name.value);
        let origin = Origin { source: locked.recipe.source.clone(), span: locked.recipe.origin.span };
        let copy = self.copy("/");
        let actions = [copy].into_iter().chain(more).collect();
        let step = Step { name: "source".to_owned(), origin, kind: StepKind::Files(actions) };
        stages.add(Stage { name, platform, epoch: locked.epoch(), from: From::Scratch, steps: vec![step] })
    }
}

/// The request for a commit, if the program's source is one.
pub(crate) fn git_request(recipe: &recipe::Recipe) -> Option<GitRequest> {
    let SourceSpec::Git { url, reference, .. } = &recipe.origin.value else { return None };
    let place = (recipe.source.clone(), reference.span);
    Some(GitRequest { url: url.value.clone(), reference: reference.value.clone(), place })
}

/// The request for a release, if the program's source is one.
pub(crate) fn release_request(recipe: &recipe::Recipe) -> Option<recipe::ReleaseRequest> {
    let SourceSpec::Release { registry, package, version } = &recipe.origin.value else { return None };
    Some(recipe::ReleaseRequest {
        registry: *registry,
        package: package.value.clone(),
        requirement: version.value.clone(),
        architecture: None,
        place: (recipe.source.clone(), version.span),
    })
}
