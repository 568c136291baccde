//! Looking recipes and finished images over for the conventions every image keeps.

mod elf;
mod image;
mod layer;
mod package;
mod text;

use diag::Diagnostic;
use recipe::{Lock, Recipe};

use super::contract::config;
use super::{Built, Session};
use crate::cli::Failure;
use crate::workspace::Workspace;
use image::Finished;
use layer::{Facts, facts};

/// What came of looking at something.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What was looked at.
    pub subject: String,
    /// How much of it.
    pub extent: String,
    /// What is not as it should be.
    pub issues: Vec<Diagnostic>,
}

/// Looks at a recipe's text.
#[must_use]
pub fn check_recipe(recipe: &Recipe) -> Checked {
    let subject = recipe.name.value.to_string();
    Checked { subject, extent: "recipe".to_owned(), issues: text::issues(recipe) }
}

/// Looks at a finished image: every layer, once, and the config.
///
/// # Errors
/// A layer or the store cannot be read.
pub fn check_image(
    session: &Session,
    workspace: &Workspace,
    recipe: &Recipe,
    lock: &Lock,
    built: &Built,
) -> Result<Checked, Failure> {
    let platform = built.plan.platform;
    let config = config(session, built)?.config;
    let mut seen = Facts::default();
    for layer in &built.image.layers {
        seen = seen.under(facts(session.store(), layer)?);
    }
    let finished = Finished { recipe, platform, config: &config, facts: &seen };
    let packages = package::bringing(&finished.missing_libraries(), recipe, workspace, lock, session.store())?;
    let subject = format!("{} {platform}", recipe.name.value);
    let extent = format!("{} layers, {} programs and libraries", built.image.layers.len(), seen.programs.len());
    // Conventions are about running it.
    let issues = if recipe.is_firmware() { Vec::new() } else { finished.issues(&packages) };
    Ok(Checked { subject, extent, issues })
}
