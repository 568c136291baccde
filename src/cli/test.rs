//! `clawbuild test TARGET…`

use std::fmt::Write as _;

use diag::{Diagnostic, codes};

use super::arguments::Test;
use crate::cli::Failure;
use crate::pipeline::{
    Execution, ImageName, ImageOptions, Locking, Naming, Outcome, Report, Session, build_image, ensure_locked,
    test_image,
};
use crate::settings::Settings;
use crate::ui::Printer;
use crate::workspace::{Target, Workspace};

/// Builds the images, runs them, and says what of the boot contract holds.
pub(crate) fn test(settings: &Settings, arguments: &Test, printer: &Printer) -> Result<(), Failure> {
    let workspace = Workspace::find()?;
    let words = if arguments.all { workspace.recipe_names() } else { arguments.targets.clone() };
    let mut targets = words.iter().map(|word| Target::find(&workspace, word)).collect::<Result<Vec<_>, _>>()?;
    if arguments.all {
        // There is nothing to run in it.
        targets.retain(|target| !matches!(target, Target::Recipe { loaded, .. } if loaded.recipe.is_firmware()));
    }
    let settings = &arguments.sources.apply(settings, &targets)?;
    let reports = super::run_building(settings, printer, arguments.jobs, async |session| {
        let mut reports = Vec::new();
        for target in &targets {
            reports.push(one(session, target, arguments, printer).await?);
        }
        Ok(reports)
    })?;
    if arguments.json {
        let reports = reports.iter().map(Report::to_json).collect();
        printer.data(format_args!("{:#}\n", serde_json::Value::Array(reports)));
    } else {
        reports.iter().for_each(|report| printer.data(describe(report)));
    }
    for verdict in reports.iter().flat_map(|report| &report.verdicts) {
        if let Outcome::Needless(_) = verdict.outcome {
            printer.warn(format_args!("the recipe waives `{}`, which holds", verdict.point));
        }
    }
    let broken: Vec<Diagnostic> = reports.iter().filter_map(diagnostic).collect();
    if broken.is_empty() { Ok(()) } else { Err(Failure::several(broken)) }
}

async fn one(session: &Session, target: &Target, arguments: &Test, printer: &Printer) -> Result<Report, Failure> {
    let Target::Recipe { loaded, workspace } = target else {
        return Err(Diagnostic::new(codes::cli::USAGE, "a base runs nothing that could be tested")
            .help("name a recipe: `clawbuild list` prints those there are")
            .into());
    };
    if loaded.recipe.is_firmware() {
        let message =
            format!("`{}` is firmware, which runs on a device and not in a container", loaded.recipe.name.value);
        return Err(Diagnostic::new(codes::cli::USAGE, message)
            .help("`clawbuild check` looks at its recipe; `-o type=local,dest=DIR` gives the files to flash")
            .into());
    }
    let platform = match arguments.platform {
        Some(platform) => platform,
        None => session.platform().await?,
    };
    let execution = Execution::choose(platform, arguments.allow_emulation, &session.settings().variables)?;
    super::build::unless_superseded(session, printer, async |locking: Locking| {
        let requests = plan::Requests::default();
        let (lock, changes) = ensure_locked(session, workspace, &[loaded], requests, &locking).await?;
        changes.iter().for_each(|change| printer.say(format_args!("locked {change}")));
        let built = build_image(session, workspace, loaded, &lock, platform, &ImageOptions::default()).await?;
        let name = ImageName::of(&built.plan, &Naming::default())?;
        test_image(session, &loaded.effective(), &built, &name, &execution).await
    })
    .await
}

/// One line for each point.
fn describe(report: &Report) -> String {
    let Report { name, platform, runner, verdicts, .. } = report;
    let mut text = format!("{name}  {platform}  {runner}\n");
    for verdict in verdicts {
        let took = match verdict.outcome {
            Outcome::Passed(_) | Outcome::Failed(_) | Outcome::Needless(_) => {
                format!("{:.1} s", verdict.took.as_secs_f64())
            }
            Outcome::Waived(_) | Outcome::NotApplicable(_) | Outcome::Unseen(_) => String::new(),
        };
        let (point, word, detail) = (verdict.point, verdict.outcome.word(), verdict.outcome.detail());
        writeln!(text, "  {point:<14}  {word:<14}  {took:>7}  {detail}").expect("writing to a String cannot fail");
    }
    text
}

fn diagnostic(report: &Report) -> Option<Diagnostic> {
    let points: Vec<&str> = report.broken().map(|verdict| verdict.point.as_str()).collect();
    let message = match &points[..] {
        [] => return None,
        [one] => format!("{} does not keep the boot contract: {one}", report.name),
        several => format!(
            "{} does not keep the boot contract in {} points: {}",
            report.name,
            several.len(),
            several.join(", ")
        ),
    };
    let diagnostic = Diagnostic::new(codes::contract::BROKEN, message)
        .help("where it lies with the runtime, say so in the recipe: `[contract] waive = { POINT = \"reason\" }`");
    Some(if report.log.is_empty() {
        diagnostic
    } else {
        diagnostic.related("the container's last lines", report.log.clone())
    })
}
