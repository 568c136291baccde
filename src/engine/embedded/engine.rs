//! The embedded engine itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use diag::progress::{Event, Outcome, Progress, TaskId};
use futures::future::join_all;
use llb::{Cap, Op, SourceOp};
use oci::{Digest, Platform};
use serde::{Deserialize, Serialize};
use store::{Bucket, Key, Store};
use tokio_util::sync::CancellationToken;

use super::solver::{Solve, Stopped};
use super::workshop::{EmbeddedOptions, Workshop};
use super::{NAME, export};
use crate::context::Context;
use crate::error::{MissingCapability, SolveError, VertexError};
use crate::export::ExportError;
use crate::{
    Engine, FilesOutput, ImageOutput, Material, Output, SolveOutcome, SolveRequest, Solved, SolvedImage, SolvedLayer,
    Unavailable,
};

/// Solves LLB in this process, with no daemon: overlay mounts, namespaces, a store on disk.
///
/// One of them serves any number of solves at a time; those that need the same vertex share its result.
#[derive(Clone, Debug)]
pub struct Embedded {
    workshop: Workshop,
}

impl Embedded {
    /// An engine that keeps everything in `store`. The process has to live in its namespaces already
    /// ([`crate::userns::enter`]).
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn new(store: Store, options: EmbeddedOptions) -> Result<Self, Unavailable> {
        Ok(Self { workshop: Workshop::new(store, options)? })
    }

    /// The capabilities this engine has.
    #[must_use]
    pub fn caps() -> BTreeSet<Cap> {
        // Agents are not forwarded, and foreign sessions are a daemon's matter.
        let lacking = [Cap::ExecMountSsh];
        Cap::ALL.iter().copied().filter(|cap| !lacking.contains(cap)).collect()
    }
}

#[async_trait]
impl Engine for Embedded {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn check_usable(&self) -> Result<(), Unavailable> {
        match crate::userns::probe() {
            Ok(_) => Ok(()),
            Err(error) => {
                let diag::Diagnostic { code, help, .. } = diag::Reported::diagnostic(&error);
                Err(Unavailable { engine: NAME, code, why: error.to_string(), fix: help })
            }
        }
    }

    async fn capabilities(&self) -> Result<BTreeSet<Cap>, Unavailable> {
        Ok(Self::caps())
    }

    async fn platforms(&self) -> Result<Vec<Platform>, Unavailable> {
        Ok(Platform::host().into_iter().collect())
    }

    async fn solve(
        &self,
        request: SolveRequest,
        progress: Progress,
        cancel: CancellationToken,
    ) -> Result<SolveOutcome, SolveError> {
        MissingCapability::check(NAME, &request.definition, &Self::caps())?;
        if !request.cache_from.is_empty() || !request.cache_to.is_empty() {
            let message =
                "the embedded engine has its store and no other cache: `--cache-from` and `--cache-to` do nothing";
            progress.emit(Event::Warning { task: None, message: message.to_owned() });
        }
        let contexts = self.scan(&request).await?;
        let materials = Material::of(&request.definition, |vertex, _| contexts[&vertex.digest()].digest());
        let wish = cancel.clone();
        let cancel = cancel.child_token();
        // Should the caller drop this future, what runs on other threads stops too.
        let _guard = cancel.clone().drop_guard();
        let solve = Arc::new(Solve::new(self.workshop.clone(), request, progress, cancel, contexts));
        let produced = produce(&solve).await;
        if produced.is_err() && !wish.is_cancelled() {
            // The failure has been noted already. What was done before it is kept, if only for this boot.
            let _ = make_durable(&solve).await;
        }
        let result = solve.conclude(produced)?;
        Ok(SolveOutcome { result, materials, cache: solve.cache_stats() })
    }
}

impl Embedded {
    pub(crate) fn workshop(&self) -> &Workshop {
        &self.workshop
    }

    /// Looks at the directories behind local sources, all at once.
    pub(crate) async fn scan(&self, request: &SolveRequest) -> Result<BTreeMap<Digest, Context>, SolveError> {
        let locals = request.definition.vertices().iter().filter_map(|vertex| match vertex.op() {
            Op::Source(SourceOp::Local(local)) => Some((vertex, local)),
            _ => None,
        });
        let scans = locals.map(|(vertex, local)| async move {
            let scanned = match request.contexts.get(&local.name) {
                Some(spec) => {
                    let (store, root, filters) = (self.workshop.store.clone(), spec.root.clone(), local.into());
                    let scan = move || Context::scan(&root, &filters, &store);
                    self.workshop.blocking(scan).await.map_err(VertexError::from)
                }
                None => Err(VertexError::NoSuchContext { name: local.name.clone() }),
            };
            match scanned {
                Ok(context) => Ok((vertex.digest(), context)),
                Err(error) => Err(SolveError::vertex(&request.definition, vertex, error)),
            }
        });
        join_all(scans).await.into_iter().collect()
    }
}

async fn produce(solve: &Arc<Solve>) -> Result<Solved, Stopped> {
    let output = solve.request.output.clone();
    match output {
        Output::Image(output) => {
            let key = image_key(solve, &output);
            if !solve.is_volatile()
                && let Some(image) = find_image(solve, &key)
            {
                solve.report_cached();
                return Ok(Solved::Image(image));
            }
            let chain = solve.run().await?;
            let task = solve.progress.task(TaskId::new(format!("export {}", key.hex())), "exporting the image");
            // Syncing waits for the disk, making layers for the processor.
            let (image, durable) = tokio::join!(export::image(solve, &chain, &output, &task), make_durable(solve));
            let image = conclude(solve, task, image)?;
            durable?;
            keep_image(solve, &key, &image)?;
            Ok(Solved::Image(image))
        }
        Output::Tree => {
            solve.run().await?;
            make_durable(solve).await?;
            Ok(Solved::Tree)
        }
        Output::Files(output) => {
            let chain = solve.run().await?;
            let (FilesOutput::Directory(path) | FilesOutput::Tar(path)) = &output;
            let name = format!("exporting to {}", path.display());
            let task = solve.progress.task(TaskId::new(&name), &name);
            let (written, durable) = tokio::join!(export::files(solve, &chain, &output), make_durable(solve));
            conclude(solve, task, written)?;
            durable?;
            Ok(Solved::Files(path.clone()))
        }
    }
}

fn conclude<T>(solve: &Solve, task: diag::progress::Task, result: Result<T, ExportError>) -> Result<T, Stopped> {
    match &result {
        Ok(_) => task.finish(Outcome::Done),
        Err(ExportError::Canceled) => task.finish(Outcome::Canceled),
        Err(error) => task.finish(Outcome::Failed(error.to_string())),
    }
    result.map_err(|error| match error {
        ExportError::Canceled => Stopped,
        error => solve.fail(Box::new(error)),
    })
}

async fn make_durable(solve: &Arc<Solve>) -> Result<(), Stopped> {
    let records = solve.workshop.records.clone();
    // Not one of the jobs: it only waits.
    let synced = tokio::task::spawn_blocking(move || records.make_durable()).await;
    match synced {
        Ok(result) => result.map_err(|error| solve.fail(error)),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Stopped),
        },
    }
}

/// A finished image, by everything that went into it: an unchanged build reads this one record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageRecord {
    manifest: oci::Descriptor,
    config: oci::Descriptor,
    layers: Vec<SolvedLayer>,
}

fn image_key(solve: &Solve, output: &ImageOutput) -> Key {
    let ImageOutput { compression, config, created, author, history, annotations } = output;
    let config = serde_json::to_string(&(config, created, author, history, annotations));
    let epoch = solve.request.source_date_epoch.map_or_else(|| "none".to_owned(), |seconds| seconds.to_string());
    let parts = [
        "image",
        &solve.head_key().hex(),
        &solve.request.platform.to_string(),
        compression.identity(),
        &config.expect("configs hold only strings, numbers and string-keyed maps"),
        &epoch,
    ];
    Key::of(parts.map(str::as_bytes))
}

fn find_image(solve: &Solve, key: &Key) -> Option<SolvedImage> {
    let store = &solve.workshop.store;
    let ImageRecord { manifest, config, layers } = store.record(Bucket::Images, key)?;
    let is_present = |blob: &oci::Descriptor| store.blob_size(&blob.digest) == Some(blob.size);
    let whole =
        is_present(&manifest) && is_present(&config) && layers.iter().all(|layer| is_present(&layer.descriptor));
    whole.then_some(SolvedImage { manifest, config, layers })
}

fn keep_image(solve: &Solve, key: &Key, image: &SolvedImage) -> Result<(), Stopped> {
    let SolvedImage { manifest, config, layers } = image.clone();
    let record = ImageRecord { manifest, config, layers };
    // The blobs it names are synced; should it be lost itself, the image is put together again.
    let kept = solve.workshop.store.put_record_unsynced(Bucket::Images, key, &record);
    kept.map_err(|error| solve.fail(error))
}
