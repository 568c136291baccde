//! `clawbuild frontend-image`

use diag::{Diagnostic, codes};
use oci::Platform;

use super::arguments::FrontendImage;
use super::output::{self, Finished};
use crate::cli::Failure;
use crate::pipeline::{
    ImageName, Locking, Naming, OutputSpec, Product, SolveOptions, build_frontend, ensure_locked, export, push_image,
};
use crate::settings::Settings;
use crate::ui::Printer;
use crate::workspace::Workspace;

/// Builds the image that BuildKit runs for recipes with a `# syntax=` line.
pub(crate) fn frontend_image(settings: &Settings, arguments: &FrontendImage, printer: &Printer) -> Result<(), Failure> {
    let workspace = Workspace::find()?;
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(|error| {
            Diagnostic::new(codes::cli::FILE, "it cannot be found out where this program lies").caused_by(&error)
        })?,
    };
    let mut outputs = arguments.output.iter().map(|text| text.parse()).collect::<Result<Vec<OutputSpec>, _>>()?;
    let naming = Naming {
        tags: arguments.naming.tags.clone(),
        repository: arguments.naming.repository.clone(),
        github_owner: settings.variables.github_owner.clone(),
    };
    if outputs.is_empty() && !arguments.push {
        outputs.push(OutputSpec::Oci { destination: workspace.root().join("dist/frontend") });
    }
    let locking = if settings.locked { Locking::Locked } else { Locking::Missing };
    let finished = super::run_building(settings, printer, None, async |session| {
        let platform = match arguments.platform {
            Some(platform) => platform,
            None => session.platform().await?,
        };
        let name = plan::FRONTEND_BASE.parse().expect("a name");
        let all = [Platform::LINUX_AMD64, Platform::LINUX_ARM64];
        let requests = plan::Requests::of_base(workspace.project()?, &name, &all)?;
        let (lock, _) = ensure_locked(session, &workspace, &[], requests, &locking).await?;
        let built = build_frontend(session, &workspace, &lock, &program, platform).await?;
        let product = Product::new(session, vec![built])?;
        let name = ImageName::of(&product.first().plan, &naming)?;
        let mut exported = Vec::new();
        for output in &outputs {
            exported.push(export(session, &product, &name, output, &SolveOptions::default()).await?);
        }
        let pushed = match arguments.push {
            true => {
                let root = product.root().clone();
                push_image(session, root, &name.destinations()?, &[], arguments.naming.insecure).await?
            }
            false => Vec::new(),
        };
        Ok(Finished { product, name, exported, pushed })
    })?;
    output::print(&[finished], arguments.json, printer);
    Ok(())
}
