//! What can go wrong with package metadata.

use diag::{Diagnostic, Reported, codes};

use super::PackageName;
use crate::http::HttpError;

/// Package metadata cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NpmError {
    /// Not the name of a package.
    #[error("`{0}` is not the name of an npm package: `name` or `@scope/name`")]
    Name(String),
    /// Neither a version nor a range nor a tag.
    #[error("`{0}` is neither a version nor a range nor a tag")]
    Requirement(String),
    /// There is no such package.
    #[error("the npm registry has no package `{name}`")]
    NotFound {
        /// What was asked for.
        name: PackageName,
    },
    /// No version fits.
    #[error("no version of `{name}` is `{requirement}`")]
    NoVersion {
        /// The package.
        name: PackageName,
        /// What was asked for.
        requirement: String,
        /// The newest versions there are, newest first.
        newest: Vec<String>,
    },
    /// The version has no SHA-512.
    #[error("the npm registry gives no sha512 integrity for `{name}@{version}`")]
    NoIntegrity {
        /// The package.
        name: PackageName,
        /// Its version.
        version: String,
    },
    /// The version's tarball has no usable URL.
    #[error("the npm registry gives no usable tarball URL for `{name}@{version}`")]
    Tarball {
        /// The package.
        name: PackageName,
        /// Its version.
        version: String,
        /// What is wrong with it.
        source: url::ParseError,
    },
    /// The document is not what the registry's interface says.
    #[error("what came back for the npm package `{name}` is no package document")]
    Malformed {
        /// The package.
        name: PackageName,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It could not be fetched.
    #[error(transparent)]
    Http(#[from] HttpError),
}

impl Reported for NpmError {
    fn diagnostic(&self) -> Diagnostic {
        let diagnostic = |code| Diagnostic::new(code, self.to_string());
        match self {
            Self::Http(error) => error.diagnostic(),
            Self::Name(_) | Self::NotFound { .. } => {
                diagnostic(codes::registry::NOT_FOUND).help("check the spelling on https://www.npmjs.com")
            }
            Self::Requirement(_) => diagnostic(codes::registry::NO_VERSION)
                .help("write a version (`1.4.2`), a range (`^1.4`, `>=1.4 <2`) or a tag (`latest`)"),
            Self::NoVersion { newest, .. } => {
                diagnostic(codes::registry::NO_VERSION).help(format!("the newest versions are {}", newest.join(", ")))
            }
            Self::NoIntegrity { .. } => {
                diagnostic(codes::registry::MALFORMED).help("take a version published since 2017")
            }
            Self::Tarball { .. } | Self::Malformed { .. } => diagnostic(codes::registry::MALFORMED)
                .caused_by(self)
                .help("a proxy's error page or a captive portal is the usual reason"),
        }
    }
}
