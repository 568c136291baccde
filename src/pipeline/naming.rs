//! What an image is called: the repository it is pushed to and its tags.

use diag::{Diagnostic, codes};
use oci::{Reference, Repository, Tag};
use plan::Plan;
use recipe::{Name, Tier};

use crate::cli::Failure;

/// What the user says about names.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    /// `--tag`: full names with a tag, or just tags.
    pub tags: Vec<String>,
    /// `--repository`.
    pub repository: Option<Repository>,
    /// `GITHUB_REPOSITORY_OWNER`: the owner of packages pushed from GitHub Actions.
    pub github_owner: Option<String>,
}

/// An image's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// Names with tags; the first is the one shown. Never empty.
    references: Vec<Reference>,
    /// Whether any of them says where to push: a name that only exists here does not.
    pushable: bool,
}

impl ImageName {
    /// The names of a plan's image. Tags given replace the version; without a repository the image has a local name.
    ///
    /// # Errors
    /// A tag or name that is none.
    pub fn of(plan: &Plan, naming: &Naming) -> Result<Self, Failure> {
        Self::of_tier(plan, &plan.target.tier, naming)
    }

    /// The names that the image of another of the recipe's tiers has.
    ///
    /// # Errors
    /// As [`ImageName::of`].
    pub fn of_tier(plan: &Plan, tier: &Tier, naming: &Naming) -> Result<Self, Failure> {
        let suffix = plan.image.naming.suffix(tier);
        Self::named(&plan.target.name, &suffix, &plan.image.version, plan.image.repository.as_ref(), naming)
    }

    /// The names of the image of a recipe or base at a version, which its recipe may want in a repository. The image's
    /// own repository is the recipe's with a suffix.
    ///
    /// # Errors
    /// As [`ImageName::of`].
    pub fn named(
        target: &Name,
        suffix: &str,
        version: &str,
        repository: Option<&Repository>,
        naming: &Naming,
    ) -> Result<Self, Failure> {
        let github = naming.github_owner.as_ref().map(|owner| format!("ghcr.io/{}/{target}", owner.to_lowercase()));
        let known = naming
            .repository
            .clone()
            .or_else(|| repository.cloned())
            .or_else(|| github.and_then(|name| name.parse().ok()));
        let mut pushable = known.is_some();
        let known =
            known.unwrap_or_else(|| target.as_str().parse().expect("a recipe's name is a repository's component"));
        let repository: Repository = format!("{}{suffix}", known).parse().map_err(bad_name)?;
        let mut references = Vec::new();
        for tag in &naming.tags {
            // `name:tag` or `host/name` is a full name; a word alone is a tag.
            if tag.contains(['/', ':', '@']) {
                let reference: Reference = tag.parse().map_err(bad_name)?;
                pushable = true;
                let tag = reference.tag.clone().map_or_else(|| version_tag(version), Ok)?;
                references.push(reference.repository.with_tag(tag));
            } else {
                references.push(repository.with_tag(tag.parse().map_err(bad_name)?));
            }
        }
        if references.is_empty() {
            references.push(repository.with_tag(version_tag(version)?));
        }
        Ok(Self { references, pushable })
    }

    /// The names the user gives to an image that has no plan, or the one it is known by.
    ///
    /// # Errors
    /// A tag or name that is none, or no name at all.
    pub fn given(naming: &Naming, known: Option<&Reference>) -> Result<Self, Failure> {
        let repository = naming.repository.clone().or_else(|| known.map(|known| known.repository.clone()));
        let mut references = Vec::new();
        for tag in &naming.tags {
            if tag.contains(['/', ':', '@']) {
                references.push(tag.parse::<Reference>().map_err(bad_name)?);
            } else if let Some(repository) = &repository {
                references.push(repository.with_tag(tag.parse().map_err(bad_name)?));
            }
        }
        if let (true, Some(repository)) = (references.is_empty(), &repository) {
            let tag = known.and_then(|known| known.tag.clone());
            references.push(repository.with_tag(tag.map_or_else(|| version_tag("latest"), Ok)?));
        }
        if references.is_empty() {
            return Err(Diagnostic::new(codes::cli::NO_DESTINATION, "it is not said where to push")
                .help("name the repository and tag: `-t ghcr.io/OWNER/NAME:TAG`")
                .into());
        }
        let pushable = naming.repository.is_some() || !naming.tags.is_empty();
        Ok(Self { references, pushable })
    }

    /// The name shown.
    #[must_use]
    pub fn shown(&self) -> &Reference {
        self.references.first().expect("never empty")
    }

    /// Every name.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// The tags of each repository to push to, in the order named.
    ///
    /// # Errors
    /// No repository is known.
    pub fn destinations(&self) -> Result<Vec<(Repository, Vec<Tag>)>, Failure> {
        if !self.pushable {
            return Err(Diagnostic::new(
                codes::cli::NO_DESTINATION,
                format!("it is not said where to push `{}`", self.shown()),
            )
            .help("name the repository: `--repository ghcr.io/OWNER/NAME`, or `-t ghcr.io/OWNER/NAME:TAG`")
            .help("or once and for all in the recipe: `[image] repository = \"ghcr.io/OWNER/NAME\"`")
            .into());
        }
        let mut destinations: Vec<(Repository, Vec<Tag>)> = Vec::new();
        for reference in &self.references {
            let tag = reference.tag.clone().expect("names of images carry a tag");
            match destinations.iter_mut().find(|(repository, _)| *repository == reference.repository) {
                Some((_, tags)) if tags.contains(&tag) => {}
                Some((_, tags)) => tags.push(tag),
                None => destinations.push((reference.repository.clone(), vec![tag])),
            }
        }
        Ok(destinations)
    }
}

fn version_tag(version: &str) -> Result<Tag, Failure> {
    // Build metadata's `+` is not allowed in tags; `-` is what everyone writes instead.
    version.replace('+', "-").parse().map_err(bad_name)
}

fn bad_name(error: oci::ReferenceError) -> Failure {
    Diagnostic::new(codes::cli::USAGE, error.to_string()).into()
}
