//! `clawbuild merge`

use super::arguments::Merge;
use crate::cli::Failure;
use crate::pipeline::{Naming, Pushed, merge as join};
use crate::settings::Settings;
use crate::ui::Printer;

/// Joins images that several machines built and pushed.
pub(crate) fn merge(settings: &Settings, arguments: &Merge, printer: &Printer) -> Result<(), Failure> {
    let naming = Naming { tags: arguments.tags.clone(), ..Naming::default() };
    let pushed = super::run_async(settings, printer, None, async |session| {
        join(session, &arguments.files, &naming, arguments.insecure).await
    })?;
    if arguments.json {
        let rows: Vec<_> = pushed.iter().map(Pushed::to_json).collect();
        printer.data(format_args!("{:#}\n", serde_json::Value::Array(rows)));
    } else {
        pushed.iter().for_each(|pushed| printer.data(format_args!("{pushed}\n")));
    }
    Ok(())
}
