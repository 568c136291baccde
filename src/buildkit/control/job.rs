//! One build on a builder, from its start until nothing of it is left.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bollard_buildkit_proto::moby::buildkit::v1::{
    self, CacheOptions, CacheOptionsEntry, SolveRequest, SolveResponse, StatusRequest,
};
use bollard_buildkit_proto::pb;
use diag::progress::Progress;
use engine::{CacheSpec, CacheStats};
use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use super::carrier::Carrier;
use super::failure::Failure;
use super::status::{Names, StatusReader};
use super::{Builder, RemoteFailure};
use crate::random_id;
use crate::session::Session;
use crate::transport::{Purpose, SessionRoute};

/// How often what was held back is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long the status stream of a build that is over may stay silent before it is left: where it said something, and
/// where the build may have failed before it began.
const SILENCE: Duration = Duration::from_secs(3);
const NEVER_BEGUN: Duration = Duration::from_millis(300);

/// What a builder is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// Names the build, for its gateway; random.
    pub id: String,
    /// The graph; without one the build waits for what its gateway is told.
    pub definition: Option<pb::Definition>,
    /// What the graph's vertices are to the user.
    pub names: Names,
    /// What becomes of the result; without one it is only made.
    pub exporter: Option<Exporter>,
    /// Caches to look into.
    pub cache_from: Vec<CacheSpec>,
    /// Caches to fill.
    pub cache_to: Vec<CacheSpec>,
    /// What the build may do that not every build may, such as `network.host`.
    pub entitlements: Vec<String>,
}

/// An exporter of a builder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exporter {
    /// Its name, such as `oci`.
    pub kind: &'static str,
    /// What it is told.
    pub attributes: BTreeMap<String, String>,
}

/// A build that is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// What the exporter says of its result.
    pub response: BTreeMap<String, String>,
    /// How much was known already.
    pub cache: CacheStats,
}

impl Job {
    /// A build of this graph.
    #[must_use]
    pub fn new(definition: Option<pb::Definition>, names: Names) -> Self {
        Self { id: random_id(), definition, names, ..Self::default() }
    }

    fn request(&self, session: &str) -> SolveRequest {
        let exporters = self.exporter.iter().map(|exporter| v1::Exporter {
            r#type: exporter.kind.to_owned(),
            attrs: exporter.attributes.clone().into_iter().collect(),
        });
        let entries = |specs: &[CacheSpec]| {
            let entry = |spec: &CacheSpec| CacheOptionsEntry {
                r#type: spec.kind.as_str().to_owned(),
                attrs: spec.attributes.clone().into_iter().collect(),
            };
            specs.iter().map(entry).collect()
        };
        let exporter = self.exporter.clone().unwrap_or_default();
        SolveRequest {
            r#ref: self.id.clone(),
            definition: self.definition.clone(),
            session: session.to_owned(),
            exporters: exporters.collect(),
            // What builders from before BuildKit 0.13 read instead.
            exporter_deprecated: exporter.kind.to_owned(),
            exporter_attrs_deprecated: exporter.attributes.into_iter().collect(),
            cache: Some(CacheOptions {
                imports: entries(&self.cache_from),
                exports: entries(&self.cache_to),
                ..CacheOptions::default()
            }),
            entitlements: self.entitlements.clone(),
            ..SolveRequest::default()
        }
    }
}

impl Builder {
    /// Runs a build with a session, tells `progress` what the builder says of it, and waits until it is over. `drive`
    /// is what talks to the gateway meanwhile; when it fails, so does the build.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn run(
        &self,
        job: Job,
        session: Session,
        progress: Progress,
        cancel: CancellationToken,
        drive: Option<BoxFuture<'_, Result<(), Status>>>,
    ) -> Result<Finished, Failure> {
        // Should the caller drop this future, the session ends too.
        let session_cancel = CancellationToken::new();
        let _guard = session_cancel.clone().drop_guard();
        let request = job.request(session.id());
        let serving = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Failure::Canceled),
            serving = self.attach(session, session_cancel.clone()) => serving?,
        };

        let over = CancellationToken::new();
        let reader = StatusReader::new(progress, job.names.clone());
        let watching = self.watch(&job.id, reader, &over);
        let solving = async {
            let solved = self.solve(request, &cancel, drive).await;
            over.cancel();
            solved
        };
        let (mut reader, solved) = tokio::join!(watching, solving);

        session_cancel.cancel();
        // It has nothing to say but that it is over.
        let _ = serving.await;
        let failed = reader.failed();
        match solved {
            Ok(response) => {
                let response = response.into_inner().exporter_response.into_iter().collect();
                Ok(Finished { response, cache: reader.finish() })
            }
            Err(Failure::Remote(failure)) => {
                let vertex = failure.vertex.or(failed);
                let last_lines = vertex.map(|vertex| reader.take_last_lines(&vertex)).unwrap_or_default();
                let vertex = vertex.map(|vertex| job.names.original(&vertex).unwrap_or(vertex));
                Err(RemoteFailure { vertex, last_lines, ..failure }.into())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Serves a session until `cancel` is triggered or the builder closes it.
    pub(crate) async fn attach(&self, session: Session, cancel: CancellationToken) -> Result<JoinHandle<()>, Failure> {
        let metadata = session.metadata();
        let dial = self.connection().dial();
        Ok(match dial.session_route() {
            SessionRoute::Control => {
                let carrier = Carrier::open(self, &metadata).await.map_err(|status| self.failure(status))?;
                tokio::spawn(session.serve(carrier, cancel))
            }
            SessionRoute::Dialed => {
                let stream = dial.dial(Purpose::Session { metadata: &metadata }).await?;
                tokio::spawn(session.serve(stream, cancel))
            }
        })
    }

    async fn solve(
        &self,
        request: SolveRequest,
        cancel: &CancellationToken,
        drive: Option<BoxFuture<'_, Result<(), Status>>>,
    ) -> Result<Response<SolveResponse>, Failure> {
        let mut client = self.client();
        // Dropping the call is what cancels the build.
        let solving = client.solve(request);
        let driving = async {
            match drive {
                Some(drive) => drive.await,
                None => Ok(()),
            }
        };
        let both = async {
            tokio::pin!(solving);
            tokio::select! {
                solved = &mut solving => solved,
                driven = driving => match driven {
                    Ok(()) => solving.await,
                    // The build may have failed first, and its own words are better.
                    Err(status) => match tokio::time::timeout(NEVER_BEGUN, solving).await {
                        Ok(Err(status)) => Err(status),
                        Ok(Ok(_)) | Err(_) => Err(status),
                    },
                },
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Failure::Canceled),
            solved = both => solved.map_err(|status| self.failure(status)),
        }
    }

    /// Hands on what the builder says of a build, until it has said everything.
    async fn watch(&self, build: &str, mut reader: StatusReader, over: &CancellationToken) -> StatusReader {
        let mut client = self.client();
        let opening = client.status(StatusRequest { r#ref: build.to_owned() });
        let too_late = async {
            over.cancelled().await;
            tokio::time::sleep(NEVER_BEGUN).await;
        };
        let mut stream = tokio::select! {
            opened = opening => match opened {
                Ok(stream) => stream.into_inner(),
                Err(_) => return reader,
            },
            () = too_late => return reader,
        };
        let mut ticks = tokio::time::interval(TICK);
        let (mut silence, mut silent_since) = (NEVER_BEGUN, Instant::now());
        loop {
            tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(response)) => {
                        (silence, silent_since) = (SILENCE, Instant::now());
                        reader.take(response);
                    }
                    // What broke it, the build's own answer tells.
                    Ok(None) | Err(_) => return reader,
                },
                _ = ticks.tick() => {
                    let now = Instant::now();
                    reader.tick(now);
                    if !over.is_cancelled() {
                        silent_since = now;
                    } else if now.duration_since(silent_since) > silence {
                        return reader;
                    }
                }
            }
        }
    }
}
