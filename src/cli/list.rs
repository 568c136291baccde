//! `clawbuild list` and `clawbuild show`

use std::fmt::Write as _;

use recipe::{HealthProbe, Recipe, SourceSpec, Tier};
use serde_json::{Value, json};

use super::arguments::{List, Show};
use crate::cli::Failure;
use crate::settings::Settings;
use crate::ui::Printer;
use crate::workspace::{LoadedRecipe, Target, Workspace, tier_word as word};

/// Lists recipes or bases, one on a line.
pub(crate) fn list(arguments: &List, printer: &Printer) -> Result<(), Failure> {
    let workspace = Workspace::find()?;
    let rows: Vec<(String, String)> = if arguments.bases {
        workspace.project()?.bases().map(|base| (format!("base/{}", base.name.value), base.summary.clone())).collect()
    } else {
        let mut rows = Vec::new();
        for name in workspace.recipe_names() {
            if let Some(loaded) = workspace.recipe(&name)? {
                let tiers: Vec<Tier> = loaded.recipe.tiers().collect();
                rows.extend(tiers.iter().map(|tier| (word(&name, tier), loaded.recipe.summary_of(tier).to_owned())));
            }
        }
        rows
    };
    if arguments.json {
        let rows: Vec<Value> = rows.iter().map(|(name, summary)| json!({ "name": name, "summary": summary })).collect();
        printer.data(format_args!("{:#}\n", Value::Array(rows)));
        return Ok(());
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, summary) in rows {
        printer.data(format_args!("{name:width$}  {summary}\n"));
    }
    Ok(())
}

/// Shows what a recipe says, as one reads it.
pub(crate) fn show(_: &Settings, arguments: &Show, printer: &Printer) -> Result<(), Failure> {
    match Target::find(&Workspace::find()?, &arguments.target)? {
        Target::Recipe { loaded, .. } if arguments.json => printer.data(format_args!("{:#}\n", recipe_json(&loaded))),
        Target::Recipe { loaded, .. } => printer.data(recipe_text(&loaded)),
        Target::Base { name, workspace } => {
            let project = workspace.project()?;
            let base = project.base(&name).expect("targets are looked up before they are shown");
            let packages = base
                .debian
                .as_ref()
                .map_or_else(Vec::new, |set| set.packages.iter().map(|p| p.value.clone()).collect());
            if arguments.json {
                printer.data(format_args!(
                    "{:#}\n",
                    json!({ "name": name.as_str(), "summary": base.summary, "packages": packages })
                ));
            } else {
                printer.data(format_args!("base/{name}\n  {}\n  packages  {}\n", base.summary, packages.join(" ")));
            }
        }
    }
    Ok(())
}

fn source(recipe: &Recipe) -> String {
    match &recipe.origin.value {
        SourceSpec::Release { registry, package, version } => {
            format!("{} {} {}", registry.noun(), package.value, version.value)
        }
        SourceSpec::Git { url, reference, .. } => format!("git {} {}", url.value, reference.value),
        SourceSpec::Archive { url, .. } => format!("archive {}", url.value),
        SourceSpec::Path { path, .. } => format!("directory {}", path.value),
    }
}

fn health(recipe: &Recipe) -> String {
    match &recipe.health.probe {
        HealthProbe::Http { port, path, .. } => format!("GET {path} on port {port}"),
        HealthProbe::Exec(args) => args.join(" "),
        HealthProbe::None => "not told".to_owned(),
    }
}

fn recipe_text(loaded: &LoadedRecipe) -> String {
    let recipe = &loaded.effective();
    let image = &recipe.image;
    let mut text = format!("{}\n  {}\n", loaded.recipe.target(&loaded.tier), recipe.summary);
    let mut line = |what: &str, value: String| {
        if !value.is_empty() {
            writeln!(text, "  {what:<9} {value}").expect("writing to a String cannot fail");
        }
    };
    let spaced = |items: Vec<String>| items.join(" ");
    line("license", recipe.license.value.clone());
    line("source", source(recipe));
    if recipe.is_firmware() {
        line("built on", image.base.value.to_string());
        return text;
    }
    line("base", image.base.value.to_string());
    line("packages", spaced(image.packages.iter().map(|package| package.value.clone()).collect()));
    line("command", image.command.join(" "));
    for process in &image.processes {
        line("process", format!("{}: {}", process.name.value, process.command.join(" ")));
    }
    line("user", format!("{} ({}:{})", image.user.name, image.user.uid, image.user.gid));
    line("ports", spaced(image.ports.iter().map(|port| port.value.to_string()).collect()));
    line("volumes", spaced(image.volumes.iter().map(|volume| volume.value.to_string()).collect()));
    line("tmpfs", spaced(image.tmpfs.iter().map(|path| path.value.to_string()).collect()));
    line("health", health(recipe));
    line("stop", format!("{} within {} s", image.stop_signal, image.stop_timeout.as_secs()));
    line("platforms", spaced(recipe.platforms.iter().map(|platform| platform.value.to_string()).collect()));
    let above = |tier: &Tier| (*tier != Tier::Runtime).then(|| loaded.recipe.target(tier).to_string());
    if loaded.tier == Tier::Runtime {
        line("images", spaced(loaded.recipe.tiers().filter_map(|tier| above(&tier)).collect()));
    }
    if let Some(config) = &recipe.config {
        line("config", format!("{} ({})", config.path.value, config.format.value.as_str()));
        let width = config.overrides.keys().map(String::len).max().unwrap_or(0);
        for (name, entry) in &config.overrides {
            let secret = if entry.secret { " (secret)" } else { "" };
            writeln!(text, "    {name:width$}  {}{secret}", entry.doc).expect("writing to a String cannot fail");
        }
    }
    text
}

fn recipe_json(loaded: &LoadedRecipe) -> Value {
    let recipe = &loaded.effective();
    let image = &recipe.image;
    let processes = image.processes.iter().map(|process| {
        json!({ "name": process.name.value.as_str(), "command": process.command, "restart": process.restart.as_str() })
    });
    json!({
        "name": loaded.recipe.target(&loaded.tier).to_string(),
        "images": loaded.recipe.tiers().map(|tier| loaded.recipe.target(&tier).to_string()).collect::<Vec<_>>(),
        "processes": processes.collect::<Vec<_>>(),
        "summary": recipe.summary,
        "license": recipe.license.value,
        "source": source(recipe),
        "base": image.base.value.as_str(),
        "packages": image.packages.iter().map(|package| &package.value).collect::<Vec<_>>(),
        "command": image.command,
        "user": { "name": image.user.name.as_str(), "uid": image.user.uid, "gid": image.user.gid },
        "ports": image.ports.iter().map(|port| port.value).collect::<Vec<_>>(),
        "volumes": image.volumes.iter().map(|volume| volume.value.as_str()).collect::<Vec<_>>(),
        "tmpfs": image.tmpfs.iter().map(|path| path.value.as_str()).collect::<Vec<_>>(),
        "health": health(recipe),
        "stop_signal": image.stop_signal,
        "stop_timeout_seconds": image.stop_timeout.as_secs(),
        "platforms": recipe.platforms.iter().map(|platform| platform.value.to_string()).collect::<Vec<_>>(),
        "variables": recipe.config.iter().flat_map(|config| &config.overrides).map(|(name, entry)| json!({
            "name": name, "key": entry.key, "type": entry.kind.as_str(), "secret": entry.secret, "doc": entry.doc,
        })).collect::<Vec<_>>(),
    })
}
