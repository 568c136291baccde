//! Turning a result into an image or into files.

mod files;
mod layer;

pub(crate) use files::files;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diag::progress::Task;
use diag::{Diagnostic, Reported, codes};
use futures::future::join_all;
use oci::{Descriptor, Document as _, History, ImageConfig, Manifest, RootFs};
use store::{Store, StoreError};

use super::chain::Chain;
use super::solver::Solve;
use crate::error::VertexError;
use crate::{ImageOutput, SolvedImage, SolvedLayer};

/// A result that was made but could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A layer could not be made of a snapshot.
    #[error("cannot make a layer")]
    Layer(#[source] oci::layer::diff::DiffError),
    /// The result's tree could not be had.
    #[error(transparent)]
    Tree(VertexError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file operation failed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was stopped before its end.
    #[error("interrupted")]
    Canceled,
}

impl ExportError {
    fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl From<VertexError> for ExportError {
    fn from(error: VertexError) -> Self {
        match error {
            VertexError::Canceled => Self::Canceled,
            VertexError::Store(error) => Self::Store(error),
            error => Self::Tree(error),
        }
    }
}

impl Reported for ExportError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Layer(error) => error.diagnostic(),
            Self::Tree(error) => error.diagnostic(),
            Self::Store(error) => error.diagnostic(),
            Self::Io { source, path, .. } if crate::error::is_full(source) => {
                Diagnostic::new(codes::engine::EXPORT, format!("no space is left to write `{}`", path.display()))
                    .caused_by(self)
                    .help("free space, or write the result somewhere else")
            }
            Self::Io { .. } => Diagnostic::new(codes::engine::EXPORT, self.to_string()).caused_by(self),
            Self::Canceled => Diagnostic::new(codes::cli::INTERRUPTED, self.to_string()),
        }
    }
}

/// Writes the tree to the store as an image.
pub(crate) async fn image(
    solve: &Arc<Solve>,
    chain: &Chain,
    output: &ImageOutput,
    task: &Task,
) -> Result<SolvedImage, ExportError> {
    let count = chain.parts().count();
    // All are waited for even when one fails: what still runs must not outlive this.
    let layers = join_all((0..count).map(|position| layer::layer(solve, chain, position, output.compression, task)));
    let layers: Vec<Option<SolvedLayer>> = layers.await.into_iter().collect::<Result<_, _>>()?;
    let layers: Vec<SolvedLayer> = layers.into_iter().flatten().collect();

    let platform = solve.request.platform;
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
    let store = solve.workshop.store.clone();
    solve.blocking(move || write(&store, &config, &manifest, layers)).await.map(|mut image| {
        image.manifest.platform = Some(platform);
        image
    })
}

fn write(
    store: &Store,
    config: &ImageConfig,
    manifest: &Manifest,
    layers: Vec<SolvedLayer>,
) -> Result<SolvedImage, ExportError> {
    store.put_blob(&config.to_bytes())?;
    store.put_blob(&manifest.to_bytes())?;
    let (manifest, config): (Descriptor, Descriptor) = (manifest.descriptor(), config.descriptor());
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
