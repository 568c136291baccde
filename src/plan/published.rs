//! Images that clawbuild published, for builds that can have bases and Debian layers from nowhere else.

use std::collections::BTreeMap;

use diag::{Diagnostic, Reported, Source, Span, codes};
use oci::{Digest, Platform};
use recipe::{Base, BaseParent, DebianRequest, Lock, TargetName};
use serde_json::{Value, json};

use crate::bases::locked_chain;
use crate::{Ground, ImagePlace, LockedBase, LockedRecipe, PlanError, requests};

/// An image somebody names in place of what the lock has.
pub type GivenImage = (Digest, ImagePlace);

/// What a plan stands on, all of it out of registries or the hands of a client.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The images.
    pub ground: Ground,
    /// Where they are.
    pub places: BTreeMap<Digest, ImagePlace>,
}

/// Why a plan has nothing to stand on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishedError {
    /// It cannot be said what it stands on.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// These images are not published, in the order they are needed.
    #[error("{} images are not published", .0.len())]
    Missing(Vec<Unpublished>),
}

/// An image that is nowhere to be had, or only an old one of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpublished {
    /// Whose image: `base/node`, or a recipe's name for its packages.
    pub owner: String,
    /// For what.
    pub platform: Platform,
    /// The image that needs it.
    pub target: TargetName,
    /// Whether one was published that was made of other inputs.
    pub is_outdated: bool,
    /// Who needs it.
    pub place: (Source, Span),
}

impl Reported for Unpublished {
    fn diagnostic(&self) -> Diagnostic {
        let Self { owner, platform, target, is_outdated, place } = self;
        let what = match owner.starts_with(requests::DEBIAN_OWNER_BASE) {
            true => format!("`{owner}`"),
            false => format!("the Debian packages of `{owner}`"),
        };
        let (message, label) = match is_outdated {
            true => (
                format!("what clawbuild.lock has published of {what} for {platform} is out of date"),
                "it was made of other inputs than are locked now",
            ),
            false => (format!("clawbuild.lock does not say where {what} for {platform} is published"), "needed here"),
        };
        Diagnostic::new(codes::lock::UNPUBLISHED, message)
            .label(&place.0, place.1, label)
            .help(format!("run `clawbuild publish {target} --repository REGISTRY/NAME` and commit clawbuild.lock"))
    }
}

impl LockedBase<'_> {
    /// The digest of everything its image is made of. Two bases of one digest have the same image.
    #[must_use]
    pub fn inputs(&self) -> Digest {
        let chain = self.below.iter().chain([&self.base]).enumerate();
        let chain: Vec<Value> = chain.map(|(depth, base)| self.own_inputs(base, &self.below[..depth])).collect();
        digest(&json!({
            "name": self.base.name.value.as_str(),
            "summary": self.base.summary,
            "epoch": self.epoch().0,
            "bases": chain,
        }))
    }

    fn own_inputs(&self, base: &Base, below: &[&Base]) -> Value {
        let image = match &base.parent.value {
            BaseParent::Image(reference) => Some(reference.to_string()),
            BaseParent::Scratch | BaseParent::Base(_) => None,
        };
        let packages = requests::base_request(base, below, self.platform);
        let unpacked = base.unpack.iter().filter_map(|unpack| {
            let pinned = self.release(unpack, &base.source)?;
            let files = unpack.files.iter().map(|file| json!([file.from.value, file.to.value.as_str()]));
            Some(json!({ "archive": pinned.sha256.to_string(), "files": files.collect::<Vec<_>>() }))
        });
        json!({
            "image": image,
            "packages": packages.map(|request| set_inputs(self.lock, &request)),
            "unpacked": unpacked.collect::<Vec<_>>(),
        })
    }
}

/// What a layer of Debian packages is made of, the sets it lies on included: what it holds depends on what they have.
fn set_inputs(lock: &Lock, request: &DebianRequest) -> Value {
    let mut sets = Vec::new();
    let mut next = lock.debian(request).ok();
    while let Some(set) = next {
        let packages: Vec<String> = set.packages.iter().map(|package| package.sha256.to_string()).collect();
        sets.push(json!({ "epoch": set.epoch, "packages": packages }));
        next = set.below.as_deref().and_then(|owner| lock.debian_of(owner, set.platform));
    }
    json!({ "slim": request.slim, "sets": sets })
}

fn digest(inputs: &Value) -> Digest {
    Digest::of(inputs.to_string())
}

impl<'a> LockedRecipe<'a> {
    /// The bases that plans for `target` on `build` name themselves, each once; what these stand on is not among them.
    ///
    /// # Errors
    /// Unknown or circular bases.
    pub fn stands_on(&self, build: Platform, target: Platform) -> Result<Vec<(LockedBase<'a>, Span)>, PlanError> {
        let mut bases: Vec<(LockedBase<'a>, Span)> = Vec::new();
        for (name, platform) in self.named_bases(build, target) {
            let chain = locked_chain(self.project, &name, &self.recipe.source, platform, self.lock)?;
            let base = chain.into_iter().next_back().expect("a chain holds at least the base asked for");
            if !bases.iter().any(|(known, _)| known.base.name == base.base.name && known.platform == platform) {
                bases.push((base, name.span));
            }
        }
        Ok(bases)
    }

    /// The layers of Debian packages the image needs: what each is made of. Sets that added nothing have none.
    #[must_use]
    pub fn packages_inputs(&self, platform: Platform) -> Vec<(DebianRequest, Digest)> {
        let inputs = |request: DebianRequest| {
            self.lock.debian(&request).ok().filter(|set| !set.packages.is_empty())?;
            let inputs = digest(&set_inputs(self.lock, &request));
            Some((request, inputs))
        };
        self.package_layers(platform).into_iter().filter_map(inputs).collect()
    }

    /// What a plan for `target` on `build` stands on, out of what is given and what the lock has as published.
    ///
    /// # Errors
    /// [`PublishedError`].
    pub fn published(
        &self,
        build: Platform,
        target: Platform,
        given: &dyn Fn(&str, Platform) -> Option<GivenImage>,
    ) -> Result<Published, PublishedError> {
        let mut published = Published::default();
        let mut missing = Vec::new();
        let mut find = |owner: &str, platform: Platform, inputs: Digest, span: Span| {
            if let Some((digest, place)) = given(owner, platform) {
                published.places.insert(digest, place);
                return Some(digest);
            }
            let entry = self.lock.published(owner, platform);
            if let Some(entry) = entry.filter(|entry| entry.inputs == inputs) {
                let digest = entry.reference.digest.expect("locks hold references with a digest");
                published.places.insert(digest, ImagePlace::Repository(entry.reference.repository.clone()));
                return Some(digest);
            }
            missing.push(Unpublished {
                owner: owner.to_owned(),
                platform,
                target: self.recipe.target(&self.tier),
                is_outdated: entry.is_some(),
                place: (self.recipe.source.clone(), span),
            });
            None
        };
        let mut ground = Ground::default();
        for (base, span) in self.stands_on(build, target)? {
            if let Some(digest) = find(&requests::owner(base.base), base.platform, base.inputs(), span) {
                ground.images.insert((base.base.name.value.clone(), base.platform), digest);
            }
        }
        for (request, inputs) in self.packages_inputs(target) {
            if let Some(digest) = find(&request.owner, target, inputs, request.place.1) {
                ground.layers.insert((request.owner, target), digest);
            }
        }
        for set in self.archives() {
            let inputs = set.digest();
            if let Some(digest) = find(&set.owner(), target, inputs, self.recipe.origin.span) {
                ground.archives.insert(inputs, digest);
            }
        }
        match missing.as_slice() {
            [] => Ok(Published { ground, ..published }),
            [_, ..] => Err(PublishedError::Missing(missing)),
        }
    }
}
