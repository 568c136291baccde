//! The image that BuildKit runs when a recipe's first line names it.

use std::path::Path;

use diag::{Diagnostic, codes};
use oci::Platform;
use oci::layer::compress::Compression;
use plan::{FRONTEND_BASE, PROGRAM_CONTEXT, Plan};
use recipe::{Lock, Name};

use super::image::image_output;
use super::solve::{Contexts, Work};
use super::{Built, Session, SolveOptions, bases};
use crate::cli::Failure;
use crate::workspace::Workspace;

/// Builds the image of a program, normally the one that runs.
///
/// # Errors
/// The program cannot be read, or whatever stands in the way of building.
pub async fn build_frontend(
    session: &Session,
    workspace: &Workspace,
    lock: &Lock,
    program: &Path,
    platform: Platform,
) -> Result<Built, Failure> {
    let (context, file) = PROGRAM_CONTEXT;
    let directory = session.scratch().join("frontend");
    let copied = std::fs::create_dir_all(&directory).and_then(|()| std::fs::copy(program, directory.join(file)));
    copied.map_err(|error| {
        Diagnostic::new(codes::cli::FILE, format!("the program `{}` cannot be read", program.display()))
            .caused_by(&error)
    })?;
    let name: Name = FRONTEND_BASE.parse().expect("a name");
    let chain = plan::locked_base(workspace.project()?, &name, platform, lock)?;
    let ground = bases::lay_ground(session, lock, &chain, bases::Own::default()).await?;
    let base = chain.last().expect("a chain holds at least the base asked for");
    let plan = Plan::frontend(base, &ground.images, crate::frontend::VERB, env!("CARGO_PKG_VERSION"));
    let contexts = Contexts::from([(context.to_owned(), directory)]);
    let output = image_output(&plan, Compression::default());
    let lowered = plan.lower();
    let work = Work::of(&plan, lowered, contexts);
    let image = work.image(session, output, &SolveOptions::default()).await?;
    Ok(Built { plan, work, image })
}
