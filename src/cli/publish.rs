//! `clawbuild publish`

use super::arguments::Publish;
use crate::cli::Failure;
use crate::pipeline::{Locking, PublishOptions, ensure_locked, publish as publish_recipes};
use crate::settings::Settings;
use crate::ui::Printer;
use crate::workspace::{LoadedRecipe, Target, Workspace};

/// Pushes what frontends need to build the recipes, and records it in the lock.
pub(crate) fn publish(settings: &Settings, arguments: &Publish, printer: &Printer) -> Result<(), Failure> {
    let here = Workspace::find()?;
    let mut workspace = here.clone();
    let mut recipes: Vec<LoadedRecipe> = Vec::new();
    for word in &arguments.targets {
        for target in Target::find_all(&here, word)? {
            match target {
                Target::Recipe { loaded, workspace: around } => {
                    recipes.push(*loaded);
                    workspace = around;
                }
                Target::Base { name, .. } => {
                    return Err(diag::Diagnostic::new(
                        diag::codes::cli::USAGE,
                        format!("`base/{name}` is published by pushing it"),
                    )
                    .help(format!("run `clawbuild base/{name} --push --repository REGISTRY/NAME`"))
                    .into());
                }
            }
        }
    }
    let loaded: Vec<&LoadedRecipe> = recipes.iter().collect();
    let around: Vec<_> = recipes.iter().map(|loaded| (loaded, &workspace)).collect();
    let settings = &arguments.sources.apply_to(settings, &around)?;
    let options = PublishOptions {
        repository: arguments.repository.clone(),
        platforms: arguments.platform.clone(),
        insecure: arguments.insecure,
    };
    let locking = if settings.locked { Locking::Locked } else { Locking::Missing };
    let pushed = super::run_building(settings, printer, None, async |session| {
        let (lock, changes) = ensure_locked(session, &workspace, &loaded, plan::Requests::default(), &locking).await?;
        changes.iter().for_each(|change| printer.say(format_args!("locked {change}")));
        publish_recipes(session, &workspace, &loaded, lock, &options).await
    })?;
    super::output::report_pushed(&pushed, arguments.json, printer);
    Ok(())
}
