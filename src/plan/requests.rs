//! What a recipe and its bases ask of the outside world.

use oci::Platform;
use recipe::{Base, DebianRequest, GitRequest, Language, Name, Profile, Recipe, RecipeError, ReleaseRequest, Tier};

use crate::init::{INIT_BASE, INIT_TARGET_BASE};
use crate::{PlanError, Project, language, source};

/// What owners of bases' Debian sets begin with.
pub const DEBIAN_OWNER_BASE: &str = "base/";

/// Every request, each once. The same on every machine: all platforms of the recipe are asked for, whichever is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Releases of languages' registries.
    pub releases: Vec<ReleaseRequest>,
    /// Commits of git repositories.
    pub commits: Vec<GitRequest>,
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
        if recipe.is_firmware() {
            requests.chain(&chain, &builders(&platforms));
            source::git_request(recipe).into_iter().for_each(|request| requests.commit(request));
            source::release_request(recipe).into_iter().for_each(|request| requests.release(request));
            return Ok(requests);
        }
        crate::custom::check(recipe, project)?;
        let profiles = recipe.profiles.iter().flat_map(|profile| &profile.packages);
        check_packages(recipe, recipe.image.packages.iter().chain(profiles), &chain)?;
        requests.chain(&chain, &platforms);
        requests.packages(recipe, &chain, &platforms);
        let named = |name: &str| diag::Spanned::new(name.parse().expect("a name"), recipe.image.base.span);
        let builders = builders(&platforms);
        let tiers = recipe.tiers().flat_map(|tier| crate::custom::bases_of(recipe, &tier));
        for base in tiers.chain([named(INIT_BASE)]).chain(language::toolchain(recipe)) {
            requests.chain(&project.chain(&base, &recipe.source)?, &builders);
        }
        for base in [named(INIT_TARGET_BASE)].into_iter().chain(language::target_base(recipe)) {
            requests.chain(&project.chain(&base, &recipe.source)?, &platforms);
        }
        if let Some(toolchain) = language::toolchain(recipe) {
            let chain = project.chain(&toolchain, &recipe.source)?;
            check_packages(recipe, &recipe.build.packages, &chain)?;
            let sets = platforms.iter().filter_map(|platform| build_request(recipe, &chain, *platform));
            sets.for_each(|request| requests.debian(request));
        }
        source::release_request(recipe).into_iter().for_each(|request| requests.release(request));
        source::git_request(recipe).into_iter().for_each(|request| requests.commit(request));
        match &recipe.build.language.value {
            Language::Node(node) => {
                let manager = language::Manager::of(recipe, node, &chain)?;
                for platform in &builders {
                    requests.release(manager.request(platform.architecture));
                }
            }
            Language::Rust(_) | Language::Go(_) | Language::Zig(_) | Language::EspIdf(_) | Language::Custom => {}
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

    fn release(&mut self, request: ReleaseRequest) {
        let is_same = |known: &ReleaseRequest| {
            (known.registry, &known.package, &known.requirement, known.architecture)
                == (request.registry, &request.package, &request.requirement, request.architecture)
        };
        if !self.releases.iter().any(is_same) {
            self.releases.push(request);
        }
    }

    fn commit(&mut self, request: GitRequest) {
        if !self.commits.iter().any(|known| known.url == request.url && known.reference == request.reference) {
            self.commits.push(request);
        }
    }

    fn chain(&mut self, chain: &[&Base], platforms: &[Platform]) {
        for (depth, base) in chain.iter().enumerate() {
            for platform in platforms {
                if let Some(request) = base_request(base, &chain[..depth], *platform) {
                    self.debian(request);
                }
                for unpack in &base.unpack {
                    self.release(unpack.archive.request(platform.architecture, &base.source));
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
        other.releases.into_iter().for_each(|request| self.release(request));
        other.commits.into_iter().for_each(|request| self.commit(request));
        other.debian.into_iter().for_each(|request| self.debian(request));
    }
}

/// The platforms that steps run on: compilers come for these, images are for more.
fn builders(targets: &[Platform]) -> Vec<Platform> {
    let known = [Platform::LINUX_AMD64, Platform::LINUX_ARM64];
    let wanted: Vec<Platform> = known.into_iter().filter(|platform| targets.contains(platform)).collect();
    if wanted.is_empty() { known.to_vec() } else { wanted }
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

/// The packages compiling needs, for the image's platform, on top of what the toolchain has for its own.
pub(crate) fn build_request(recipe: &Recipe, toolchain: &[&Base], platform: Platform) -> Option<DebianRequest> {
    let first = recipe.build.packages.first()?;
    let set = toolchain.iter().rev().find_map(|base| base.debian.as_ref())?;
    Some(DebianRequest {
        owner: format!("{} build", recipe.name.value),
        platform,
        archive: set.archive.value.clone(),
        suites: texts(&set.suites),
        components: texts(&set.components),
        keys: texts(&set.keys),
        wanted: texts(&recipe.build.packages),
        exclude: texts(&set.exclude),
        // What the toolchain stands on: the toolchain itself is not there for a platform that only programs are for.
        below: nearest(&toolchain[..toolchain.len() - 1]),
        slim: set.slim,
        place: (recipe.source.clone(), first.span),
    })
}

/// Whether a set of this owner is a profile's.
pub(crate) fn is_profile(owner: &str) -> bool {
    owner.contains(':')
}

/// Packages without a Debian base under them.
fn check_packages<'a>(
    recipe: &Recipe,
    packages: impl IntoIterator<Item = &'a diag::Spanned<String>>,
    chain: &[&Base],
) -> Result<(), RecipeError> {
    match packages.into_iter().next() {
        Some(first) if !chain.iter().any(|base| base.debian.is_some()) => {
            let base = chain.last().map_or("", |base| base.name.value.as_str());
            let message = format!("base `{base}` has no Debian archive to take packages from");
            Err(RecipeError::at(diag::codes::recipe::BAD_VALUE, &recipe.source, first.span, message))
        }
        _ => Ok(()),
    }
}
