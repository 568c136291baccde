//! `clawbuild push`

use std::path::Path;

use diag::{Diagnostic, codes};

use super::arguments::Push;
use crate::cli::Failure;
use crate::pipeline::{ImageName, ImageOptions, Locking, Naming, build_image, ensure_locked, push_image, read_layout};
use crate::settings::Settings;
use crate::ui::Printer;
use crate::workspace::{Target, Workspace};

/// Pushes a layout as it is, or a target's image. A target built before is in the store and is only looked up.
pub(crate) fn push(settings: &Settings, arguments: &Push, printer: &Printer) -> Result<(), Failure> {
    let naming = Naming {
        tags: arguments.naming.tags.clone(),
        repository: arguments.naming.repository.clone(),
        github_owner: settings.variables.github_owner.clone(),
    };
    let insecure = arguments.naming.insecure;
    let path = Path::new(&arguments.what);
    let pushed = if path.join("oci-layout").is_file() || is_archive(path) {
        super::run_async(settings, printer, async |run| {
            let layout = read_layout(&run, path)?;
            let name = ImageName::given(&naming, layout.name.as_ref())?;
            push_image(&run, layout.root, &name.destinations()?, &[], insecure).await
        })?
    } else {
        let Target::Recipe { loaded, workspace } = Target::find(&Workspace::find()?, &arguments.what)? else {
            return Err(Diagnostic::new(
                codes::cli::USAGE,
                "bases are pushed as layouts: build one with `-o type=oci,dest=DIR` first",
            )
            .into());
        };
        super::run_building(settings, printer, None, async |session| {
            let locking = Locking::Locked;
            let (lock, _) = ensure_locked(session, &workspace, &[&loaded], plan::Requests::default(), &locking).await?;
            let (platform, options) = (session.platform().await?, ImageOptions::default());
            let built = build_image(session, &workspace, &loaded, &lock, platform, &options).await?;
            let name = ImageName::of(&built.plan, &naming)?;
            push_image(session, built.image.manifest.clone(), &name.destinations()?, &[], insecure).await
        })?
    };
    super::output::report_pushed(&pushed, arguments.json, printer);
    Ok(())
}

/// An archive is a layout too; a recipe is none.
fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tar") && path.is_file()
}
