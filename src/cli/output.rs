//! What a build says at its end.

use std::fmt::Write as _;

use super::arguments::Build;
use crate::cli::Failure;
use crate::pipeline::{Built, Exported, ImageMetadata, ImageName, Pushed};
use crate::ui::Printer;
use crate::workspace::write_atomically;

/// A target that was built, and what became of it.
pub(crate) struct Finished {
    pub(crate) built: Built,
    pub(crate) name: ImageName,
    pub(crate) exported: Vec<Exported>,
    pub(crate) pushed: Vec<Pushed>,
}

/// Prints the results, and writes the metadata file where one is asked for.
pub(crate) fn report(finished: &[Finished], arguments: &Build, printer: &Printer) -> Result<(), Failure> {
    let metadata: Vec<ImageMetadata> = finished.iter().map(metadata).collect();
    if let Some(path) = &arguments.metadata_file {
        let mut text = serde_json::to_string_pretty(&metadata).expect("metadata serialises");
        text.push('\n');
        write_atomically(path, text.as_bytes())?;
    }
    if arguments.json {
        printer.data(serde_json::to_string_pretty(&metadata).expect("metadata serialises"));
        printer.data("\n");
        return Ok(());
    }
    for one in finished {
        printer.data(describe(one));
    }
    Ok(())
}

fn metadata(one: &Finished) -> ImageMetadata {
    ImageMetadata::new(&one.built, &one.name, &one.exported, &one.pushed)
}

/// Reference, digest, size and where it lies, each on a line.
fn describe(one: &Finished) -> String {
    let image = &one.built.image;
    let size: u64 = image.layers.iter().map(|layer| layer.descriptor.size).sum();
    let mut text = String::new();
    let mut line =
        |what: &str, value: String| writeln!(text, "{what:<9} {value}").expect("writing to a String cannot fail");
    for reference in one.name.references() {
        line("image", reference.familiar());
    }
    line("digest", image.manifest.digest.to_string());
    line("platform", one.built.plan.platform.to_string());
    line("size", format!("{} in {} layers", crate::ui::text::bytes(size), image.layers.len()));
    for exported in &one.exported {
        line("written", exported.to_string());
    }
    for pushed in &one.pushed {
        line("pushed", pushed.to_string());
    }
    text
}
