//! A builder's failure in clawbuild's words.

use std::io;

use engine::layout::ImageError;
use engine::{Layout, SolveError, SolveRequest, StepFailure, VertexError};
use llb::{MountKind, Op, SourceOp, Vertex};

use crate::control::{Failure, RemoteFailure};
use crate::session::Problem;

impl From<Failure> for SolveError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Dial(error) => Self::Engine(Box::new(error)),
            Failure::Remote(error) => Self::Engine(Box::new(error)),
            Failure::Canceled => Self::Canceled,
        }
    }
}

/// What failed, and why, as far as it can be known: by the vertex that failed, its exit status, and what the session
/// could not give.
pub(super) fn explain(request: &SolveRequest, failure: RemoteFailure, problems: Vec<Problem>) -> SolveError {
    let vertex = failure.vertex.and_then(|digest| request.definition.vertex(&digest));
    let Some(vertex) = vertex.or_else(|| troubled(request, &problems)) else {
        return SolveError::Engine(Box::new(failure));
    };
    if crate::control::is_full(&failure.message) && failure.exit_code.is_none() {
        return SolveError::Engine(Box::new(failure));
    }
    let is_refused = is_refused(&failure.message);
    // Where a registry lets everybody in it does not matter that credentials cannot be read.
    let matters = |problem: &Problem| is_refused || !matches!(problem, Problem::Credentials { .. });
    let problems = problems.into_iter().filter(matters);
    let mut causes = problems.filter_map(|problem| cause(request, vertex, problem));
    let error = causes.next().unwrap_or_else(|| step(vertex, failure));
    SolveError::vertex(&request.definition, vertex, error)
}

fn step(vertex: &Vertex, failure: RemoteFailure) -> VertexError {
    let RemoteFailure { message, exit_code, last_lines, .. } = failure;
    match (vertex.op(), exit_code) {
        (Op::Exec(exec), Some(code)) => {
            // Source: BuildKit `executor/runcexecutor`, which tells it so.
            let out_of_memory = message.contains("cannot allocate memory");
            StepFailure::new(&exec.args, code, out_of_memory, last_lines).into()
        }
        _ => VertexError::Builder { message },
    }
}

/// Whether a registry wanted to know who asks, by the builder's words.
fn is_refused(message: &str) -> bool {
    ["401", "403", "authoriz", "Unauthorized", "denied"].iter().any(|word| message.contains(word))
}

/// Without a word from the builder: the vertex that needed what the session could not give.
fn troubled<'a>(request: &'a SolveRequest, problems: &[Problem]) -> Option<&'a Vertex> {
    let needs = |vertex: &&Vertex| problems.iter().any(|problem| is_of(vertex, problem));
    request.definition.vertices().iter().find(needs)
}

fn is_of(vertex: &Vertex, problem: &Problem) -> bool {
    match (vertex.op(), problem) {
        (Op::Source(SourceOp::Local(local)), Problem::Context { name, .. } | Problem::NoSuchContext { name }) => {
            local.name == *name
        }
        (Op::Source(SourceOp::OciLayout(layout)), Problem::Blob { id, .. }) => {
            id.strip_prefix("oci:") == Some(layout.store.as_deref().unwrap_or(&layout.name))
        }
        (Op::Source(SourceOp::Image(image)), Problem::Credentials { registry, .. }) => {
            let name = image.repository.registry();
            registry == if name == "docker.io" { "registry-1.docker.io" } else { name }
        }
        (Op::Exec(exec), Problem::NoSuchSecret { id }) => exec
            .mounts
            .iter()
            .any(|mount| matches!(&mount.kind, MountKind::Secret(secret) if secret.id.0 == *id && !secret.optional)),
        (Op::Exec(exec), Problem::NoSuchAgent { id } | Problem::Agent { id, .. }) => exec
            .mounts
            .iter()
            .any(|mount| matches!(&mount.kind, MountKind::Ssh(agent) if agent.id.0 == *id && !agent.optional)),
        _ => false,
    }
}

fn cause(request: &SolveRequest, vertex: &Vertex, problem: Problem) -> Option<VertexError> {
    if !is_of(vertex, &problem) {
        return None;
    }
    match problem {
        Problem::Context { error, .. } => Some(error.into()),
        Problem::NoSuchContext { name } => Some(VertexError::NoSuchContext { name }),
        Problem::NoSuchSecret { id } => Some(VertexError::NoSuchSecret { id }),
        Problem::NoSuchAgent { id } => Some(VertexError::NoSuchAgent { id }),
        Problem::Agent { socket, source, .. } => {
            Some(VertexError::Io { action: "talk to the SSH agent at", path: socket, source })
        }
        Problem::Blob { id, digest, source } => {
            let layout = request.layouts.get(id.strip_prefix("oci:")?)?;
            let path = match layout {
                Layout::Store(store) => store.root().to_owned(),
                Layout::Directory(path) => path.clone(),
            };
            Some(VertexError::Image(match source.kind() {
                io::ErrorKind::NotFound => ImageError::Missing { layout: path, digest },
                _ => ImageError::Read { path: path.join("blobs/sha256").join(digest.hex()), source },
            }))
        }
        Problem::Credentials { error, .. } => Some(VertexError::Builder {
            message: format!("the registry lets nobody in whom it does not know, and {error}"),
        }),
        Problem::NoSuchStore { .. } | Problem::Receive { .. } => None,
    }
}
