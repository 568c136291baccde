//! Content digests.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// The SHA-256 digest of some bytes.
///
/// SHA-256 is the one algorithm the OCI image specification requires, and the only one clawbuild writes or accepts.
/// Spec: OCI image-spec descriptor.md §Digests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// The digest of a layer's *uncompressed* tar. Spec: OCI image-spec config.md §Layer DiffID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

/// A text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` in front.
    #[error("`{0}` has no algorithm: a digest looks like `sha256:` and 64 hexadecimal digits")]
    NoAlgorithm(String),
    /// The algorithm is not SHA-256.
    #[error("digest algorithm `{0}` is not supported: use sha256")]
    Algorithm(String),
    /// Not 64 lower-case hexadecimal digits.
    #[error("`{0}` is not 64 lower-case hexadecimal digits")]
    Hex(String),
}

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(sha2::Sha256::digest(bytes.as_ref()).into())
    }

    /// Wraps 32 bytes that are a SHA-256.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Parses 64 lower-case hexadecimal digits, as Debian's indexes and lock files write them.
    ///
    /// # Errors
    /// [`DigestError::Hex`] for anything else.
    pub fn from_hex(text: &str) -> Result<Self, DigestError> {
        let mut bytes = [0; 32];
        let lower = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !lower || hex::decode_to_slice(text, &mut bytes).is_err() {
            return Err(DigestError::Hex(text.to_owned()));
        }
        Ok(Self(bytes))
    }

    /// Reads `reader` to its end and gives its digest and length in bytes.
    ///
    /// # Errors
    /// Whatever reading gives.
    pub fn of_reader(reader: &mut impl Read) -> io::Result<(Self, u64)> {
        let mut hasher = Hasher::new(io::sink());
        io::copy(reader, &mut hasher)?;
        Ok(hasher.finish())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.split_once(':') {
            None => Err(DigestError::NoAlgorithm(text.to_owned())),
            Some(("sha256", digits)) => Self::from_hex(digits),
            Some((algorithm, _)) => Err(DigestError::Algorithm(algorithm.to_owned())),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A writer that hashes and counts what passes through it.
#[derive(Clone, Debug)]
pub struct Hasher<W> {
    inner: W,
    state: sha2::Sha256,
    length: u64,
}

impl<W> Hasher<W> {
    /// Hashes everything written on to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, state: sha2::Sha256::new(), length: 0 }
    }

    /// The digest and number of bytes that went through.
    pub fn finish(self) -> (Digest, u64) {
        (Digest(self.state.finalize().into()), self.length)
    }

    /// As [`Hasher::finish`], and the writer back.
    pub fn into_parts(self) -> (W, Digest, u64) {
        (self.inner, Digest(self.state.finalize().into()), self.length)
    }
}

impl<W: Write> Write for Hasher<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buf)?;
        self.state.update(&buf[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn parses_what_it_prints_and_refuses_the_rest() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>(), Ok(Digest::of(b"")));
        assert!(matches!("e3b0".parse::<Digest>(), Err(DigestError::NoAlgorithm(_))));
        assert!(matches!("sha512:00".parse::<Digest>(), Err(DigestError::Algorithm(_))));
        assert!(matches!(EMPTY.to_uppercase().replace("SHA256", "sha256").parse::<Digest>(), Err(DigestError::Hex(_))));
    }
}
