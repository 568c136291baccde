//! Package metadata of the npm registry.

mod document;
mod error;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use nodejs_semver::{Range, Version};
use reqwest::header::{ACCEPT, HeaderValue};
use url::Url;

pub use error::NpmError;

use crate::http::Http;
use crate::integrity::Sha512;
use document::{Packument, VersionDocument};

/// The public registry.
pub const PUBLIC_REGISTRY: &str = "https://registry.npmjs.org/";

/// The longest metadata document that is read. The longest in use are a few tens of megabytes.
const DOCUMENT_LIMIT: u64 = 128 << 20;

/// The name of a package: `name` or `@scope/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageName(String);

impl PackageName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PackageName {
    type Err = NpmError;

    fn from_str(text: &str) -> Result<Self, NpmError> {
        let word = |word: &str| {
            !word.is_empty()
                && !word.starts_with(['.', '_'])
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
        };
        let good = match text.strip_prefix('@').map(|scoped| scoped.split_once('/')) {
            None => word(text),
            Some(Some((scope, name))) => word(scope) && word(name),
            Some(None) => false,
        };
        if good && text.len() <= 214 { Ok(Self(text.to_owned())) } else { Err(NpmError::Name(text.to_owned())) }
    }
}

/// One version of a package, as the registry describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The package.
    pub name: PackageName,
    /// The exact version.
    pub version: String,
    /// Where its tarball lies.
    pub tarball: Url,
    /// The tarball's SHA-512.
    pub integrity: Sha512,
    /// When it was published, in seconds since 1970, where the registry says so.
    pub published: Option<i64>,
    /// What it needs to run, such as `node` → `>=24.16`.
    pub engines: BTreeMap<String, String>,
    /// Why it should not be used, where its author has said so.
    pub deprecated: Option<String>,
}

/// A client for one npm registry.
#[derive(Clone, Debug)]
pub struct Npm {
    http: Http,
    registry: Url,
}

impl Npm {
    /// A client for the public registry; `[mirrors]` can send it elsewhere.
    #[must_use]
    pub fn new(http: Http) -> Self {
        Self::with_registry(http, Url::parse(PUBLIC_REGISTRY).expect("the public registry's URL is one"))
    }

    /// A client for the registry at `registry`.
    #[must_use]
    pub fn with_registry(http: Http, mut registry: Url) -> Self {
        if !registry.path().ends_with('/') {
            registry.set_path(&format!("{}/", registry.path()));
        }
        Self { http, registry }
    }

    /// The version of `name` that `requirement` selects: an exact version, a range or a distribution tag; an empty one
    /// is `latest`. As npm does, the version tagged `latest` wins over newer ones that fit too.
    ///
    /// # Errors
    /// [`NpmError`].
    pub async fn version(&self, name: &PackageName, requirement: &str) -> Result<Release, NpmError> {
        let requirement = requirement.trim();
        let path = name.as_str().replace('/', "%2f");
        let url = self.registry.join(&path).map_err(|_| NpmError::Name(name.to_string()))?;
        let accept = (ACCEPT, HeaderValue::from_static("application/json"));
        let bytes = self.http.get_document(&url, &[accept], DOCUMENT_LIMIT).await.map_err(|error| {
            if error.is_not_found() { NpmError::NotFound { name: name.clone() } } else { error.into() }
        })?;
        let mut packument: Packument =
            serde_json::from_slice(&bytes).map_err(|source| NpmError::Malformed { name: name.clone(), source })?;
        let version = select(&packument, name, requirement)?;
        let VersionDocument { dist, engines, deprecated } =
            packument.versions.remove(&version).expect("a version is selected from those there are");
        let tarball = Url::parse(&dist.tarball).map_err(|source| NpmError::Tarball {
            name: name.clone(),
            version: version.clone(),
            source,
        })?;
        let integrity = dist.integrity.as_deref().and_then(|text| text.parse().ok());
        let published = packument.time.get(&version).and_then(|time| time.as_str()?.parse::<jiff::Timestamp>().ok());
        Ok(Release {
            integrity: integrity
                .ok_or_else(|| NpmError::NoIntegrity { name: name.clone(), version: version.clone() })?,
            name: name.clone(),
            version,
            tarball,
            published: published.map(jiff::Timestamp::as_second),
            engines,
            deprecated,
        })
    }
}

/// The version that `requirement` selects.
fn select(packument: &Packument, name: &PackageName, requirement: &str) -> Result<String, NpmError> {
    let none =
        || NpmError::NoVersion { name: name.clone(), requirement: requirement.to_owned(), newest: newest(packument) };
    let tagged = |tag: &str| packument.dist_tags.get(tag).filter(|version| packument.versions.contains_key(*version));
    if requirement.is_empty() || requirement == "*" {
        if let Some(version) = tagged("latest") {
            return Ok(version.clone());
        }
    } else if let Some(version) = tagged(requirement) {
        return Ok(version.clone());
    }
    if let Ok(exact) = Version::parse(requirement.trim_start_matches(['=', 'v'])) {
        let exact = exact.to_string();
        return packument.versions.contains_key(&exact).then_some(exact).ok_or_else(none);
    }
    let range = Range::parse(requirement).map_err(|_| {
        // A word alone can only have been meant for a tag.
        if requirement.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            none()
        } else {
            NpmError::Requirement(requirement.to_owned())
        }
    })?;
    let satisfies = |text: &str| Version::parse(text).ok().filter(|version| range.satisfies(version));
    if let Some(latest) = tagged("latest").filter(|latest| satisfies(latest).is_some()) {
        return Ok(latest.clone());
    }
    let fitting = packument.versions.iter().filter_map(|(text, document)| {
        let version = satisfies(text)?;
        Some((document.deprecated.is_none(), version, text))
    });
    fitting.max_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1))).map(|(.., text)| text.clone()).ok_or_else(none)
}

/// The newest few versions, for a message.
fn newest(packument: &Packument) -> Vec<String> {
    let mut versions: Vec<_> = packument.versions.keys().filter_map(|text| Version::parse(text).ok()).collect();
    versions.sort();
    versions.iter().rev().take(5).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packument() -> Packument {
        let version = |v: &str, rest: &str| {
            format!(
                r#""{v}":{{"name":"x","dist":{{"tarball":"https://r.example/x-{v}.tgz","integrity":"sha512-x"}}{rest}}}"#
            )
        };
        let versions = [
            version("1.2.0", ""),
            version("1.9.0", r#","deprecated":"broken""#),
            version("1.8.3", r#","engines":["node"]"#),
            version("2.0.0-beta.1", r#","deprecated":false"#),
            version("2.1.0", r#","engines":{"node":">=18"}"#),
            version("3.0.0", ""),
        ];
        let text = format!(
            r#"{{"dist-tags":{{"latest":"2.1.0","next":"3.0.0"}},"versions":{{{}}},"time":{{"2.1.0":"2026-11-13T21:01:11.000Z","x":{{}}}}}}"#,
            versions.join(",")
        );
        serde_json::from_str(&text).expect("parses")
    }

    fn selected(requirement: &str) -> Result<String, NpmError> {
        select(&packument(), &"x".parse().expect("name"), requirement)
    }

    #[test]
    fn requirements_select_as_npm_does() {
        for (requirement, version) in [
            ("", "2.1.0"),
            ("*", "2.1.0"),
            ("latest", "2.1.0"),
            ("next", "3.0.0"),
            ("1.2.0", "1.2.0"),
            ("v1.9.0", "1.9.0"),
            ("=3.0.0", "3.0.0"),
            ("2.0.0-beta.1", "2.0.0-beta.1"),
            ("^1.2", "1.8.3"),
            ("1.x", "1.8.3"),
            ("~1.2.0", "1.2.0"),
            ("~1.9", "1.9.0"),
            (">=1.0.0 <2", "1.8.3"),
            (">=1.0.0 <1.3.0 || >=3", "3.0.0"),
            (">=1", "2.1.0"),
            (">2.1.0", "3.0.0"),
            ("1.2 - 1.8", "1.8.3"),
            ("^2.0.0-alpha", "2.1.0"),
        ] {
            assert_eq!(selected(requirement).ok().as_deref(), Some(version), "{requirement}");
        }
    }

    #[test]
    fn what_fits_nothing_says_what_there_is() {
        for requirement in ["4.x", "9.9.9", "beta", ">2.0.0-beta.1 <2.0.0"] {
            match selected(requirement) {
                Err(NpmError::NoVersion { newest, .. }) => {
                    assert_eq!(newest.first().map(String::as_str), Some("3.0.0"))
                }
                other => panic!("{requirement}: {other:?}"),
            }
        }
        assert!(matches!(selected("not/a/version"), Err(NpmError::Requirement(_))));
    }

    #[test]
    fn odd_documents_of_old_packages_are_read() {
        let packument = packument();
        assert!(packument.versions["1.8.3"].engines.is_empty());
        assert_eq!(packument.versions["2.1.0"].engines["node"], ">=18");
        assert_eq!(packument.versions["2.0.0-beta.1"].deprecated, None);
    }

    #[test]
    fn names_are_checked() {
        for good in ["openclaw", "@scope/name", "JSONStream", "a.b_c-d"] {
            assert!(good.parse::<PackageName>().is_ok(), "{good}");
        }
        for bad in ["", "../x", "a/b", "@scope", "@/x", "@a/b/c", ".x", "a?b", "a b", "@a/../b"] {
            assert!(matches!(bad.parse::<PackageName>(), Err(NpmError::Name(_))), "{bad}");
        }
    }
}
