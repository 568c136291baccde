//! `clawbuild merge`

use super::arguments::Merge;
use crate::cli::Failure;
use crate::pipeline::{Naming, merge as join};
use crate::settings::Settings;
use crate::ui::Printer;

/// Joins images that several machines built and pushed.
pub(crate) fn merge(settings: &Settings, arguments: &Merge, printer: &Printer) -> Result<(), Failure> {
    let naming = Naming { tags: arguments.tags.clone(), ..Naming::default() };
    let pushed = super::run_async(settings, printer, async |run| {
        join(&run, &arguments.files, &naming, arguments.insecure).await
    })?;
    super::output::report_pushed(&pushed, arguments.json, printer);
    Ok(())
}
