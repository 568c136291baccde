//! `clawbuild graph`

use diag::{Diagnostic, codes};
use oci::Platform;

use super::arguments::{Graph, GraphFormat};
use crate::cli::Failure;
use crate::pipeline::{Locking, ensure_locked, lower_base, lower_image};
use crate::settings::Settings;
use crate::ui::Printer;
use crate::workspace::{Target, Workspace};

/// Prints what would be built. Bases are assembled if they are not there, since their digests are part of the graph.
pub(crate) fn graph(settings: &Settings, arguments: &Graph, printer: &Printer) -> Result<(), Failure> {
    if arguments.format == GraphFormat::Bake {
        return super::bake::bake(settings, arguments, printer);
    }
    let [word] = arguments.targets.as_slice() else {
        return Err(Diagnostic::new(codes::cli::USAGE, "only `--format bake` takes several targets").into());
    };
    let target = Target::find(&Workspace::find()?, word)?;
    let settings = &arguments.sources.apply(settings, std::slice::from_ref(&target))?;
    let locking = if settings.locked { Locking::Locked } else { Locking::Missing };
    let (plan, lowered) = super::run_building(settings, printer, None, async |session| {
        let platform = match arguments.platform {
            Some(platform) => platform,
            None => session.platform().await?,
        };
        match &target {
            Target::Recipe { loaded, workspace } => {
                let (lock, _) =
                    ensure_locked(session, workspace, &[loaded], plan::Requests::default(), &locking).await?;
                lower_image(session, workspace, loaded, &lock, platform).await
            }
            Target::Base { name, workspace } => {
                let all = [Platform::LINUX_AMD64, Platform::LINUX_ARM64];
                let requests = plan::Requests::of_base(workspace.project()?, name, &all)?;
                let (lock, _) = ensure_locked(session, workspace, &[], requests, &locking).await?;
                lower_base(session, workspace, name, &lock, platform).await
            }
        }
    })?;
    let definition = &lowered.definition;
    match arguments.format {
        GraphFormat::Text => printer.data(definition.to_text()),
        GraphFormat::Plan => printer.data(plan::describe(&plan)),
        GraphFormat::Dot => printer.data(definition.to_dot()),
        GraphFormat::Mermaid => printer.data(definition.to_mermaid()),
        GraphFormat::Json => printer.data(definition.to_json()),
        GraphFormat::Dockerfile => {
            printer.data(llb::dockerfile::render(definition, Some(&plan.image.config))?.text);
        }
        GraphFormat::Bake => unreachable!("it is printed without a graph"),
        GraphFormat::Llb => printer.data_bytes(&definition.marshal()),
    }
    Ok(())
}
