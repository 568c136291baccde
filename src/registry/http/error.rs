//! What can go wrong between here and a server.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use diag::{Diagnostic, Reported, codes};
use reqwest::StatusCode;

use super::retry::{Retryable, Verdict};
use super::{RedactedUrl, TlsError};

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The network is switched off.
    #[error("`{url}` would have to be fetched, and `--offline` forbids it")]
    Offline {
        /// What was wanted.
        url: RedactedUrl,
    },
    /// TLS cannot be set up on this machine.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The connection could not be made, or broke.
    #[error("no answer from `{url}`")]
    Unreachable {
        /// What was wanted.
        url: RedactedUrl,
        /// What the transport said.
        source: reqwest::Error,
    },
    /// The server went silent.
    #[error("`{url}` has been silent for {} s", after.as_secs())]
    Silent {
        /// What was wanted.
        url: RedactedUrl,
        /// For how long.
        after: Duration,
    },
    /// The server's certificate is not trusted.
    #[error("the certificate of `{url}` is not trusted")]
    Certificate {
        /// What was wanted.
        url: RedactedUrl,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The answer's status is not a success.
    #[error("`{url}` answered {status}{}", detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Status {
        /// What was wanted.
        url: RedactedUrl,
        /// The status.
        status: StatusCode,
        /// The server's own words, one line, where it gave any.
        detail: Option<String>,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// The body ended early.
    #[error("the transfer of `{url}` broke off after {received} bytes")]
    Truncated {
        /// What was wanted.
        url: RedactedUrl,
        /// How much came.
        received: u64,
        /// What the transport said.
        source: reqwest::Error,
    },
    /// The body is longer than is sensible.
    #[error("`{url}` is longer than {limit} bytes")]
    TooLong {
        /// What was wanted.
        url: RedactedUrl,
        /// What was allowed.
        limit: u64,
    },
    /// Too many redirections, or one from TLS to plain HTTP.
    #[error("`{url}` redirects to where it may not be followed")]
    Redirect {
        /// What was wanted.
        url: RedactedUrl,
        /// What the transport said.
        source: reqwest::Error,
    },
    /// A file that stands in for a URL cannot be read.
    #[error("cannot read `{path}`, the mirror of `{url}`")]
    File {
        /// What was wanted.
        url: RedactedUrl,
        /// The mirror's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a URL that can be fetched.
    #[error("`{url}` cannot be fetched: only `https`, `http` and mirrored `file` URLs can")]
    Scheme {
        /// What was wanted.
        url: RedactedUrl,
    },
}

impl HttpError {
    /// Sorts a transport error by its cause.
    pub(crate) fn from_transport(url: RedactedUrl, error: reqwest::Error) -> Self {
        let error = error.without_url();
        if let Some(source) = certificate_error(&error) {
            return Self::Certificate { url, source };
        }
        if error.is_redirect() {
            return Self::Redirect { url, source: error };
        }
        Self::Unreachable { url, source: error }
    }

    /// Whether the server says that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(*status, StatusCode::NOT_FOUND | StatusCode::GONE),
            Self::File { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// The status the server answered with.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// What is wrong with the server's certificate, if that is what is wrong.
fn certificate_error(error: &(dyn std::error::Error + 'static)) -> Option<rustls::Error> {
    if let Some(found) = error.downcast_ref::<rustls::Error>() {
        return matches!(found, rustls::Error::InvalidCertificate(_)).then(|| found.clone());
    }
    // TLS errors travel inside io errors, and the `source` of those skips the error they wrap.
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let inner: &(dyn std::error::Error + 'static) = match wrapped {
        Some(wrapped) => wrapped,
        None => error.source()?,
    };
    certificate_error(inner)
}

/// Whether the server was never spoken to: no such host, nobody listening, no route.
fn never_connected(error: &reqwest::Error) -> bool {
    error.is_connect() && !error.is_timeout()
}

/// Whether a status may pass by itself. 499 is what proxies in front of GHCR answer when their backend gave up.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 499 | 500 | 502..=504 | 506..=599)
}

impl Retryable for HttpError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Unreachable { source, .. } if never_connected(source) => Verdict::Once,
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Truncated { .. } => Verdict::Again { after: None },
            Self::Status { status, retry_after, .. } if is_transient(*status) => Verdict::Again { after: *retry_after },
            Self::Offline { .. }
            | Self::Tls(_)
            | Self::Certificate { .. }
            | Self::Status { .. }
            | Self::TooLong { .. }
            | Self::Redirect { .. }
            | Self::File { .. }
            | Self::Scheme { .. } => Verdict::Final,
        }
    }
}

impl Reported for HttpError {
    fn diagnostic(&self) -> Diagnostic {
        let diagnostic = |code| Diagnostic::new(code, self.to_string());
        match self {
            Self::Offline { .. } => diagnostic(codes::registry::OFFLINE)
                .help("run once without `--offline`: what is fetched stays in the store"),
            Self::Tls(error) => Diagnostic::new(codes::registry::CERTIFICATE, error.to_string())
                .caused_by(error)
                .help("install the package `ca-certificates`, or point `SSL_CERT_FILE` at a bundle of authorities"),
            Self::Unreachable { .. } | Self::Silent { .. } => diagnostic(codes::registry::UNREACHABLE)
                .caused_by(self)
                .help("check the network and `HTTPS_PROXY`/`NO_PROXY`; `[mirrors]` can name another server"),
            Self::Truncated { .. } => diagnostic(codes::registry::UNREACHABLE)
                .caused_by(self)
                .help("run it again: what was fetched whole is kept"),
            Self::Certificate { .. } => diagnostic(codes::registry::CERTIFICATE)
                .caused_by(self)
                .help("behind a proxy that inspects TLS, point `SSL_CERT_FILE` at a bundle that holds its authority"),
            Self::Status { status, .. } => match *status {
                StatusCode::NOT_FOUND | StatusCode::GONE => diagnostic(codes::registry::NOT_FOUND),
                StatusCode::UNAUTHORIZED => diagnostic(codes::registry::UNAUTHORIZED),
                StatusCode::FORBIDDEN => diagnostic(codes::registry::DENIED),
                status if is_transient(status) => diagnostic(codes::registry::UNAVAILABLE).help("try again later"),
                _ => diagnostic(codes::registry::REJECTED),
            },
            Self::TooLong { .. } | Self::Redirect { .. } => diagnostic(codes::registry::MALFORMED).caused_by(self),
            Self::File { .. } => diagnostic(codes::registry::NOT_FOUND)
                .caused_by(self)
                .help("mend the mirror, or remove it from `[mirrors]`"),
            Self::Scheme { .. } => diagnostic(codes::registry::MALFORMED),
        }
    }
}

/// A server's own words in one short line: the messages of a distribution-spec or npm error document, or the text
/// itself if it is one. Spec: OCI distribution-spec §Error Codes.
pub(super) fn detail(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Document {
        #[serde(default)]
        errors: Vec<Item>,
        #[serde(default)]
        error: Option<String>,
        #[serde(default)]
        message: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let words = match serde_json::from_slice::<Document>(body) {
        Ok(Document { errors, error, message }) if errors.is_empty() => error.or(message)?,
        Ok(Document { errors, .. }) => {
            let one = |Item { code, message }| if message.is_empty() { code } else { format!("{message} ({code})") };
            errors.into_iter().map(one).collect::<Vec<_>>().join("; ")
        }
        Err(_) => std::str::from_utf8(body).ok().filter(|text| !text.contains('<'))?.to_owned(),
    };
    let printable: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    let trimmed = printable.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_s_words_are_found_in_their_usual_places() {
        let denied = br#"{"errors":[{"code":"DENIED","message":"no write access","detail":{}}]}"#;
        assert_eq!(detail(denied).as_deref(), Some("no write access (DENIED)"));
        assert_eq!(detail(br#"{"error":"version not found: 9"}"#).as_deref(), Some("version not found: 9"));
        assert_eq!(detail(b"too\nmany\n").as_deref(), Some("too many"));
        assert_eq!(detail(b"<html>..."), None);
        assert_eq!(detail(b""), None);
        assert_eq!(detail(b"{}"), None);
    }
}
