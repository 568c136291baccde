//! What can go wrong with images in registries.

use diag::{Diagnostic, Reported, codes};
use oci::{Digest, Platform, Reference, Repository, Tag};
use reqwest::StatusCode;
use store::StoreError;

use super::Direction;
use super::keychain::CredentialError;
use crate::download::DownloadError;
use crate::http::HttpError;
use crate::http::retry::{Retryable, Verdict};

/// An image cannot be fetched or sent.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The registry cannot be talked to.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry's name is no host.
    #[error("`{registry}` is not the name of a registry")]
    Registry {
        /// The name.
        registry: String,
        /// What is wrong with it.
        source: url::ParseError,
    },
    /// There is no way to reach the registry.
    #[error("there is no way to reach the registry `{registry}`")]
    NoEndpoint {
        /// Its name.
        registry: String,
    },
    /// The registry wants to know who asks, or does not believe it.
    #[error("the registry refuses {} `{repository}`", if *.refused { "the credentials it is given for" } else { "anonymous access to" })]
    Unauthorized {
        /// The repository.
        repository: Repository,
        /// Whether there were credentials.
        refused: bool,
        /// Why others could not be read.
        problem: Option<Box<CredentialError>>,
    },
    /// Whoever asks may not do this.
    #[error("the registry does not allow to {} `{repository}`{}", verb(*.direction), words(.detail.as_deref()))]
    Denied {
        /// The repository.
        repository: Repository,
        /// What was tried.
        direction: Direction,
        /// The registry's own words.
        detail: Option<String>,
    },
    /// There is no such image, or no such repository.
    #[error("`{0}` does not exist")]
    NotFound(Box<Reference>),
    /// Neither a tag nor a digest.
    #[error("`{0}` names a repository, not an image: it has neither a tag nor a digest")]
    Untagged(Box<Reference>),
    /// There is no such repository to send to.
    #[error("the registry has no repository `{repository}` to push to{}", words(.detail.as_deref()))]
    NoRepository {
        /// The repository.
        repository: Repository,
        /// The registry's own words.
        detail: Option<String>,
    },
    /// The registry refuses what is sent.
    #[error("the registry refuses {what} of `{repository}` with {status}{}", words(.detail.as_deref()))]
    Rejected {
        /// The repository.
        repository: Repository,
        /// A manifest, a blob or a tag.
        what: String,
        /// The status it answered with.
        status: StatusCode,
        /// The registry's own words.
        detail: Option<String>,
    },
    /// The registry does not follow the protocol.
    #[error("`{registry}` does not behave like a registry: {problem}")]
    Protocol {
        /// Its name.
        registry: String,
        /// In what.
        problem: &'static str,
    },
    /// What the registry has under a reference is something else.
    #[error("the registry holds {found} as `{reference}`, expected {expected}")]
    Digest {
        /// Where.
        reference: Box<Reference>,
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A blob that came is not what was asked for.
    #[error(transparent)]
    Blob(DownloadError),
    /// The image is there, but not for the platform.
    #[error("`{reference}` has no image for {platform}, only for {}", found.join(", "))]
    NoPlatform {
        /// The image.
        reference: Box<Reference>,
        /// What was wanted.
        platform: Platform,
        /// What there is.
        found: Vec<String>,
    },
    /// A document is not what its media type says.
    #[error("`{reference}` is no image manifest or index")]
    Document {
        /// The document.
        reference: Box<Reference>,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A manifest of a kind that is not understood.
    #[error("`{reference}` has the media type `{media_type}`, which is neither a manifest nor an index")]
    MediaType {
        /// The manifest.
        reference: Box<Reference>,
        /// Its type.
        media_type: String,
    },
    /// A tag that must not move names another image already.
    #[error("`{repository}:{tag}` is {found} already, and a published version does not change")]
    TagTaken {
        /// The repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
        /// What it names.
        found: Digest,
    },
}

fn verb(direction: Direction) -> &'static str {
    match direction {
        Direction::Pull => "pull from",
        Direction::Push => "push to",
    }
}

fn words(detail: Option<&str>) -> String {
    detail.map(|detail| format!(": {detail}")).unwrap_or_default()
}

impl From<DownloadError> for ImageError {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::Http(error) => Self::Http(error),
            DownloadError::Store(error) => Self::Store(error),
            error => Self::Blob(error),
        }
    }
}

impl Retryable for ImageError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Http(error) => error.verdict(),
            Self::Blob(error) => error.verdict(),
            Self::Store(_)
            | Self::Registry { .. }
            | Self::NoEndpoint { .. }
            | Self::Unauthorized { .. }
            | Self::Denied { .. }
            | Self::NotFound(_)
            | Self::Untagged(_)
            | Self::NoRepository { .. }
            | Self::Rejected { .. }
            | Self::Protocol { .. }
            | Self::Digest { .. }
            | Self::NoPlatform { .. }
            | Self::Document { .. }
            | Self::MediaType { .. }
            | Self::TagTaken { .. } => Verdict::Final,
        }
    }
}

impl Reported for ImageError {
    fn diagnostic(&self) -> Diagnostic {
        let diagnostic = |code| Diagnostic::new(code, self.to_string()).caused_by(self);
        match self {
            Self::Http(error) => error.diagnostic(),
            Self::Store(error) => error.diagnostic(),
            Self::Blob(error) => error.diagnostic(),
            Self::Unauthorized { repository, problem, refused } => {
                let diagnostic = diagnostic(codes::registry::UNAUTHORIZED);
                let diagnostic = match problem {
                    Some(problem) => diagnostic.caused_by(problem.as_ref()),
                    None => diagnostic,
                };
                let diagnostic = log_in(diagnostic, repository.registry());
                // Docker Hub for one says the same of what is private and of what is not there.
                if *refused { diagnostic } else { diagnostic.help("if it should be public, check the spelling") }
            }
            Self::Denied { repository, direction, .. } => {
                let diagnostic = diagnostic(codes::registry::DENIED);
                match (repository.registry(), direction) {
                    ("ghcr.io", Direction::Push) => diagnostic.help(
                        "the token needs `write:packages` (in a workflow: `permissions: packages: write`), and the package must be linked to the repository in its settings",
                    ),
                    (registry, _) => log_in(diagnostic, registry),
                }
            }
            Self::NotFound(reference) => diagnostic(codes::registry::NOT_FOUND).help(format!(
                "check the spelling; if it is private, log in with `docker login {}`",
                reference.repository.registry()
            )),
            Self::Untagged(reference) => {
                diagnostic(codes::registry::NOT_FOUND).help(format!("write a tag: `{reference}:latest`"))
            }
            Self::NoRepository { .. } => diagnostic(codes::registry::NOT_FOUND)
                .help("this registry wants repositories to be made beforehand: make it, then push again"),
            Self::Rejected { .. } => diagnostic(codes::registry::REJECTED),
            Self::Registry { .. } | Self::NoEndpoint { .. } | Self::Protocol { .. } => {
                diagnostic(codes::registry::MALFORMED)
                    .help("check the registry's name; a proxy or a captive portal may have answered in its place")
            }
            Self::Document { .. } | Self::MediaType { .. } => diagnostic(codes::registry::MALFORMED),
            Self::Digest { .. } => diagnostic(codes::registry::MISMATCH),
            Self::NoPlatform { .. } => diagnostic(codes::registry::NO_PLATFORM)
                .help("take another image, or choose platforms with `--platform`"),
            Self::TagTaken { .. } => diagnostic(codes::registry::TAG_TAKEN)
                .help("publish under a new version, or remove the old one in the registry first"),
        }
    }
}

fn log_in(diagnostic: Diagnostic, registry: &str) -> Diagnostic {
    match registry {
        "docker.io" => diagnostic.help("log in with `docker login`"),
        "ghcr.io" => diagnostic.help("log in with `docker login ghcr.io`, or set `GITHUB_TOKEN`"),
        _ => diagnostic.help(format!("log in with `docker login {registry}`")),
    }
}
