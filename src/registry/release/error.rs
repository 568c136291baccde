//! What can go wrong with releases.

use diag::{Diagnostic, Reported, codes};

use crate::http::HttpError;

/// A release cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Not a name the registry knows.
    #[error("`{name}` is not the name of a {noun}")]
    Name {
        /// What the registry holds.
        noun: &'static str,
        /// What was asked for.
        name: String,
    },
    /// There is no such package.
    #[error("there is no {noun} `{name}`")]
    NotFound {
        /// What the registry holds.
        noun: &'static str,
        /// What was asked for.
        name: String,
    },
    /// No version fits.
    #[error("no version of the {noun} `{name}` is `{requirement}`")]
    NoVersion {
        /// What the registry holds.
        noun: &'static str,
        /// The package.
        name: String,
        /// What was asked for.
        requirement: String,
        /// The newest versions there are, newest first.
        newest: Vec<String>,
    },
    /// The version has no archive for the platform.
    #[error("the Python package `{name}` {version} has no wheel for {architecture}")]
    NoWheel {
        /// The package.
        name: String,
        /// Its version.
        version: String,
        /// What was asked for.
        architecture: String,
    },
    /// The document is not what the registry's interface says.
    #[error("what came back for the {noun} `{name}` is not understood: {why}")]
    Malformed {
        /// What the registry holds.
        noun: &'static str,
        /// The package.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// It could not be fetched.
    #[error(transparent)]
    Http(#[from] HttpError),
}

impl Reported for ReleaseError {
    fn diagnostic(&self) -> Diagnostic {
        let diagnostic = |code| Diagnostic::new(code, self.to_string());
        match self {
            Self::Http(error) => error.diagnostic(),
            Self::Name { .. } | Self::NotFound { .. } => {
                diagnostic(codes::registry::NOT_FOUND).help("check the spelling, and that it is published there")
            }
            Self::NoVersion { newest, .. } if newest.is_empty() => diagnostic(codes::registry::NO_VERSION)
                .help("the registry does not hold it, or not any more: name a version that it has"),
            Self::NoVersion { newest, .. } => {
                diagnostic(codes::registry::NO_VERSION).help(format!("the newest versions are {}", newest.join(", ")))
            }
            Self::NoWheel { .. } => diagnostic(codes::registry::NO_PLATFORM)
                .help("take a version that has one, or build for fewer platforms"),
            Self::Malformed { .. } => diagnostic(codes::registry::MALFORMED)
                .help("a proxy's error page or a captive portal is the usual reason"),
        }
    }
}
