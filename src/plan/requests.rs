//! What a recipe and its bases ask of the outside world.

use oci::Platform;
use recipe::{
    Base, DebianRequest, Language, Name, NpmRequest, NpmRequirement, Profile, Recipe, RecipeError, SourceSpec, Tier,
};

use crate::init::{INIT_BASE, INIT_TARGET_BASE};
use crate::{PlanError, Project};

/// What owners of bases' Debian sets begin with.
pub const DEBIAN_OWNER_BASE: &str = "base/";

/// Every request, each once. The same on every machine: all platforms of the recipe are asked for, whichever is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// npm packages.
    pub npm: Vec<NpmRequest>,
    /// Sets of Debian packages; a set comes after the one it lies on.
    pub debian: Vec<DebianRequest>,
}

impl Requests {
    /// What `recipe` and its bases ask for.
    ///
    /// # Errors
    /// Unknown or circular bases.
    pub fn of(recipe: &Recipe, project: &Project) -> Result<Self, PlanError> {
        let mut requests = Self::default();
        let platforms: Vec<Platform> = recipe.platforms.iter().map(|platform| platform.value).collect();
        let chain = project.chain(&recipe.image.base, &recipe.source)?;
        crate::custom::check(recipe, project)?;
        check_packages(recipe, &chain)?;
        requests.chain(&chain, &platforms);
        requests.packages(recipe, &chain, &platforms);
        for base in recipe.tiers().flat_map(|tier| crate::custom::bases_of(recipe, &tier)) {
            requests.chain(&project.chain(&base, &recipe.source)?, &platforms);
        }
        for init in [INIT_BASE, INIT_TARGET_BASE] {
            let init = diag::Spanned::new(init.parse().expect("a name"), recipe.image.base.span);
            requests.chain(&project.chain(&init, &recipe.source)?, &platforms);
        }
        if let SourceSpec::Npm { package, version } = &recipe.origin.value {
            requests.npm(&package.value, &version.value, (recipe.source.clone(), version.span));
        }
        match &recipe.build.language.value {
            Language::Node { .. } => {
                let (tool, base) = crate::node::pnpm(recipe, &chain)?;
                for platform in &platforms {
                    let package = tool.package_for(platform.architecture);
                    requests.npm(&package, &tool.version.value, (base.source.clone(), tool.version.span));
                }
            }
            Language::Custom => {}
        }
        Ok(requests)
    }

    /// What a base and those it stands on ask for.
    ///
    /// # Errors
    /// A circle.
    pub fn of_base(project: &Project, name: &Name, platforms: &[Platform]) -> Result<Self, PlanError> {
        let mut requests = Self::default();
        if let Some(base) = project.base(name) {
            requests.chain(&project.chain(&base.name, &base.source)?, platforms);
        }
        Ok(requests)
    }

    fn npm(&mut self, package: &str, requirement: &NpmRequirement, place: recipe::Place) {
        let known = self.npm.iter().any(|known| known.package == package && known.requirement == *requirement);
        if !known {
            self.npm.push(NpmRequest { package: package.to_owned(), requirement: requirement.clone(), place });
        }
    }

    fn chain(&mut self, chain: &[&Base], platforms: &[Platform]) {
        for (depth, base) in chain.iter().enumerate() {
            for platform in platforms {
                if let Some(request) = base_request(base, &chain[..depth], *platform) {
                    self.debian(request);
                }
                for unpack in &base.unpack {
                    let package = unpack.package_for(platform.architecture);
                    self.npm(&package, &unpack.version.value, (base.source.clone(), unpack.version.span));
                }
            }
        }
    }

    fn packages(&mut self, recipe: &Recipe, chain: &[&Base], platforms: &[Platform]) {
        for platform in platforms {
            if let Some(request) = recipe_request(recipe, chain, *platform) {
                self.debian(request);
            }
            for profile in &recipe.profiles {
                // A set comes after those it lies on.
                let tier = Tier::Profile(profile.name.value.clone());
                let sets = recipe.profiles_of(&tier).into_iter();
                sets.filter_map(|one| profile_request(recipe, one, chain, *platform)).for_each(|set| self.debian(set));
            }
        }
    }

    fn debian(&mut self, request: DebianRequest) {
        if !self.debian.iter().any(|known| known.owner == request.owner && known.platform == request.platform) {
            self.debian.push(request);
        }
    }

    /// Adds what another recipe asks.
    pub fn merge(&mut self, other: Self) {
        for request in other.npm {
            self.npm(&request.package, &request.requirement, request.place);
        }
        other.debian.into_iter().for_each(|request| self.debian(request));
    }
}

/// The owner of the nearest Debian set below the top of `below`.
fn nearest(below: &[&Base]) -> Option<String> {
    below.iter().rev().find(|base| base.debian.is_some()).map(|base| owner(base))
}

pub(crate) fn owner(base: &Base) -> String {
    format!("{DEBIAN_OWNER_BASE}{}", base.name.value)
}

fn texts(items: &[diag::Spanned<String>]) -> Vec<String> {
    items.iter().map(|item| item.value.clone()).collect()
}

pub(crate) fn base_request(base: &Base, below: &[&Base], platform: Platform) -> Option<DebianRequest> {
    let set = base.debian.as_ref()?;
    Some(DebianRequest {
        owner: owner(base),
        platform,
        archive: set.archive.value.clone(),
        suites: texts(&set.suites),
        components: texts(&set.components),
        keys: texts(&set.keys),
        wanted: texts(&set.packages),
        exclude: texts(&set.exclude),
        below: nearest(below),
        slim: set.slim,
        place: (base.source.clone(), set.archive.span),
    })
}

/// The recipe's own packages, resolved in the archive of the nearest base that has one.
pub(crate) fn recipe_request(recipe: &Recipe, chain: &[&Base], platform: Platform) -> Option<DebianRequest> {
    let first = recipe.image.packages.first()?;
    let set = chain.iter().rev().find_map(|base| base.debian.as_ref())?;
    Some(DebianRequest {
        owner: recipe.name.value.to_string(),
        platform,
        archive: set.archive.value.clone(),
        suites: texts(&set.suites),
        components: texts(&set.components),
        keys: texts(&set.keys),
        wanted: texts(&recipe.image.packages),
        exclude: texts(&set.exclude),
        below: nearest(chain),
        slim: set.slim,
        place: (recipe.source.clone(), first.span),
    })
}

/// A profile's packages, resolved in the same archive on top of what the tiers below have.
pub(crate) fn profile_request(
    recipe: &Recipe,
    profile: &Profile,
    chain: &[&Base],
    platform: Platform,
) -> Option<DebianRequest> {
    let first = profile.packages.first()?;
    let set = chain.iter().rev().find_map(|base| base.debian.as_ref())?;
    let owner = |profile: &Profile| recipe.target(&Tier::Profile(profile.name.value.clone())).to_string();
    let profiles = recipe.profiles_of(&Tier::Profile(profile.name.value.clone()));
    let (_, below) = profiles.split_last()?;
    let below = below.iter().rev().find(|one| !one.packages.is_empty()).map(|one| owner(one));
    let runtime = || (!recipe.image.packages.is_empty()).then(|| recipe.name.value.to_string());
    Some(DebianRequest {
        owner: owner(profile),
        platform,
        archive: set.archive.value.clone(),
        suites: texts(&set.suites),
        components: texts(&set.components),
        keys: texts(&set.keys),
        wanted: texts(&profile.packages),
        exclude: texts(&set.exclude),
        below: below.or_else(runtime).or_else(|| nearest(chain)),
        slim: set.slim,
        place: (recipe.source.clone(), first.span),
    })
}

/// Whether a set of this owner is a profile's.
pub(crate) fn is_profile(owner: &str) -> bool {
    owner.contains(':')
}

/// Packages without a Debian base under them.
fn check_packages(recipe: &Recipe, chain: &[&Base]) -> Result<(), RecipeError> {
    let profiles = recipe.profiles.iter().flat_map(|profile| &profile.packages);
    match recipe.image.packages.iter().chain(profiles).next() {
        Some(first) if !chain.iter().any(|base| base.debian.is_some()) => Err(RecipeError::at(
            diag::codes::recipe::BAD_VALUE,
            &recipe.source,
            first.span,
            format!("base `{}` has no Debian archive to take packages from", recipe.image.base.value),
        )),
        _ => Ok(()),
    }
}
