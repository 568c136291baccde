//! Releases of packages in the registries of Rust, Go and Python: which version a requirement selects, and its archive.

mod crates;
mod error;
mod go;
mod pypi;

use url::Url;

pub use error::ReleaseError;

use crate::http::Http;
use crate::integrity::Expect;

/// The longest metadata document that is read.
const DOCUMENT_LIMIT: u64 = 64 << 20;

/// One release, as its registry describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The exact version.
    pub version: String,
    /// Where its archive lies.
    pub archive: Url,
    /// What the registry says the archive is.
    pub expect: Expect,
    /// When it was published, in seconds since 1970.
    pub published: i64,
}

/// A client for the public registries; `[mirrors]` can send it elsewhere.
#[derive(Clone, Debug)]
pub struct Releases {
    http: Http,
}

impl Releases {
    /// A client.
    #[must_use]
    pub fn new(http: Http) -> Self {
        Self { http }
    }

    async fn document(&self, what: &Package<'_>, url: &str) -> Result<Vec<u8>, ReleaseError> {
        let url = Url::parse(url).map_err(|_| what.bad_name())?;
        match self.http.get_document(&url, &[], DOCUMENT_LIMIT).await {
            Ok(bytes) => Ok(bytes.to_vec()),
            Err(error) if error.is_not_found() => Err(what.not_found()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A package, for messages.
#[derive(Clone, Copy, Debug)]
struct Package<'a> {
    noun: &'static str,
    name: &'a str,
}

impl Package<'_> {
    fn bad_name(&self) -> ReleaseError {
        ReleaseError::Name { noun: self.noun, name: self.name.to_owned() }
    }

    fn not_found(&self) -> ReleaseError {
        ReleaseError::NotFound { noun: self.noun, name: self.name.to_owned() }
    }

    fn no_version(&self, requirement: &str, newest: Vec<String>) -> ReleaseError {
        ReleaseError::NoVersion {
            noun: self.noun,
            name: self.name.to_owned(),
            requirement: requirement.to_owned(),
            newest,
        }
    }

    fn malformed(&self, why: impl ToString) -> ReleaseError {
        ReleaseError::Malformed { noun: self.noun, name: self.name.to_owned(), why: why.to_string() }
    }

    fn time(&self, text: Option<&str>) -> Result<i64, ReleaseError> {
        let time = text.ok_or_else(|| self.malformed("it does not say when the version was published"))?;
        let time: jiff::Timestamp = time.parse().map_err(|error| self.malformed(error))?;
        Ok(time.as_second())
    }
}
