//! The bases there are, and what stands on what.

use std::collections::BTreeMap;

use diag::{Source, Spanned, codes, did_you_mean};
use recipe::{Base, BaseParent, Name, RecipeError};

use crate::PlanError;

/// All bases a recipe may stand on.
#[derive(Clone, Debug, Default)]
pub struct Project {
    bases: BTreeMap<Name, Base>,
}

impl Project {
    /// A project with these bases.
    ///
    /// # Errors
    /// Two bases of one name.
    pub fn new(bases: impl IntoIterator<Item = Base>) -> Result<Self, PlanError> {
        let mut project = Self::default();
        for base in bases {
            let (source, name) = (base.source.clone(), base.name.clone());
            if let Some(first) = project.bases.insert(name.value.clone(), base) {
                return Err(RecipeError::at(
                    codes::recipe::DUPLICATE,
                    &source,
                    name.span,
                    format!("base `{}` is defined twice", name.value),
                )
                .also(&first.source, first.name.span, "first here")
                .into());
            }
        }
        Ok(project)
    }

    /// Every base, by name.
    pub fn bases(&self) -> impl Iterator<Item = &Base> {
        self.bases.values()
    }

    /// The base of this name.
    #[must_use]
    pub fn base(&self, name: &Name) -> Option<&Base> {
        self.bases.get(name)
    }

    /// The base asked for and all it stands on, lowest first.
    ///
    /// # Errors
    /// An unknown base, or a circle.
    pub fn chain(&self, asked: &Spanned<Name>, source: &Source) -> Result<Vec<&Base>, PlanError> {
        let mut chain: Vec<&Base> = Vec::new();
        let (mut next, mut place) = (asked.value.clone(), (source.clone(), asked.span));
        loop {
            if let Some(start) = chain.iter().position(|base| base.name.value == next) {
                let names: Vec<&str> =
                    chain[start..].iter().map(|base| base.name.value.as_str()).chain([next.as_str()]).collect();
                return Err(RecipeError::at(
                    codes::recipe::CYCLE,
                    &place.0,
                    place.1,
                    format!("bases stand on each other: {}", names.join(" -> ")),
                )
                .mark("the circle closes here")
                .help("let one of them start from nothing by removing its `from`")
                .into());
            }
            let Some(base) = self.bases.get(&next) else {
                return Err(self.unknown(&next, &place).into());
            };
            if !base.is_pinned() {
                return Err(unpinned(base).into());
            }
            chain.push(base);
            match &base.parent.value {
                BaseParent::Scratch | BaseParent::Image(_) => break,
                BaseParent::Base(parent) => {
                    next = parent.clone();
                    place = (base.source.clone(), base.parent.span);
                }
            }
        }
        chain.reverse();
        Ok(chain)
    }

    fn unknown(&self, name: &Name, place: &(Source, diag::Span)) -> RecipeError {
        let names: Vec<&str> = self.bases.keys().map(Name::as_str).collect();
        let error =
            RecipeError::at(codes::recipe::UNKNOWN_BASE, &place.0, place.1, format!("base `{name}` is not defined"));
        match did_you_mean(name.as_str(), names.iter().copied()) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help(format!("bases there are: {}", names.join(", "))),
        }
    }
}

fn unpinned(base: &Base) -> RecipeError {
    let BaseParent::Image(image) = &base.parent.value else { unreachable!("only images are named by tags") };
    let message = format!("base `{}` stands on `{image}`, whose content may change any day", base.name.value);
    RecipeError::at(codes::recipe::UNPINNED_IMAGE, &base.source, base.parent.span, message)
        .mark("no digest")
        .help(format!("`docker buildx imagetools inspect {image}` prints the digest: write it here, after an `@`"))
        .help("or let the recipe's `[build] toolchain` name another base")
}
