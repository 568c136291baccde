//! Sending local directories: `FileSync`.
//!
//! We list all files, the daemon asks for those it does not have. Source: tonistiigi/fsutil `receive.go`, BuildKit
//! `session/filesync`.

mod packet;
mod send;
mod times;

#[cfg(test)]
mod receiver;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use engine::context::{Context, ContextError, Filters};
use futures::future::BoxFuture;
use futures::{Stream, StreamExt as _, stream};
use store::Store;
use tokio_util::task::TaskTracker;
use tonic::server::NamedService;
use tonic::{Request, Response, Status, Streaming};

use super::journal::{Journal, Problem};
use super::rpc::{self, HttpRequest, HttpResponse};
use packet::Packet;
use times::Times;

/// The methods of the service that are answered.
pub(super) const METHODS: [&str; 1] = [DIFF_COPY];

const DIFF_COPY: &str = "/moby.filesync.v1.FileSync/DiffCopy";

/// Headers of a request. Source: BuildKit `session/filesync/filesync.go`.
mod header {
    pub(super) const NAME: &str = "dir-name";
    pub(super) const INCLUDE: &str = "include-patterns";
    pub(super) const EXCLUDE: &str = "exclude-patterns";
    pub(super) const FOLLOW: &str = "followpaths";
}

/// Sends the directories that are offered.
#[derive(Clone, Debug)]
pub(super) struct Files(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    contexts: BTreeMap<String, PathBuf>,
    store: Store,
    journal: Journal,
    tasks: TaskTracker,
}

impl Files {
    pub(super) fn new(contexts: BTreeMap<String, PathBuf>, store: Store, journal: Journal, tasks: TaskTracker) -> Self {
        Self(Arc::new(Inner { contexts, store, journal, tasks }))
    }

    async fn diff_copy(
        self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<impl Stream<Item = Result<Packet, Status>> + use<>>, Status> {
        let name = rpc::value(request.metadata(), header::NAME)?;
        let filters = Filters {
            include: rpc::values(request.metadata(), header::INCLUDE)?,
            exclude: rpc::values(request.metadata(), header::EXCLUDE)?,
            follow_paths: rpc::values(request.metadata(), header::FOLLOW)?,
        };
        let Some(root) = self.0.contexts.get(&name).cloned() else {
            let status = Status::not_found(format!("there is no local context `{name}`"));
            self.0.journal.problem(Problem::NoSuchContext { name });
            return Err(status);
        };
        let (store, wanted) = (self.0.store.clone(), filters.clone());
        let scan =
            self.0.tasks.spawn_blocking(move || Context::scan_files(&root, &wanted, &store, times::needs_digest));
        let context = match scan.await {
            Ok(scanned) => scanned.map_err(|error| failed(&self.0.journal, &name, error))?,
            Err(error) => return Err(Status::internal(error.to_string())),
        };
        self.0.journal.scanned(&name, &filters, context.digest());
        let context = Arc::new(context);
        let (journal, requests) = (self.0.journal.clone(), request.into_inner());
        let sent =
            send::send(Arc::clone(&context), requests, &self.0.tasks, move |error| failed(&journal, &name, error));
        Ok(Response::new(stream::select(list(context), sent)))
    }
}

/// Every file, then the end of the list.
fn list(context: Arc<Context>) -> impl Stream<Item = Result<Packet, Status>> {
    let times = Times::of(context.entries());
    let mut next = Some(0);
    let packets = std::iter::from_fn(move || {
        let position = next?;
        let entry = context.entries().get(position);
        next = entry.is_some().then_some(position + 1);
        Some(entry.map_or_else(Packet::end_of_list, |entry| Packet::stat(entry, &times)))
    });
    stream::iter(packets).map(Ok)
}

/// Notes a failure, and says it to the daemon.
fn failed(journal: &Journal, name: &str, error: ContextError) -> Status {
    let mut text = error.to_string();
    if let ContextError::Io { source, .. } = &error {
        text = format!("{text}: {source}");
    }
    let status = match &error {
        ContextError::NotADirectory { .. } => Status::not_found(text),
        ContextError::Pattern(_) => Status::invalid_argument(text),
        ContextError::Changed { .. } => Status::aborted(text),
        ContextError::Io { .. } | ContextError::SpecialFile { .. } => Status::failed_precondition(text),
    };
    journal.problem(Problem::Context { name: name.to_owned(), error });
    status
}

impl NamedService for Files {
    const NAME: &'static str = "moby.filesync.v1.FileSync";
}

impl tower::Service<HttpRequest> for Files {
    type Response = HttpResponse;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<HttpResponse, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest) -> Self::Future {
        let files = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                DIFF_COPY => rpc::streaming(request, move |request| files.clone().diff_copy(request)).await,
                other => rpc::unimplemented(other),
            })
        })
    }
}
