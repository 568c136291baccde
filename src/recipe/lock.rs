//! The lock: one pinned answer for each request recipes and bases make.

use std::collections::BTreeMap;

use diag::{Diagnostic, Reported, Source, Span, codes};
use oci::{Architecture, Digest, Platform, Reference};
use serde::Deserialize;

use crate::{DebianRequest, GitRequest, Name, Registry, ReleaseRequest};

/// The lock format this version reads and writes.
pub const LOCK_VERSION: u64 = 1;

/// Every pinned input. Spec: ARCHITECTURE §5.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    pub(crate) releases: BTreeMap<ReleaseKey, LockedRelease>,
    pub(crate) git: BTreeMap<(String, String), LockedCommit>,
    pub(crate) debian: BTreeMap<(String, Platform), LockedDebian>,
    pub(crate) dependencies: BTreeMap<String, LockedDependencies>,
    pub(crate) published: BTreeMap<(String, Platform), PublishedImage>,
}

/// Registry, package, requirement and architecture.
pub(crate) type ReleaseKey = (Registry, String, String, Option<Architecture>);

/// One release of a package, pinned.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedRelease {
    /// Whose it is.
    #[serde(deserialize_with = "parsed")]
    pub registry: Registry,
    /// The package.
    pub package: String,
    /// What was asked for.
    pub requirement: String,
    /// For what, where a release has an archive for each architecture.
    #[serde(default, deserialize_with = "architecture")]
    pub architecture: Option<Architecture>,
    /// What was chosen.
    pub version: String,
    /// When it was published, seconds since 1970.
    pub published: i64,
    /// Where the archive lies.
    pub url: String,
    /// The registry's own checksum of it where that is not its SHA-256: `sha512-…` of npm, `h1:…` of Go.
    #[serde(default)]
    pub integrity: Option<String>,
    /// The archive's digest.
    pub sha256: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// One commit of a git repository, pinned.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedCommit {
    /// The repository.
    pub url: String,
    /// What was asked for: `tag v1.0`, `branch main` or `rev …`.
    pub reference: String,
    /// The commit's id: 40 or 64 lower-case hexadecimal digits.
    #[serde(deserialize_with = "object_id")]
    pub commit: String,
    /// The id of its tree.
    #[serde(deserialize_with = "object_id")]
    pub tree: String,
    /// When it was made, seconds since 1970.
    pub committed: i64,
}

/// A set of Debian packages, pinned.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedDebian {
    /// Whose set it is.
    pub owner: String,
    /// For what.
    #[serde(deserialize_with = "platform")]
    pub platform: Platform,
    /// Root of the archive it was resolved from.
    pub archive: String,
    /// Suites asked.
    pub suites: Vec<String>,
    /// Components asked.
    pub components: Vec<String>,
    /// Packages asked for.
    pub wanted: Vec<String>,
    /// Packages held to be there.
    pub exclude: Vec<String>,
    /// The set it lies on.
    #[serde(default)]
    pub below: Option<String>,
    /// Newest of the suites' release dates, seconds since 1970: no file of the layer is younger.
    pub epoch: i64,
    /// The packages, dependencies included, sorted by name.
    pub packages: Vec<LockedPackage>,
}

/// One Debian package, pinned.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, `all` included.
    pub architecture: String,
    /// The digest of the `.deb`.
    pub sha256: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Where it lies.
    pub url: String,
}

/// A language's own lock file, pinned by its content.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedDependencies {
    /// The recipe.
    pub target: String,
    /// Who wrote it, such as `pnpm 12.21.0`.
    pub manager: String,
    /// What it is the closure of, such as `openclaw 2026.9.6`.
    pub root: String,
    /// The file, relative to the recipe's directory.
    pub file: String,
    /// Its digest.
    pub sha256: Digest,
}

/// An image that clawbuild made and pushed, for builds that can have it from nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedImage {
    /// What it holds: a base (`base/node`), or a recipe's own packages (the recipe's name).
    pub owner: String,
    /// For what.
    #[serde(deserialize_with = "platform")]
    pub platform: Platform,
    /// Where it lies, with the manifest's digest.
    #[serde(deserialize_with = "reference")]
    pub reference: Reference,
    /// The digest of everything it was made of. Another one means that the lock or a base has moved on since.
    pub inputs: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u64,
    #[serde(default)]
    release: Vec<LockedRelease>,
    #[serde(default)]
    git: Vec<LockedCommit>,
    #[serde(default)]
    debian: Vec<LockedDebian>,
    #[serde(default)]
    dependencies: Vec<LockedDependencies>,
    #[serde(default)]
    published: Vec<PublishedImage>,
}

/// Why the lock does not answer a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// What was asked, in words.
    pub request: String,
    /// Why the lock's answer does not fit, in words.
    pub reason: String,
    /// Who asks.
    pub place: (Source, Span),
}

impl Reported for Stale {
    fn diagnostic(&self) -> Diagnostic {
        Diagnostic::new(codes::lock::STALE, format!("clawbuild.lock is out of date: {}", self.request))
            .label(&self.place.0, self.place.1, self.reason.clone())
            .help("run `clawbuild lock`, look at what changed, and commit clawbuild.lock")
    }
}

/// A lock file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockError {
    /// Written by a newer clawbuild.
    Newer {
        /// Its version.
        found: u64,
        /// The file.
        source: Source,
    },
    /// Not a lock file.
    Syntax {
        /// What the parser says.
        message: String,
        /// The file.
        source: Source,
        /// Where.
        span: Span,
    },
}

impl Reported for LockError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Newer { found, source } => Diagnostic::new(
                codes::lock::NEWER,
                format!("the lock has version {found}, this clawbuild reads {LOCK_VERSION}"),
            )
            .label(source, Span::new(0..source.text().find('\n').unwrap_or(0)), "")
            .help("update clawbuild: `cargo install --path .` in a newer checkout"),
            Self::Syntax { message, source, span } => {
                Diagnostic::new(codes::lock::SYNTAX, format!("the lock cannot be read: {message}"))
                    .label(source, *span, "")
                    .help("restore it from version control, or remove it and run `clawbuild lock`")
            }
        }
    }
}

impl Lock {
    /// Reads a lock file.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn parse(source: &Source) -> Result<Self, LockError> {
        let text: Text = toml::from_str(source.text()).map_err(|error| {
            // A newer version may well have other fields; say the useful thing then.
            match version_of(source.text()) {
                Some(found) if found > LOCK_VERSION => LockError::Newer { found, source: source.clone() },
                _ => LockError::Syntax {
                    message: error.message().to_owned(),
                    source: source.clone(),
                    span: error.span().unwrap_or_default().into(),
                },
            }
        })?;
        if text.version != LOCK_VERSION {
            return Err(LockError::Newer { found: text.version, source: source.clone() });
        }
        let mut lock = Self::default();
        text.release.into_iter().for_each(|entry| lock.put_release(entry));
        text.git.into_iter().for_each(|entry| lock.put_commit(entry));
        text.debian.into_iter().for_each(|entry| lock.put_debian(entry));
        text.dependencies.into_iter().for_each(|entry| lock.put_dependencies(entry));
        text.published.into_iter().for_each(|entry| lock.put_published(entry));
        Ok(lock)
    }

    /// Records an answer.
    pub fn put_release(&mut self, entry: LockedRelease) {
        let key = (entry.registry, entry.package.clone(), entry.requirement.clone(), entry.architecture);
        self.releases.insert(key, entry);
    }

    /// Records an answer.
    pub fn put_commit(&mut self, entry: LockedCommit) {
        self.git.insert((entry.url.clone(), entry.reference.clone()), entry);
    }

    /// Records an answer.
    pub fn put_debian(&mut self, entry: LockedDebian) {
        self.debian.insert((entry.owner.clone(), entry.platform), entry);
    }

    /// Records an answer.
    pub fn put_dependencies(&mut self, entry: LockedDependencies) {
        self.dependencies.insert(entry.target.clone(), entry);
    }

    /// Records where an image lies.
    pub fn put_published(&mut self, entry: PublishedImage) {
        self.published.insert((entry.owner.clone(), entry.platform), entry);
    }

    /// The answer to a request for a release.
    ///
    /// # Errors
    /// [`Stale`] when there is none.
    pub fn release(&self, request: &ReleaseRequest) -> Result<&LockedRelease, Stale> {
        self.releases.get(&release_key(request)).ok_or_else(|| {
            let same = |entry: &&LockedRelease| {
                entry.registry == request.registry
                    && entry.package == request.package
                    && entry.architecture == request.architecture
            };
            let others = self.releases.values().filter(same).map(|entry| &*entry.requirement);
            let reason = not_this(&others.collect::<Vec<_>>(), &request.requirement.to_string());
            Stale { request: request.to_string(), reason, place: request.place.clone() }
        })
    }

    /// The answer to a request for a commit.
    ///
    /// # Errors
    /// [`Stale`] when there is none.
    pub fn commit(&self, request: &GitRequest) -> Result<&LockedCommit, Stale> {
        let reference = request.reference.to_string();
        self.git.get(&(request.url.clone(), reference.clone())).ok_or_else(|| {
            let others = self.git.values().filter(|entry| entry.url == request.url).map(|entry| &*entry.reference);
            let reason = not_this(&others.collect::<Vec<_>>(), &reference);
            Stale { request: request.to_string(), reason, place: request.place.clone() }
        })
    }

    /// The answer to a request for Debian packages.
    ///
    /// # Errors
    /// [`Stale`], naming exactly what differs.
    pub fn debian(&self, request: &DebianRequest) -> Result<&LockedDebian, Stale> {
        let stale = |reason: String| Stale { request: request.to_string(), reason, place: request.place.clone() };
        let Some(entry) = self.debian.get(&(request.owner.clone(), request.platform)) else {
            return Err(stale("not locked yet".to_owned()));
        };
        let change = |what: &str, locked: &[String], asked: &[String]| {
            let added: Vec<&str> = asked.iter().filter(|item| !locked.contains(item)).map(String::as_str).collect();
            let removed: Vec<&str> = locked.iter().filter(|item| !asked.contains(item)).map(String::as_str).collect();
            match (added.is_empty(), removed.is_empty()) {
                (true, true) if locked == asked => None,
                (true, true) => Some(format!("the order of {what} changed")),
                (false, true) => Some(format!("{what} added: {}", added.join(", "))),
                (true, false) => Some(format!("{what} removed: {}", removed.join(", "))),
                (false, false) => Some(format!("{what} added: {}; removed: {}", added.join(", "), removed.join(", "))),
            }
        };
        let mut wanted = request.wanted.clone();
        wanted.sort();
        let mut locked = entry.wanted.clone();
        locked.sort();
        let difference = (entry.archive != request.archive)
            .then(|| format!("the archive was `{}`", entry.archive))
            .or_else(|| change("suites", &entry.suites, &request.suites))
            .or_else(|| change("components", &entry.components, &request.components))
            .or_else(|| change("packages", &locked, &wanted))
            .or_else(|| change("excluded packages", &entry.exclude, &request.exclude))
            .or_else(|| (entry.below != request.below).then(|| "what it lies on changed".to_owned()));
        match difference {
            Some(reason) => Err(stale(reason)),
            None => Ok(entry),
        }
    }

    /// The locked Debian set of an owner.
    #[must_use]
    pub fn debian_of(&self, owner: &str, platform: Platform) -> Option<&LockedDebian> {
        self.debian.get(&(owner.to_owned(), platform))
    }

    /// The pinned dependencies of a recipe.
    #[must_use]
    pub fn dependencies(&self, target: &Name) -> Option<&LockedDependencies> {
        self.dependencies.get(target.as_str())
    }

    /// Where the image of an owner was last published.
    #[must_use]
    pub fn published(&self, owner: &str, platform: Platform) -> Option<&PublishedImage> {
        self.published.get(&(owner.to_owned(), platform))
    }

    /// Forgets the published images of owners that are not kept.
    pub fn retain_published(&mut self, keep: impl Fn(&str) -> bool) {
        self.published.retain(|(owner, _), _| keep(owner));
    }

    /// Forgets every answer nobody asks for any more.
    pub fn retain(
        &mut self,
        releases: &[ReleaseRequest],
        commits: &[GitRequest],
        debian: &[DebianRequest],
        targets: &[Name],
    ) {
        self.releases.retain(|key, _| releases.iter().any(|request| release_key(request) == *key));
        self.git.retain(|(url, reference), _| {
            commits.iter().any(|request| request.url == *url && request.reference.to_string() == *reference)
        });
        self.debian.retain(|(owner, platform), _| {
            debian.iter().any(|request| request.owner == *owner && request.platform == *platform)
        });
        self.dependencies.retain(|target, _| targets.iter().any(|name| name.as_str() == target));
    }
}

fn release_key(request: &ReleaseRequest) -> ReleaseKey {
    (request.registry, request.package.clone(), request.requirement.as_str().to_owned(), request.architecture)
}

fn not_this(others: &[&str], asked: &str) -> String {
    if others.is_empty() {
        "not locked yet".to_owned()
    } else {
        format!("the lock answers `{}`, this asks for `{asked}`", others.join("`, `"))
    }
}

fn version_of(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.trim_start().starts_with("version"))?;
    line.split_once('=')?.1.trim().parse().ok()
}

fn reference<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.parse() {
        Ok(reference @ Reference { digest: Some(_), .. }) => Ok(reference),
        Ok(_) => Err(serde::de::Error::custom(format!("`{text}` names no digest"))),
        Err(error) => Err(serde::de::Error::custom(error)),
    }
}

fn platform<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Platform, D::Error> {
    parsed(deserializer)
}

fn object_id<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_whole = matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_whole { Ok(text) } else { Err(serde::de::Error::custom(format!("`{text}` is not a whole object id"))) }
}

fn architecture<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Architecture>, D::Error> {
    parsed(deserializer).map(Some)
}

fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}
