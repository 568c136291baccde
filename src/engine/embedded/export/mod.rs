//! Turning a result into an image or into files.

mod files;
mod layer;

pub(crate) use files::files;

use std::sync::Arc;

use diag::progress::Task;
use futures::future::join_all;

use super::chain::Chain;
use super::solver::Solve;
use crate::export::{ExportError, assemble};
use crate::{ImageOutput, SolvedImage, SolvedLayer};

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
    let (store, platform, output) = (solve.workshop.store.clone(), solve.request.platform, output.clone());
    solve.blocking(move || Ok(assemble(&store, platform, &output, layers)?)).await
}
