//! What a build says at its end.

use std::fmt::Write as _;

use super::arguments::Build;
use crate::cli::Failure;
use crate::pipeline::{Exported, ImageName, Product, ProductMetadata, Pushed};
use crate::ui::Printer;
use crate::workspace::write_atomically;

/// A target that was built, and what became of it.
pub(crate) struct Finished {
    pub(crate) product: Product,
    pub(crate) name: ImageName,
    pub(crate) exported: Vec<Exported>,
    pub(crate) pushed: Vec<Pushed>,
}

/// Prints the results, and writes the metadata file where one is asked for.
pub(crate) fn report(finished: &[Finished], arguments: &Build, printer: &Printer) -> Result<(), Failure> {
    let metadata: Vec<ProductMetadata> = finished.iter().map(metadata).collect();
    if let Some(path) = &arguments.metadata_file {
        let mut text = serde_json::to_string_pretty(&metadata).expect("metadata serialises");
        text.push('\n');
        write_atomically(path, text.as_bytes())?;
    }
    print(finished, arguments.json, printer);
    Ok(())
}

/// Prints the results, for people or as JSON.
pub(crate) fn print(finished: &[Finished], as_json: bool, printer: &Printer) {
    if as_json {
        let metadata: Vec<ProductMetadata> = finished.iter().map(metadata).collect();
        printer.data(serde_json::to_string_pretty(&metadata).expect("metadata serialises"));
        printer.data("\n");
        return;
    }
    for one in finished {
        printer.data(describe(one));
    }
}

/// Prints what registries now hold.
pub(crate) fn report_pushed(pushed: &[Pushed], as_json: bool, printer: &Printer) {
    if as_json {
        let rows: Vec<_> = pushed.iter().map(Pushed::to_json).collect();
        printer.data(format_args!("{:#}\n", serde_json::Value::Array(rows)));
    } else {
        pushed.iter().for_each(|pushed| printer.data(format_args!("{pushed}\n")));
    }
}

fn metadata(one: &Finished) -> ProductMetadata {
    ProductMetadata::new(&one.product, &one.name, &one.exported, &one.pushed)
}

/// Reference, digest, size and where it lies, each on a line.
fn describe(one: &Finished) -> String {
    let mut text = String::new();
    let mut line =
        |what: &str, value: String| writeln!(text, "{what:<9} {value}").expect("writing to a String cannot fail");
    for reference in one.name.references() {
        line("image", reference.familiar());
    }
    line("digest", one.product.root().digest.to_string());
    let images = one.product.images();
    for built in images {
        let layers = &built.image.layers;
        let size: u64 = layers.iter().map(|layer| layer.descriptor.size).sum();
        let platform = built.plan.platform.to_string();
        match images {
            [_] => line("platform", platform),
            _ => line("platform", format!("{platform} {}", built.image.manifest.digest)),
        }
        line("size", format!("{} in {} layers", crate::ui::text::bytes(size), layers.len()));
    }
    for exported in &one.exported {
        line("written", exported.to_string());
    }
    for pushed in &one.pushed {
        line("pushed", pushed.to_string());
    }
    text
}
