//! A builder's failure in clawbuild's words.

use engine::{SolveError, SolveRequest, StepFailure, VertexError};
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
    let error =
        problems.into_iter().find_map(|problem| cause(vertex, problem)).unwrap_or_else(|| step(vertex, failure));
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

fn cause(vertex: &Vertex, problem: Problem) -> Option<VertexError> {
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
        Problem::NoSuchStore { .. } | Problem::Blob { .. } | Problem::Credentials { .. } | Problem::Receive { .. } => {
            None
        }
    }
}
