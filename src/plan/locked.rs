//! A recipe whose every outside input is pinned.

use diag::{Spanned, codes};
use oci::Platform;
use recipe::{
    Base, DebianRequest, Lock, LockedNpm, Name, NpmRequest, NpmRequirement, Recipe, RecipeError, SourceSpec, Stale,
    Tier,
};
use semver::{Version, VersionReq};

use crate::bases::locked_chain;
use crate::init::{INIT_BASE, INIT_TARGET_BASE};
use crate::{Epoch, LockedBase, PlanError, Project, Requests, requests, tier};

/// A recipe together with the bases under it and a lock that answers all their requests.
#[derive(Clone, Debug)]
pub struct LockedRecipe<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The bases.
    pub project: &'a Project,
    /// The answers.
    pub(crate) lock: &'a Lock,
    /// The bases under the image, lowest first.
    pub(crate) chain: Vec<&'a Base>,
    /// What the recipe asks for.
    pub requests: Requests,
    /// Patterns of what does not count in the recipe's source directory, from its `.dockerignore`.
    pub(crate) ignore: Vec<String>,
    /// The program's own package, for npm sources.
    pub(crate) program: Option<&'a LockedNpm>,
    /// Which of the recipe's images is meant.
    pub(crate) tier: Tier,
    /// The recipe as that image has it.
    pub(crate) image: Recipe,
    /// The baked default of the configuration, where the tier changes it.
    pub(crate) config: Option<String>,
}

impl<'a> LockedRecipe<'a> {
    /// Checks that `lock` answers everything.
    ///
    /// # Errors
    /// The first mistake in the recipe, or the first request the lock does not answer.
    pub fn new(
        recipe: &'a Recipe,
        project: &'a Project,
        lock: &'a Lock,
        ignore: Vec<String>,
    ) -> Result<Self, PlanError> {
        let chain = project.chain(&recipe.image.base, &recipe.source)?;
        let requests = Requests::of(recipe, project)?;
        if let Some(stale) = stale(&requests, lock).into_iter().next() {
            return Err(stale.into());
        }
        let program = match &recipe.origin.value {
            SourceSpec::Npm { package, version } => Some(answer(lock, &package.value, &version.value)),
            SourceSpec::Path { .. } => None,
        };
        let (tier, image) = (Tier::Runtime, recipe.at(&Tier::Runtime));
        Ok(Self { recipe, project, lock, chain, requests, ignore, program, tier, image, config: None })
    }

    /// The same recipe with another of its images meant. `config` is the baked default of the configuration, where
    /// [`Recipe::changed_config`] asks for it.
    ///
    /// # Errors
    /// What an agent sets has no place in the default.
    pub fn at(self, tier: &Tier, config: Option<&str>) -> Result<Self, PlanError> {
        let agent = match tier {
            Tier::Runtime | Tier::Profile(_) => None,
            Tier::Agent(name) => self.recipe.agent(name),
        };
        let config = match (agent, self.recipe.changed_config(tier), config) {
            (Some(agent), Some(changed), Some(text)) => Some(tier::configured(changed, agent, text)?),
            _ => None,
        };
        Ok(Self { tier: tier.clone(), image: self.recipe.at(tier), config, ..self })
    }

    /// The version the image is tagged with.
    #[must_use]
    pub fn version(&self) -> String {
        match &self.recipe.origin.value {
            SourceSpec::Npm { .. } => self.program.expect("an npm source has a pinned package").version.clone(),
            SourceSpec::Path { version, .. } => {
                version.as_ref().map_or_else(|| "0.0.0".to_owned(), |v| v.value.clone())
            }
        }
    }

    /// The newest time anything in the image may carry, unless the caller knows better: when the program was
    /// published, or when its Debian archive was.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        let published = self.program.map(|program| program.published);
        let archive = || {
            // What a profile adds later changes nothing of the runtime.
            let sets = self.requests.debian.iter().filter(|request| !requests::is_profile(&request.owner));
            sets.filter_map(|request| self.lock.debian(request).ok()).map(|set| set.epoch).max()
        };
        Epoch(published.or_else(archive).unwrap_or(0))
    }

    /// The pinned npm package for a request made while checking.
    pub(crate) fn npm(&self, package: &str, requirement: &NpmRequirement) -> &'a LockedNpm {
        answer(self.lock, package, requirement)
    }

    /// The requests for the Debian packages of the recipe's own and of the profiles under the image, lower ones first.
    #[must_use]
    pub fn packages(&self, platform: Platform) -> Vec<DebianRequest> {
        let own = requests::recipe_request(self.recipe, &self.chain, platform);
        let profiles = self.recipe.profiles_of(&self.tier).into_iter();
        let above = profiles.filter_map(|one| requests::profile_request(self.recipe, one, &self.chain, platform));
        own.into_iter().chain(above).collect()
    }

    /// The bases an image for `target` built on `build` needs, each once, lower ones first.
    ///
    /// # Errors
    /// Unknown or circular bases.
    pub fn bases(&self, build: Platform, target: Platform) -> Result<Vec<LockedBase<'a>>, PlanError> {
        let span = self.recipe.image.base.span;
        let init = |name: &str| Spanned::new(name.parse::<Name>().expect("a name"), span);
        let own = self.recipe.image.base.clone();
        let custom = crate::custom::bases_of(self.recipe, &self.tier).into_iter();
        let asked = [(own.clone(), target), (own, build), (init(INIT_BASE), build)];
        let cross = (build != target).then(|| (init(INIT_TARGET_BASE), target));
        let mut bases: Vec<LockedBase<'a>> = Vec::new();
        for (name, platform) in asked.into_iter().chain(cross).chain(custom.map(|base| (base, build))) {
            for base in locked_chain(self.project, &name, &self.recipe.source, platform, self.lock)? {
                if !bases.iter().any(|known| known.base.name == base.base.name && known.platform == base.platform) {
                    bases.push(base);
                }
            }
        }
        Ok(bases)
    }

    /// Who resolves the program's dependencies, such as `pnpm 12.21.0`.
    #[must_use]
    pub fn package_manager(&self) -> String {
        match crate::node::pnpm(self.recipe, &self.chain) {
            Ok((tool, _)) => {
                let package = tool.package_for(self.recipe.platforms[0].value.architecture);
                format!("pnpm {}", self.npm(&package, &tool.version.value).version)
            }
            Err(_) => String::new(),
        }
    }

    /// What the dependencies are the closure of, such as `openclaw 2026.9.6`.
    #[must_use]
    pub fn dependency_root(&self) -> String {
        match &self.program {
            Some(program) => format!("{} {}", program.package, program.version),
            None => "package.json".to_owned(),
        }
    }

    /// The base under the image.
    pub(crate) fn base(&self, platform: Platform) -> LockedBase<'a> {
        LockedBase::new(&self.chain, platform, self.lock)
    }
}

/// Requests the lock does not answer, in order.
pub(crate) fn stale(requests: &Requests, lock: &Lock) -> Vec<Stale> {
    let npm = requests.npm.iter().filter_map(|request| lock.npm(request).err());
    let debian = requests.debian.iter().filter_map(|request| lock.debian(request).err());
    npm.chain(debian).collect()
}

impl Requests {
    /// Those the lock does not answer, in order.
    #[must_use]
    pub fn unanswered(&self, lock: &Lock) -> Vec<Stale> {
        stale(self, lock)
    }
}

fn answer<'a>(lock: &'a Lock, package: &str, requirement: &NpmRequirement) -> &'a LockedNpm {
    let place = (diag::Source::new("", ""), diag::Span::default());
    let request = NpmRequest { package: package.to_owned(), requirement: requirement.clone(), place };
    lock.npm(&request).expect("every request was checked against the lock")
}

impl LockedRecipe<'_> {
    /// Checks that the bases bring the tool versions the recipe asks for.
    pub(crate) fn check_requirements(&self) -> Result<(), PlanError> {
        for (tool, requirement) in &self.recipe.build.requires {
            let provided =
                self.chain.iter().rev().find_map(|base| base.provides.get(tool).map(|version| (*base, version)));
            let unmet =
                |why: String| RecipeError::at(codes::recipe::UNMET_TOOL, &self.recipe.source, requirement.span, why);
            let Some((base, version)) = provided else {
                let why = format!("base `{}` does not bring `{tool}`", self.recipe.image.base.value);
                return Err(unmet(why).into());
            };
            let wanted = requirement.value.parse::<VersionReq>().map_err(|error| unmet(error.to_string()))?;
            let has = Version::parse(&version.value).map_err(|error| {
                RecipeError::at(codes::recipe::BAD_VALUE, &base.source, version.span, error.to_string())
            })?;
            if !wanted.matches(&has) {
                return Err(unmet(format!(
                    "base `{}` brings {tool} {has}, the recipe asks for {wanted}",
                    base.name.value
                ))
                .also(&base.source, version.span, "brought here")
                .into());
            }
        }
        Ok(())
    }
}
