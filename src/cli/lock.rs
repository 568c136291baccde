//! `clawbuild lock`

use plan::Requests;

use super::arguments::Lock;
use crate::cli::Failure;
use crate::pipeline::{Locking, ensure_all_locked, ensure_locked};
use crate::settings::Settings;
use crate::ui::Printer;
use crate::workspace::{LoadedRecipe, Target, Workspace};

/// Brings the lock up to date, or says whether it is.
pub(crate) fn lock(settings: &Settings, arguments: &Lock, printer: &Printer) -> Result<(), Failure> {
    let here = Workspace::find()?;
    let mut workspace = here.clone();
    let mut recipes: Vec<LoadedRecipe> = Vec::new();
    let words = if arguments.targets.is_empty() { here.recipe_names() } else { arguments.targets.clone() };
    for word in &words {
        match Target::find(&here, word)? {
            Target::Recipe { loaded, workspace: around } => {
                recipes.push(*loaded);
                workspace = around;
            }
            Target::Base { .. } => {}
        }
    }
    let locking = match &arguments.update {
        _ if arguments.check || settings.locked => Locking::Locked,
        None => Locking::Missing,
        Some(name) if name.is_empty() => Locking::All,
        Some(name) => Locking::Named(name.clone()),
    };
    if arguments.targets.is_empty() {
        let (lock, _) = here.lock()?;
        let project = here.project()?;
        recipes.retain(|loaded| {
            let recipe = &loaded.recipe;
            let Some(why) = &recipe.deferred else { return true };
            let is_locked = Requests::of(recipe, project).is_ok_and(|requests| requests.unanswered(&lock).is_empty());
            if !is_locked {
                printer.say(format_args!("{} is locked once it is named: {why}", recipe.name.value));
            }
            is_locked
        });
    }
    let loaded: Vec<&LoadedRecipe> = recipes.iter().collect();
    let around: Vec<_> = recipes.iter().map(|loaded| (loaded, &workspace)).collect();
    let settings = &arguments.sources.apply_to(settings, &around)?;
    let changes = super::run_building(settings, printer, None, async |session| {
        let (_, changes) = if arguments.targets.is_empty() {
            ensure_all_locked(session, &workspace, &loaded, &locking).await?
        } else {
            ensure_locked(session, &workspace, &loaded, plan::Requests::default(), &locking).await?
        };
        Ok(changes)
    })?;
    match changes.as_slice() {
        [] => printer.say(format_args!("{} is up to date", workspace.display(&workspace.lock_path()))),
        changes => changes.iter().for_each(|change| printer.say(format_args!("locked {change}"))),
    }
    Ok(())
}
