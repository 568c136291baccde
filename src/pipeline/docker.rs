//! Loading images into Docker over its API.

use bollard::query_parameters::ImportImageOptions;
use buildkit::builders::Environment;
use diag::progress::{Outcome, TaskId};
use diag::{Diagnostic, codes};
use futures::TryStreamExt as _;
use tokio_util::io::{ReaderStream, SyncIoBridge};

use super::layout::Export;
use super::{ImageName, Product, Session};
use crate::cli::Failure;

/// Bytes of the archive under way between its writer and Docker.
const WINDOW: usize = 1 << 20;

/// Loads an image, streaming the archive as it is made: nothing is written to disk.
pub(crate) async fn load(session: &Session, product: &Product, name: &ImageName) -> Result<(), Failure> {
    let docker = Environment::of_process().docker()?.endpoint.client();
    docker.ping().await.map_err(|error| unreachable(&error))?;
    let task =
        session.progress().task(TaskId::new("docker load"), format!("[docker] load {}", name.shown().familiar()));
    let (writer, reader) = tokio::io::duplex(WINDOW);
    let image = Export::new(session, product.root(), name);
    // The writer is dropped with the bridge, and so the reader sees the end.
    let writing = tokio::task::spawn_blocking(move || image.to_docker(&mut SyncIoBridge::new(writer)));
    let body = ReaderStream::with_capacity(reader, WINDOW);
    let loading = docker.import_image_stream(ImportImageOptions { quiet: true, ..Default::default() }, body, None);
    let loaded: Result<Vec<_>, _> = loading.try_collect().await;
    let written = writing.await.expect("writing an archive does not panic");
    let refused = |error: bollard::errors::Error| {
        Diagnostic::new(codes::cli::DOCKER, "Docker did not take the image").caused_by(&error)
    };
    // Where Docker hangs up, writing fails too; Docker's own word is the better one.
    let messages = loaded.map_err(refused)?;
    if let Some(error) = messages.iter().find_map(|message| message.error_detail.as_ref()) {
        let cause = error.message.clone().unwrap_or_default();
        return Err(Diagnostic::new(codes::cli::DOCKER, "Docker did not take the image").cause(cause).into());
    }
    written?;
    task.finish(Outcome::Done);
    Ok(())
}

fn unreachable(error: &bollard::errors::Error) -> Failure {
    Diagnostic::new(codes::cli::DOCKER, "Docker cannot be reached")
        .caused_by(error)
        .help("start it, or say where it is with DOCKER_HOST or `docker context use`")
        .help("without Docker, write an archive: `-o type=docker,dest=image.tar`")
        .into()
}
