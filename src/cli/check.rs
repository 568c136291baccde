//! `clawbuild check [TARGET…]`

use diag::{Diagnostic, codes};
use serde_json::{Value, json};

use super::arguments::Check;
use crate::cli::Failure;
use crate::pipeline::{Checked, ImageOptions, Locking, Session, build_image, check_image, check_recipe, ensure_locked};
use crate::settings::Settings;
use crate::ui::Printer;
use crate::workspace::{LoadedRecipe, Target, Workspace};

/// Looks at the text of recipes, and at the finished images of those that are named.
pub(crate) fn check(settings: &Settings, arguments: &Check, printer: &Printer) -> Result<(), Failure> {
    let workspace = Workspace::find()?;
    let words = if arguments.targets.is_empty() { workspace.recipe_names() } else { arguments.targets.clone() };
    let mut recipes = Vec::new();
    for word in &words {
        match Target::find(&workspace, word)? {
            Target::Recipe { loaded, workspace, .. } => recipes.push((loaded, workspace)),
            Target::Base { .. } => {
                return Err(Diagnostic::new(codes::cli::USAGE, "a base keeps no conventions that could be checked")
                    .help("name a recipe: `clawbuild list` prints those there are")
                    .into());
            }
        }
    }
    let mut checked: Vec<Checked> = recipes.iter().map(|(loaded, _)| check_recipe(&loaded.recipe)).collect();
    if !arguments.targets.is_empty() && !arguments.recipe_only {
        checked.extend(super::run_building(settings, printer, None, async |session| {
            let mut checked = Vec::new();
            for (loaded, workspace) in &recipes {
                checked.extend(images(session, workspace, loaded, arguments, printer).await?);
            }
            Ok(checked)
        })?);
    }
    if arguments.json {
        printer.data(format_args!("{:#}\n", Value::Array(checked.iter().map(to_json).collect())));
    } else {
        for Checked { subject, extent, issues } in &checked {
            let outcome = match issues.len() {
                0 => "good".to_owned(),
                1 => "1 issue".to_owned(),
                number => format!("{number} issues"),
            };
            printer.data(format_args!("{subject}  {outcome}  ({extent})\n"));
        }
    }
    let issues: Vec<Diagnostic> = checked.into_iter().flat_map(|checked| checked.issues).collect();
    if issues.is_empty() { Ok(()) } else { Err(Failure::several(issues)) }
}

async fn images(
    session: &Session,
    workspace: &Workspace,
    loaded: &LoadedRecipe,
    arguments: &Check,
    printer: &Printer,
) -> Result<Vec<Checked>, Failure> {
    let platforms = match &arguments.platform[..] {
        [] => vec![session.platform().await?],
        platforms => platforms.to_vec(),
    };
    super::build::unless_superseded(session, printer, async |locking: Locking| {
        let requests = plan::Requests::default();
        let (lock, changes) = ensure_locked(session, workspace, &[loaded], requests, &locking).await?;
        changes.iter().for_each(|change| printer.say(format_args!("locked {change}")));
        let mut checked = Vec::new();
        for platform in &platforms {
            let built = build_image(session, workspace, loaded, &lock, *platform, &ImageOptions::default()).await?;
            checked.push(check_image(session, workspace, &loaded.recipe, &lock, &built)?);
        }
        Ok(checked)
    })
    .await
}

fn to_json(checked: &Checked) -> Value {
    let issue = |issue: &Diagnostic| json!({ "code": issue.code.slug, "message": issue.message, "help": issue.help });
    json!({
        "subject": checked.subject,
        "extent": checked.extent,
        "issues": checked.issues.iter().map(issue).collect::<Vec<_>>(),
    })
}
