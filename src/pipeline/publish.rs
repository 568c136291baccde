//! What frontends build on, in a registry: bases and the layers of recipes' own packages, recorded in the lock.

use std::collections::BTreeMap;

use diag::{Diagnostic, codes};
use oci::{Descriptor, Digest, Platform, Repository, Tag, media_type};
use plan::{LockedBase, LockedRecipe};
use recipe::{Lock, Name, PublishedImage};

use super::{Built, Pushed, Session, bases, push_image};
use crate::cli::Failure;
use crate::workspace::{LoadedRecipe, Workspace};

/// Where to publish, and for what.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// What every image's repository begins with.
    pub repository: Repository,
    /// Platforms that images are for and that builds run on; the recipe's where none is named.
    pub platforms: Vec<Platform>,
    /// Whether the registry may speak plain HTTP.
    pub insecure: bool,
}

/// An image to publish.
struct Wanted {
    owner: String,
    platform: Platform,
    manifest: Digest,
    inputs: Digest,
}

/// Pushes everything a frontend needs to build these recipes, and records it.
///
/// # Errors
/// Whatever stands in the way of building or pushing; or, where the lock must not change, that it would have to.
pub async fn publish(
    session: &Session,
    workspace: &Workspace,
    recipes: &[&LoadedRecipe],
    mut lock: Lock,
    options: &PublishOptions,
) -> Result<Vec<Pushed>, Failure> {
    let project = workspace.project()?;
    let mut wanted: BTreeMap<(String, Platform), Wanted> = BTreeMap::new();
    for loaded in recipes {
        let locked = super::locked(loaded, project, &lock)?;
        let own: Vec<Platform> = loaded.recipe.platforms.iter().map(|platform| platform.value).collect();
        let platforms = if options.platforms.is_empty() { &own } else { &options.platforms };
        for (build, target) in platforms.iter().flat_map(|build| platforms.iter().map(|target| (*build, *target))) {
            for image in images(session, &lock, &locked, build, target).await? {
                wanted.insert((image.owner.clone(), image.platform), image);
            }
        }
    }
    let mut pushes = Vec::new();
    for image in wanted.into_values() {
        let path = plan::layer_repository(&image.owner);
        let repository: Repository = format!("{}/{path}", options.repository).parse().map_err(bad_name)?;
        let size = session.store().blob_size(&image.manifest).expect("it was just built");
        let root = Descriptor::new(media_type::MANIFEST, image.manifest, size);
        lock.put_published(image.at(&repository));
        pushes.push((root, (repository, vec![tag(image.platform, &image.manifest)])));
    }
    let is_changed = is_changed(session, workspace, &lock)?;
    let mut pushed = Vec::new();
    for (root, destination) in pushes {
        pushed.extend(push_image(session, root, &[destination], &[], options.insecure).await?);
    }
    if is_changed {
        workspace.write_lock(&lock)?;
    }
    Ok(pushed)
}

/// What a plan for `target` on `build` stands on, built.
async fn images(
    session: &Session,
    lock: &Lock,
    locked: &LockedRecipe<'_>,
    build: Platform,
    target: Platform,
) -> Result<Vec<Wanted>, Failure> {
    let ground =
        bases::lay_ground(session, lock, &locked.bases(build, target)?, bases::Own::of(locked, target)).await?;
    let mut images = Vec::new();
    for (base, _) in locked.stands_on(build, target)? {
        let manifest = ground.images[&(base.base.name.value.clone(), base.platform)];
        images.push(Wanted { owner: owner(&base), platform: base.platform, manifest, inputs: base.inputs() });
    }
    for (request, inputs) in locked.packages_inputs(target) {
        let manifest = ground.layers[&(request.owner.clone(), target)];
        images.push(Wanted { owner: request.owner, platform: target, manifest, inputs });
    }
    for set in locked.archives() {
        let inputs = set.digest();
        images.push(Wanted { owner: set.owner(), platform: target, manifest: ground.archives[&inputs], inputs });
    }
    Ok(images)
}

/// Records a base that was pushed by itself, for each platform it was built for. Gives what there is to say of it.
///
/// # Errors
/// The lock cannot be written.
pub fn record_bases(
    session: &Session,
    workspace: &Workspace,
    mut lock: Lock,
    name: &Name,
    images: &[Built],
    repository: &Repository,
) -> Result<Option<String>, Failure> {
    // Pushing is one thing, what the lock says another: only the second was forbidden.
    if session.settings().locked {
        return Ok(None);
    }
    let known = lock.clone();
    for built in images {
        let chain = plan::locked_base(workspace.project()?, name, built.plan.platform, &known)?;
        let base = chain.last().expect("a chain holds at least the base asked for");
        let manifest = built.image.manifest.digest;
        let image = Wanted { owner: owner(base), platform: base.platform, manifest, inputs: base.inputs() };
        lock.put_published(image.at(repository));
    }
    if !is_changed(session, workspace, &lock)? {
        return Ok(None);
    }
    workspace.write_lock(&lock)?;
    Ok(Some(format!("locked base/{name}: published at {repository}")))
}

fn owner(base: &LockedBase<'_>) -> String {
    format!("{}{}", plan::DEBIAN_OWNER_BASE, base.base.name.value)
}

/// A tag that is never moved, so that no registry takes the image for garbage while a lock names it.
fn tag(platform: Platform, manifest: &Digest) -> Tag {
    let hex = manifest.hex();
    format!("{}-{}", platform.architecture, &hex[..12]).parse().expect("a tag")
}

fn bad_name(error: oci::ReferenceError) -> Failure {
    Diagnostic::new(codes::cli::USAGE, error.to_string()).into()
}

/// Whether the lock is not what is written.
///
/// # Errors
/// It is not, and it must not change.
fn is_changed(session: &Session, workspace: &Workspace, lock: &Lock) -> Result<bool, Failure> {
    let (known, _) = workspace.lock()?;
    let is_changed = known != *lock;
    if is_changed && session.settings().locked {
        return Err(Diagnostic::new(codes::lock::UNPUBLISHED, "clawbuild.lock would have to say what was published")
            .help("run the same command without `--locked` and commit clawbuild.lock")
            .into());
    }
    Ok(is_changed)
}

impl Wanted {
    fn at(&self, repository: &Repository) -> PublishedImage {
        PublishedImage {
            owner: self.owner.clone(),
            platform: self.platform,
            reference: repository.with_digest(self.manifest),
            inputs: self.inputs,
        }
    }
}
