//! What a builder says when something fails.

use std::error::Error;

use bollard_buildkit_proto::google::rpc;
use diag::{Diagnostic, Reported, codes};
use engine::LastLines;
use oci::Digest;
use prost::Message as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tonic::{Code, Status};

use super::Builder;
use crate::transport::{DialError, Trouble};

/// A build that failed, as told by the builder or noticed by the connection.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The connection broke off, or the builder went away.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The builder says so.
    #[error(transparent)]
    Remote(#[from] RemoteFailure),
    /// The caller wished it to stop.
    #[error("interrupted")]
    Canceled,
}

/// What a builder says of a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the builder at {address} refuses: {message}")]
pub struct RemoteFailure {
    /// The builder.
    pub address: String,
    /// Its words, without the names of its functions.
    pub message: String,
    /// The vertex that failed, where it was one.
    pub vertex: Option<Digest>,
    /// The exit status of the vertex's command, where that is why.
    pub exit_code: Option<i32>,
    /// What the vertex wrote last.
    pub last_lines: LastLines,
}

impl Reported for RemoteFailure {
    fn diagnostic(&self) -> Diagnostic {
        if is_full(&self.message) {
            return Diagnostic::new(
                codes::engine::BUILDER_FULL,
                format!("the disk of the builder at {} is full", self.address),
            )
            .cause(&self.message)
            .help("free space there, such as with `buildctl prune`, or use another builder");
        }
        Diagnostic::new(codes::engine::BUILDER, self.to_string())
    }
}

/// Whether the words are those of a system without space.
pub(crate) fn is_full(message: &str) -> bool {
    message.contains("no space left on device") || message.contains("disk quota exceeded")
}

/// Whether a status was made on this side, out of a broken connection: the other side sends no causes.
pub(super) fn is_local(status: &Status) -> bool {
    status.source().is_some()
}

/// What is at the end of a status's causes: what is above only says which library handed it on.
pub(super) fn root_cause(status: &Status) -> String {
    let mut last = status.message().to_owned();
    let mut next = status.source();
    while let Some(error) = next {
        last = error.to_string();
        next = error.source();
    }
    last
}

impl Builder {
    /// Tells a broken connection from a build that failed.
    pub(super) fn failure(&self, status: Status) -> Failure {
        let address = self.connection().describe();
        // A builder that is stopped ends its builds with a cancellation of its own.
        if is_local(&status) || matches!(status.code(), Code::Unavailable | Code::Cancelled) {
            let source: Box<dyn Error + Send + Sync> = match self.connection().take_trouble() {
                Some(Trouble::Dial(error)) => return error.into(),
                Some(Trouble::Broken(error)) => Box::new(error),
                None => root_cause(&status).into(),
            };
            return DialError::Lost { address, source: Some(source) }.into();
        }
        let details = Details::of(&status);
        let message = plain(status.message()).to_owned();
        let exit_code = details.exit_code.or_else(|| exit_code_in(&message));
        let last_lines = LastLines::default();
        RemoteFailure { address, message, vertex: details.vertex, exit_code, last_lines }.into()
    }
}

/// What comes with a status. Source: BuildKit `util/grpcerrors`: JSON in the values of `google.rpc.Status.details`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Details {
    vertex: Option<Digest>,
    exit_code: Option<i32>,
}

#[derive(Deserialize)]
struct Vertex {
    digest: String,
}

#[derive(Deserialize)]
struct ExitMessage {
    // Go leaves out what is zero.
    #[serde(default, rename = "Code", alias = "code")]
    code: u32,
}

impl Details {
    fn of(status: &Status) -> Self {
        let Ok(decoded) = rpc::Status::decode(status.details()) else { return Self::default() };
        let find = |kind: &str| decoded.details.iter().find(|any| any.type_url.ends_with(kind));
        let vertex = find("errdefs.Vertex+json").and_then(|any| json::<Vertex>(&any.value));
        let exit = find("gatewayapi.ExitMessage+json").and_then(|any| json::<ExitMessage>(&any.value));
        Self {
            vertex: vertex.and_then(|vertex| vertex.digest.parse().ok()),
            exit_code: exit.and_then(|exit| i32::try_from(exit.code).ok()),
        }
    }
}

fn json<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    serde_json::from_slice(value).ok()
}

/// The exit status out of a builder's words: old ones give no details.
fn exit_code_in(message: &str) -> Option<i32> {
    // The second are the words of BuildKit 0.8, which is in Docker 20.10.
    let (_, code) = message.rsplit_once("did not complete successfully: exit code: ").or_else(|| {
        message.starts_with("executor failed running ").then(|| message.rsplit_once("]: exit code: "))?
    })?;
    let digits = code.find(|character: char| !character.is_ascii_digit()).unwrap_or(code.len());
    code[..digits].parse().ok()
}

/// The words without what says only who passed them on.
fn plain(message: &str) -> &str {
    ["failed to solve: ", "rpc error: code = Unknown desc = "]
        .iter()
        .fold(message, |message, prefix| message.strip_prefix(prefix).unwrap_or(message))
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::google::protobuf::Any;
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_vertex_and_the_exit_status_are_found() {
        let vertex = Digest::of("vertex");
        let any = |kind: &str, json: String| Any {
            type_url: format!("github.com/moby/buildkit/{kind}+json"),
            value: json.into_bytes(),
        };
        let details = rpc::Status {
            code: 2,
            message: "failed".to_owned(),
            details: vec![
                any("stack.Stack", r#"{"frames":[]}"#.to_owned()),
                any("gatewayapi.ExitMessage", r#"{"Code":42}"#.to_owned()),
                any("errdefs.Vertex", format!(r#"{{"digest":"{vertex}"}}"#)),
            ],
        };
        let status = Status::with_details(Code::Unknown, "failed", Bytes::from(details.encode_to_vec()));
        assert_eq!(Details::of(&status), Details { vertex: Some(vertex), exit_code: Some(42) });
        assert_eq!(Details::of(&Status::unknown("failed")), Details::default());
    }

    #[test]
    fn old_builders_say_the_exit_status_in_words() {
        let message = r#"process "/bin/sh -c false" did not complete successfully: exit code: 17: runc did not"#;
        assert_eq!(exit_code_in(message), Some(17));
        assert_eq!(exit_code_in("executor failed running [/bin/sh -ec exit 3]: exit code: 3"), Some(3));
        assert_eq!(exit_code_in("not found"), None);
    }
}
