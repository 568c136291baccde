//! Failures as BuildKit's clients show them: a status whose details mark lines of the recipe.
//!
//! Spec: BuildKit `solver/errdefs/errdefs.proto`; details travel as JSON under containerd's type URLs
//! (`util/grpcerrors`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::google::{protobuf, rpc};
use diag::{Diagnostic, Label, Span};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::Code;

const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";
const SUBREQUEST: &str = "github.com/moby/buildkit/errdefs.Subrequest+json";
/// What BuildKit says where a frontend does not answer a kind of question.
pub const UNSUPPORTED_SUBREQUEST: &str = "unsupported request";

/// A failure on its way to the daemon, and through it to the client.
#[derive(Clone, Debug, PartialEq)]
pub struct Status(rpc::Status);

/// A text and the lines of it that a failure is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    source: diag::Source,
    spans: Vec<Span>,
}

impl Source {
    /// The places a diagnostic marks, by text, the most important first.
    #[must_use]
    pub fn of(diagnostic: &Diagnostic) -> Vec<Self> {
        let mut sources: Vec<Self> = Vec::new();
        for Label { source, span, .. } in &diagnostic.labels {
            match sources.iter_mut().find(|known| known.source == *source) {
                Some(known) => known.spans.push(*span),
                None => sources.push(Self { source: source.clone(), spans: vec![*span] }),
            }
        }
        sources
    }

    fn to_json(&self) -> Value {
        let position = |offset| {
            let place = self.source.line_column(offset);
            json!({ "line": place.line, "character": place.column - 1 })
        };
        let range = |span: &Span| json!({ "start": position(span.start), "end": position(span.end) });
        json!({
            "info": {
                "filename": self.source.name(),
                "data": STANDARD.encode(self.source.text()),
                "language": "TOML",
            },
            "ranges": self.spans.iter().map(range).collect::<Vec<_>>(),
        })
    }
}

fn detail(type_url: &str, value: &Value) -> protobuf::Any {
    protobuf::Any { type_url: type_url.to_owned(), value: value.to_string().into_bytes() }
}

impl Status {
    /// A failure in the frontend's own words.
    #[must_use]
    pub fn new(message: String, sources: &[Source]) -> Self {
        // Clients print the name of any other code in front of the message.
        let code = i32::from(Code::Unknown);
        // The client shows the last source it meets first to last; the innermost detail is the first.
        let details = sources.iter().map(|source| detail(SOURCE, &source.to_json())).collect();
        Self(rpc::Status { code, message, details })
    }

    /// A question that frontends may be asked and this one does not answer.
    #[must_use]
    pub fn unsupported_subrequest(name: &str) -> Self {
        let code = i32::from(Code::Unimplemented);
        let details = vec![detail(SUBREQUEST, &json!({ "name": name }))];
        Self(rpc::Status { code, message: format!("{UNSUPPORTED_SUBREQUEST} {name}"), details })
    }

    /// What the daemon itself said of a call, to be handed back as it is.
    #[must_use]
    pub fn of_daemon(status: &tonic::Status) -> Self {
        let known = rpc::Status::decode(status.details()).ok().filter(|known| known.code != 0);
        Self(known.unwrap_or_else(|| rpc::Status {
            code: i32::from(status.code()),
            message: status.message().to_owned(),
            details: Vec::new(),
        }))
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub(super) fn into_pb(self) -> rpc::Status {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use diag::codes;

    use super::*;

    #[test]
    fn marks_lines_as_buildkit_reads_them() {
        let source = diag::Source::new("recipe.toml", "a = 1\nb = 2\n");
        let diagnostic = Diagnostic::new(codes::recipe::BAD_VALUE, "bad")
            .label(&source, Span::new(10..11), "here")
            .label(&source, Span::new(0..1), "and here");
        let sources = Source::of(&diagnostic);
        let status = Status::new("bad".to_owned(), &sources).into_pb();
        let [detail] = status.details.as_slice() else { panic!("one source is marked") };
        assert_eq!(detail.type_url, SOURCE);
        let value: Value = serde_json::from_slice(&detail.value).expect("JSON");
        assert_eq!(value["info"]["filename"], "recipe.toml");
        assert_eq!(value["info"]["data"], STANDARD.encode("a = 1\nb = 2\n"));
        assert_eq!(
            value["ranges"][0],
            json!({ "start": { "line": 2, "character": 4 }, "end": { "line": 2, "character": 5 } })
        );
        assert_eq!(value["ranges"][1]["start"]["line"], 1);
    }

    #[test]
    fn what_the_daemon_said_goes_back_whole() {
        let inner = rpc::Status { code: 5, message: "gone".to_owned(), details: vec![detail(SOURCE, &json!({}))] };
        let status = tonic::Status::with_details(Code::NotFound, "gone", inner.encode_to_vec().into());
        assert_eq!(Status::of_daemon(&status), Status(inner));
        let bare = Status::of_daemon(&tonic::Status::new(Code::NotFound, "gone"));
        assert_eq!((bare.0.code, bare.message()), (5, "gone"));
    }
}
