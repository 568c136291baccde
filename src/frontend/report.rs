//! Failures on their way to the client, which prints the message and the lines it marks.

use buildkit::gateway::{ErrorSource, GatewayError, Status};
use diag::{Diagnostic, Reported};

use crate::cli::Failure;

/// Why a build ends without a result.
#[derive(Debug)]
pub(super) enum Stop {
    /// Something the frontend found out.
    Failure(Failure),
    /// The daemon refused a call; what it said of it goes back as it is.
    Gateway(GatewayError),
    /// A question this frontend does not answer.
    Subrequest(String),
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

impl Stop {
    /// Makes a closure for `map_err` on calls of the daemon.
    pub(super) fn gateway(error: GatewayError) -> Self {
        Self::Gateway(error)
    }

    pub(super) fn into_status(self) -> Status {
        match self {
            Self::Gateway(GatewayError::Call { status, .. }) => Status::of_daemon(&status),
            Self::Gateway(error) => of_diagnostics(&[error.diagnostic()]),
            Self::Failure(failure) => of_diagnostics(failure.diagnostics()),
            Self::Subrequest(name) => Status::unsupported_subrequest(&name),
        }
    }
}

fn of_diagnostics(diagnostics: &[Diagnostic]) -> Status {
    let sources: Vec<ErrorSource> = diagnostics.iter().flat_map(ErrorSource::of).collect();
    let texts: Vec<String> = diagnostics.iter().map(text).collect();
    Status::new(texts.join("\n\n"), &sources)
}

/// A diagnostic without the lines it marks. What the first label says of its line follows the message.
pub(super) fn text(diagnostic: &Diagnostic) -> String {
    let mut text = format!("{} ({})", diagnostic.message, diagnostic.code);
    let label = diagnostic.labels.first().map(|label| {
        let place = label.source.line_column(label.span.start);
        let remark = if label.text.is_empty() { String::new() } else { format!(": {}", label.text) };
        format!("{}:{}{remark}", label.source.name(), place.line)
    });
    let notes = label.iter().chain(&diagnostic.causes).map(|note| format!("note: {note}"));
    let help = diagnostic.help.iter().map(|help| format!("help: {help}"));
    for line in notes.chain(help) {
        text.push('\n');
        text.push_str(&line);
    }
    for related in &diagnostic.related {
        text.push_str(&format!("\n{}:", related.title));
        related.lines.iter().for_each(|line| text.push_str(&format!("\n  {line}")));
    }
    text
}
