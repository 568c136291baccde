//! Images out of layers.

use oci::{Document as _, History, ImageConfig, Manifest, Platform, RootFs};
use store::{Store, StoreError};

use crate::{ImageOutput, SolvedImage, SolvedLayer};

/// Writes the config and the manifest of an image to the store. Its layers, lowest first, lie there already.
///
/// # Errors
/// [`StoreError`].
pub fn assemble(
    store: &Store,
    platform: Platform,
    output: &ImageOutput,
    layers: Vec<SolvedLayer>,
) -> Result<SolvedImage, StoreError> {
    let config = ImageConfig {
        created: output.created.clone(),
        author: output.author.clone(),
        architecture: platform.architecture,
        os: platform.os,
        config: output.config.clone(),
        rootfs: RootFs::new(layers.iter().map(|layer| layer.diff_id).collect()),
        history: history(&output.history, layers.len(), output.created.as_deref()),
    };
    let descriptors = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    let manifest =
        Manifest { annotations: output.annotations.clone(), ..Manifest::new(config.descriptor(), descriptors) };
    store.put_blob(&config.to_bytes())?;
    store.put_blob(&manifest.to_bytes())?;
    let (mut manifest, config) = (manifest.descriptor(), config.descriptor());
    manifest.platform = Some(platform);
    Ok(SolvedImage { manifest, config, layers })
}

/// The history given, made to agree with the number of layers: readers pair the entries that are not marked as empty
/// with the layers.
fn history(given: &[History], layers: usize, created: Option<&str>) -> Vec<History> {
    let mut history = given.to_vec();
    let full = history.iter().filter(|entry| !entry.empty_layer).count();
    for entry in history.iter_mut().rev().filter(|entry| !entry.empty_layer).take(full.saturating_sub(layers)) {
        entry.empty_layer = true;
    }
    let plain =
        History { created: created.map(str::to_owned), created_by: Some("clawbuild".to_owned()), ..History::default() };
    history.extend(std::iter::repeat_n(plain, layers.saturating_sub(full)));
    history
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_has_as_many_full_entries_as_there_are_layers() {
        let entry =
            |text: &str, empty_layer| History { created_by: Some(text.to_owned()), empty_layer, ..History::default() };
        let given = [entry("a", false), entry("env", true), entry("b", false)];
        let empties = |layers| {
            let history = history(&given, layers, None);
            history.iter().map(|entry| entry.empty_layer).collect::<Vec<_>>()
        };
        assert_eq!(empties(2), [false, true, false]);
        assert_eq!(empties(1), [false, true, true]);
        assert_eq!(empties(0), [true, true, true]);
        assert_eq!(empties(4), [false, true, false, false, false]);
    }
}
