//! A suite's release file: who signed it, and which indexes it vouches for.
//!
//! Spec: Debian repository format (wiki.debian.org/DebianRepository/Format), §"Release" files.

mod date;
mod error;
mod keyring;

use std::collections::BTreeMap;

use oci::Digest;

pub use error::ReleaseError;
pub use keyring::{Keyring, Signer};

use crate::control::Paragraph;

/// A verified release file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// `stable`, `testing-security`, …
    pub suite: String,
    /// `trixie`, `forky-security`, …
    pub codename: String,
    /// When it was made, seconds since 1970.
    pub date: i64,
    /// Until when it may be used, seconds since 1970.
    pub valid_until: Option<i64>,
    /// Components, without the directory some archives put before them (`updates/main` is `main`).
    pub components: Vec<String>,
    /// Architectures.
    pub architectures: Vec<String>,
    /// Whether indexes can be fetched by digest.
    pub acquire_by_hash: bool,
    /// Whether packages come from here only when asked for (backports).
    pub not_automatic: bool,
    /// The files vouched for, by path below the suite's directory.
    pub files: BTreeMap<String, ReleaseFile>,
    /// Who signed it: at least one.
    pub signers: Vec<Signer>,
}

/// A file a release vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseFile {
    /// Its length in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Digest,
}

/// A package index to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFile {
    /// Path below the suite's directory. By digest where the archive offers that, so that an archive update between
    /// two requests cannot make them disagree.
    pub path: String,
    /// How it is compressed.
    pub compression: crate::Compression,
    /// Its length in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Digest,
}

impl Release {
    /// Verifies and parses an `InRelease` file.
    ///
    /// `now`, in seconds since 1970, is what expiry is held against; without it, nothing is ever expired.
    ///
    /// # Errors
    /// [`ReleaseError`]: not signed, badly signed, signed by strangers, expired, or not a release file.
    pub fn verify(inrelease: &[u8], keyring: &Keyring, now: Option<i64>) -> Result<Self, ReleaseError> {
        let (text, signers) = keyring.verify_clearsigned(inrelease, now)?;
        Self::parse(&text, signers, now)
    }

    /// Verifies and parses a `Release` file with its detached signature, `Release.gpg`.
    ///
    /// # Errors
    /// As [`Release::verify`].
    pub fn verify_detached(
        release: &[u8],
        signature: &[u8],
        keyring: &Keyring,
        now: Option<i64>,
    ) -> Result<Self, ReleaseError> {
        let signers = keyring.verify_detached(release, signature, now)?;
        let text = std::str::from_utf8(release).map_err(|_| ReleaseError::malformed("text", "it is not UTF-8"))?;
        Self::parse(text, signers, now)
    }

    /// The package index of one component and architecture: xz before gzip before plain.
    ///
    /// # Errors
    /// [`ReleaseError::NotListed`].
    pub fn packages(&self, component: &str, architecture: &str) -> Result<IndexFile, ReleaseError> {
        use crate::Compression::{Gzip, Plain, Xz};
        let directory = format!("{component}/binary-{architecture}");
        for compression in [Xz, Gzip, Plain] {
            let path = format!("{directory}/Packages{}", compression.extension());
            if let Some(file) = self.files.get(&path) {
                let path = if self.acquire_by_hash {
                    format!("{directory}/by-hash/SHA256/{}", file.sha256.hex())
                } else {
                    path
                };
                return Ok(IndexFile { path, compression, size: file.size, sha256: file.sha256 });
            }
        }
        Err(ReleaseError::NotListed {
            codename: self.codename.clone(),
            component: component.to_owned(),
            architecture: architecture.to_owned(),
            components: self.components.clone(),
            architectures: self.architectures.clone(),
        })
    }

    fn parse(text: &str, signers: Vec<Signer>, now: Option<i64>) -> Result<Self, ReleaseError> {
        let paragraph = Paragraph::parse(text).map_err(|error| ReleaseError::malformed("text", &error.to_string()))?;
        let words =
            |field: &str| -> Vec<&str> { paragraph.get(field).unwrap_or_default().split_ascii_whitespace().collect() };
        let time = |field: &'static str| match paragraph.get(field) {
            None => Ok(None),
            Some(text) => date::parse(text)
                .map(Some)
                .ok_or_else(|| ReleaseError::malformed(field, &format!("`{text}` is not a date"))),
        };
        let yes = |field: &str| paragraph.get(field) == Some("yes");
        let suite = paragraph.get("Suite").unwrap_or_default().to_owned();
        let release = Self {
            codename: paragraph.get("Codename").map_or_else(|| suite.clone(), str::to_owned),
            suite,
            date: time("Date")?.ok_or_else(|| ReleaseError::malformed("Date", "it is missing"))?,
            valid_until: time("Valid-Until")?,
            components: words("Components")
                .into_iter()
                .map(|name| name.rsplit('/').next().unwrap_or(name).to_owned())
                .collect(),
            architectures: words("Architectures").into_iter().map(str::to_owned).collect(),
            acquire_by_hash: yes("Acquire-By-Hash"),
            not_automatic: yes("NotAutomatic"),
            files: files(paragraph.get("SHA256").ok_or_else(|| ReleaseError::malformed("SHA256", "it is missing"))?)?,
            signers,
        };
        match (release.valid_until, now) {
            (Some(until), Some(now)) if until <= now => {
                Err(ReleaseError::Expired { codename: release.codename, until, now })
            }
            _ => Ok(release),
        }
    }
}

fn files(table: &str) -> Result<BTreeMap<String, ReleaseFile>, ReleaseError> {
    let rows = table.lines().filter(|line| !line.trim().is_empty());
    rows.map(|line| {
        let mut words = line.split_ascii_whitespace();
        let row = match (words.next(), words.next(), words.next(), words.next()) {
            (Some(digest), Some(size), Some(path), None) => Digest::from_hex(digest)
                .ok()
                .zip(size.parse().ok())
                .map(|(sha256, size)| (path, ReleaseFile { size, sha256 })),
            _ => None,
        };
        let (path, file) =
            row.ok_or_else(|| ReleaseError::malformed("SHA256", &format!("`{}` is not a row of it", line.trim())))?;
        Ok((path.to_owned(), file))
    })
    .collect()
}

#[cfg(test)]
mod tests;
