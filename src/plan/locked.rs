//! A recipe whose every outside input is pinned.

use diag::{Source, Spanned, codes};
use oci::Platform;
use recipe::{
    Base, DebianRequest, Language, Lock, LockedRelease, Name, Recipe, RecipeError, Registry, ReleaseRequest,
    SourceSpec, Stale, Tier,
};
use semver::{Version, VersionReq};

use crate::bases::locked_chain;
use crate::init::{INIT_BASE, INIT_TARGET_BASE};
use crate::language::{CargoLock, ZigManifest};
use crate::source::LockedSource;
use crate::{ArchiveSet, Checkout, Epoch, LockedBase, PlanError, Project, Requests, language, requests, source, tier};

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
    /// What the lock has for the program's source.
    pub(crate) source: LockedSource<'a>,
    /// The crates of a Rust program, once its lock file was read.
    crates: ArchiveSet,
    /// What a Zig program depends on, once its manifest was read.
    pub(crate) zig: ZigManifest,
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
        if let Some(stale) = requests.unanswered(lock).into_iter().next() {
            return Err(stale.into());
        }
        let answered = "every request was checked against the lock";
        let source = match (source::release_request(recipe), source::git_request(recipe)) {
            (Some(request), _) => LockedSource::Release(lock.release(&request).expect(answered)),
            (None, Some(request)) => LockedSource::Commit(lock.commit(&request).expect(answered)),
            (None, None) => LockedSource::Nothing,
        };
        let crates = CargoLock::default().archives(recipe.name.value.as_str());
        let (tier, image) = (Tier::Runtime, recipe.at(&Tier::Runtime));
        let zig = ZigManifest::default();
        Ok(Self { recipe, project, lock, chain, requests, ignore, source, crates, zig, tier, image, config: None })
    }

    /// The recipe with the lock file its language has, which says what the program depends on.
    ///
    /// # Errors
    /// A file that is not what it should be.
    pub fn with_lock_file(mut self, text: &Source) -> Result<Self, PlanError> {
        match &self.recipe.build.language.value {
            Language::Rust(_) => {
                self.crates = CargoLock::parse(text)?.archives(self.recipe.name.value.as_str());
            }
            Language::Zig(_) => self.zig = ZigManifest::parse(text.text()),
            // pnpm and go read theirs by themselves.
            Language::Node(_) | Language::Go(_) | Language::EspIdf(_) | Language::Custom => {}
        }
        Ok(self)
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
        let written = |version: &Option<Spanned<String>>| version.as_ref().map(|version| version.value.clone());
        match (&self.recipe.origin.value, self.source) {
            (SourceSpec::Archive { version, .. }, _) => version.value.clone(),
            (SourceSpec::Release { .. }, LockedSource::Release(release)) => {
                // Go's versions begin with a `v`, which is no part of a version elsewhere.
                let is_go = release.registry == Registry::Go;
                release.version.strip_prefix('v').filter(|_| is_go).unwrap_or(&release.version).to_owned()
            }
            (SourceSpec::Git { reference, version, .. }, LockedSource::Commit(commit)) => written(version)
                .or_else(|| reference.value.version().map(str::to_owned))
                .unwrap_or_else(|| format!("0.0.0-{}", &commit.commit[..12.min(commit.commit.len())])),
            (SourceSpec::Path { version, .. }, _) => written(version).unwrap_or_else(|| "0.0.0".to_owned()),
            (SourceSpec::Release { .. } | SourceSpec::Git { .. }, _) => unreachable!("a source has its own answer"),
        }
    }

    /// The newest time anything in the image may carry, unless the caller knows better: when the program was
    /// published or committed, or when its Debian archive was.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        let archive = || {
            // What a profile adds later changes nothing of the runtime.
            let sets = self.requests.debian.iter().filter(|request| !requests::is_profile(&request.owner));
            sets.filter_map(|request| self.lock.debian(request).ok()).map(|set| set.epoch).max()
        };
        Epoch(match self.source {
            LockedSource::Release(release) => release.published,
            LockedSource::Commit(commit) => commit.committed,
            LockedSource::Nothing => archive().unwrap_or(0),
        })
    }

    /// The answer to a request made while checking.
    pub(crate) fn release(&self, request: &ReleaseRequest) -> &'a LockedRelease {
        self.lock.release(request).expect("every request was checked against the lock")
    }

    /// The crates of a Rust program.
    pub(crate) fn crates(&self) -> &ArchiveSet {
        &self.crates
    }

    /// The archives whose files a plan takes from layers that clawbuild makes itself.
    #[must_use]
    pub fn archives(&self) -> Vec<ArchiveSet> {
        let source = match self.source {
            LockedSource::Release(release) => ArchiveSet::of_release(release),
            LockedSource::Commit(_) | LockedSource::Nothing => None,
        };
        let crates = match &self.recipe.build.language.value {
            Language::Rust(_) => Some(self.crates.clone()),
            Language::Node(_) | Language::Go(_) | Language::Zig(_) | Language::EspIdf(_) | Language::Custom => None,
        };
        source.into_iter().chain(crates).collect()
    }

    /// The commits whose files a plan needs.
    #[must_use]
    pub fn checkouts(&self) -> Vec<Checkout> {
        let source = match self.source {
            LockedSource::Commit(locked) => Some(Checkout { url: locked.url.clone(), commit: locked.commit.clone() }),
            LockedSource::Release(_) | LockedSource::Nothing => None,
        };
        source.into_iter().chain(self.zig.checkouts()).collect()
    }

    /// The archive of the source, where the engine downloads it by itself.
    #[must_use]
    pub fn source_archive(&self) -> Option<&str> {
        match (&self.recipe.origin.value, self.source) {
            (SourceSpec::Archive { url, .. }, _) => Some(&url.value),
            (SourceSpec::Release { .. }, LockedSource::Release(release))
                if ArchiveSet::of_release(release).is_none() =>
            {
                Some(&release.url)
            }
            _ => None,
        }
    }

    /// The requests for the Debian packages of the recipe's own and of the profiles under the image, lower ones first.
    #[must_use]
    pub fn packages(&self, platform: Platform) -> Vec<DebianRequest> {
        let own = requests::recipe_request(self.recipe, &self.chain, platform);
        let profiles = self.recipe.profiles_of(&self.tier).into_iter();
        let above = profiles.filter_map(|one| requests::profile_request(self.recipe, one, &self.chain, platform));
        own.into_iter().chain(above).collect()
    }

    /// The request for the Debian packages compiling needs, if the recipe names any.
    #[must_use]
    pub fn build_packages(&self, target: Platform) -> Option<DebianRequest> {
        let toolchain = language::toolchain(self.recipe)?;
        let chain = self.project.chain(&toolchain, &self.recipe.source).ok()?;
        requests::build_request(self.recipe, &chain, target)
    }

    /// Every request for Debian packages a plan needs as layers of their own.
    #[must_use]
    pub fn package_layers(&self, target: Platform) -> Vec<DebianRequest> {
        self.packages(target).into_iter().chain(self.build_packages(target)).collect()
    }

    /// The bases an image for `target` built on `build` needs, each once, lower ones first.
    ///
    /// # Errors
    /// Unknown or circular bases.
    pub fn bases(&self, build: Platform, target: Platform) -> Result<Vec<LockedBase<'a>>, PlanError> {
        let mut bases: Vec<LockedBase<'a>> = Vec::new();
        for (name, platform) in self.named_bases(build, target) {
            for base in locked_chain(self.project, &name, &self.recipe.source, platform, self.lock)? {
                if !bases.iter().any(|known| known.base.name == base.base.name && known.platform == base.platform) {
                    bases.push(base);
                }
            }
        }
        Ok(bases)
    }

    /// The bases that plans for `target` on `build` name themselves. One may come several times.
    pub(crate) fn named_bases(&self, build: Platform, target: Platform) -> Vec<(Spanned<Name>, Platform)> {
        let own = &self.recipe.image.base;
        let init = |name: &str| Spanned::new(name.parse::<Name>().expect("a name"), own.span);
        let is_cross = build != target;
        let steps = match &self.recipe.build.language.value {
            Language::Node(_) => language::toolchain(self.recipe).or_else(|| Some(own.clone())),
            Language::EspIdf(_) => return vec![(own.clone(), build)],
            Language::Rust(_) | Language::Go(_) | Language::Zig(_) | Language::Custom => {
                language::toolchain(self.recipe)
            }
        };
        let for_target = [Some(init(INIT_TARGET_BASE)), language::target_base(self.recipe)];
        let for_target = for_target.into_iter().flatten().filter(|_| is_cross).map(|name| (name, target));
        let custom =
            crate::custom::bases_of(self.recipe, &self.tier).into_iter().chain(steps).map(|name| (name, build));
        [(own.clone(), target), (init(INIT_BASE), build)].into_iter().chain(for_target).chain(custom).collect()
    }

    /// Who resolves the program's dependencies, such as `pnpm 12.21.0`.
    #[must_use]
    pub fn package_manager(&self) -> String {
        match &self.recipe.build.language.value {
            Language::Node(node) => match language::Manager::of(self.recipe, node, &self.chain) {
                Ok(manager) => {
                    let request = manager.request(self.recipe.platforms[0].value.architecture);
                    format!("pnpm {}", self.release(&request).version)
                }
                Err(_) => String::new(),
            },
            Language::Rust(_) => "cargo".to_owned(),
            Language::Zig(_) => "zig".to_owned(),
            Language::Go(_) | Language::EspIdf(_) | Language::Custom => String::new(),
        }
    }

    /// What the dependencies are the closure of, such as `openclaw 2026.9.6`.
    #[must_use]
    pub fn dependency_root(&self) -> String {
        match (self.source, &self.recipe.build.language.value) {
            (LockedSource::Release(release), _) => format!("{} {}", release.package, release.version),
            (LockedSource::Commit(commit), _) => format!("{} {}", commit.url, commit.commit),
            (LockedSource::Nothing, Language::Node(_)) => "package.json".to_owned(),
            (LockedSource::Nothing, _) => "the source".to_owned(),
        }
    }

    /// The base under the image.
    pub(crate) fn base(&self, platform: Platform) -> LockedBase<'a> {
        LockedBase::new(&self.chain, platform, self.lock)
    }
}

impl Requests {
    /// Those the lock does not answer, in order.
    #[must_use]
    pub fn unanswered(&self, lock: &Lock) -> Vec<Stale> {
        let releases = self.releases.iter().filter_map(|request| lock.release(request).err());
        let commits = self.commits.iter().filter_map(|request| lock.commit(request).err());
        let debian = self.debian.iter().filter_map(|request| lock.debian(request).err());
        releases.chain(commits).chain(debian).collect()
    }
}

impl LockedRecipe<'_> {
    /// Checks that the bases bring the tool versions the recipe asks for.
    pub(crate) fn check_requirements(&self) -> Result<(), PlanError> {
        for (tool, requirement) in &self.recipe.build.requires {
            let toolchain = language::toolchain(self.recipe);
            let toolchain = toolchain.and_then(|name| self.project.chain(&name, &self.recipe.source).ok());
            let chain = self.chain.iter().copied().chain(toolchain.into_iter().flatten()).collect::<Vec<_>>();
            let provided = chain.iter().rev().find_map(|base| base.provides.get(tool).map(|version| (*base, version)));
            let unmet =
                |why: String| RecipeError::at(codes::recipe::UNMET_TOOL, &self.recipe.source, requirement.span, why);
            let Some((base, version)) = provided else {
                let name = language::toolchain(self.recipe).unwrap_or_else(|| self.recipe.image.base.clone());
                let why = format!("base `{}` does not bring `{tool}`", name.value);
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
