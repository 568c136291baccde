//! What is known beforehand about content: digests and length.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use oci::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A SHA-512, which is what npm knows packages by. Written as subresource integrity: `sha512-` and base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha512([u8; 64]);

/// A text that is no SHA-512.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a sha512 integrity: `sha512-` and the base64 of 64 bytes")]
pub struct Sha512Error(pub String);

impl Sha512 {
    /// The SHA-512 of `bytes`.
    #[must_use]
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha512::digest(bytes.as_ref()).into())
    }

    /// Wraps 64 bytes that are a SHA-512.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// The 128 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Sha512 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha512-{}", BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Sha512 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha512 {
    type Err = Sha512Error;

    /// Reads an integrity field. Of several hashes in it (they are separated by spaces) the SHA-512 counts.
    fn from_str(text: &str) -> Result<Self, Sha512Error> {
        text.split_whitespace()
            .find_map(|hash| hash.strip_prefix("sha512-"))
            // Options may follow a question mark.
            .and_then(|encoded| BASE64_STANDARD.decode(encoded.split('?').next().unwrap_or(encoded)).ok())
            .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(|| Sha512Error(text.to_owned()))
    }
}

impl Serialize for Sha512 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha512 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a download must turn out to be. Everything given is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// Its SHA-256.
    pub sha256: Option<Digest>,
    /// Its SHA-512.
    pub sha512: Option<Sha512>,
    /// Its length in bytes.
    pub size: Option<u64>,
}

impl Expect {
    /// Nothing is known: every download is taken as it comes, and never from the store.
    pub const ANYTHING: Self = Self { sha256: None, sha512: None, size: None };

    /// Known by SHA-256.
    #[must_use]
    pub const fn sha256(digest: Digest) -> Self {
        Self { sha256: Some(digest), ..Self::ANYTHING }
    }

    /// Known by SHA-512.
    #[must_use]
    pub const fn sha512(sha512: Sha512) -> Self {
        Self { sha512: Some(sha512), ..Self::ANYTHING }
    }

    /// The length is known too.
    #[must_use]
    pub const fn with_size(self, size: u64) -> Self {
        Self { size: Some(size), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha512_reads_what_npm_writes() {
        let text = Sha512::of(b"claw").to_string();
        assert_eq!(text.parse(), Ok(Sha512::of(b"claw")));
        assert_eq!(format!("sha1-abc= {text}?x").parse(), Ok(Sha512::of(b"claw")));
        for bad in ["", "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "sha512-AAAA", "sha512-!"] {
            assert_eq!(bad.parse::<Sha512>(), Err(Sha512Error(bad.to_owned())));
        }
    }
}
