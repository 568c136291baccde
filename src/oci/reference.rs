//! Image references: `registry/repository[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// A tag: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`. Spec: OCI distribution-spec §Pulling manifests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// A registry and a repository in it, normalised as Docker does: no registry means `docker.io`, and a name without a
/// slash there lies in `library/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: String,
    path: String,
}

/// A reference to an image: a repository and a tag, a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Where the image lies.
    pub repository: Repository,
    /// The tag, if one was written.
    pub tag: Option<Tag>,
    /// The digest, if one was written. With a tag too, the digest decides.
    pub digest: Option<Digest>,
}

/// A text that is no image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was given.
    #[error("an image reference is empty")]
    Empty,
    /// A repository has upper-case letters, or characters outside `a-z 0-9 . _ - /`.
    #[error(
        "`{0}` is not a repository name: lower-case letters, digits and single `.`, `_`, `-` between them, separated by `/`"
    )]
    Repository(String),
    /// The tag has bad characters or is too long.
    #[error("`{0}` is not a tag: up to 128 letters, digits, `_`, `.`, `-`, not starting with `.` or `-`")]
    Tag(String),
    /// What follows `@` is no digest.
    #[error(transparent)]
    Digest(#[from] crate::DigestError),
}

impl Tag {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let good = text.len() <= 128 && text.starts_with(word) && text.chars().all(|c| word(c) || c == '.' || c == '-');
        if good { Ok(Self(text.to_owned())) } else { Err(ReferenceError::Tag(text.to_owned())) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Repository {
    /// Host and optional port, such as `ghcr.io` or `127.0.0.1:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path in the registry, such as `library/debian`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The reference to one tag of this repository.
    #[must_use]
    pub fn with_tag(&self, tag: Tag) -> Reference {
        Reference { repository: self.clone(), tag: Some(tag), digest: None }
    }

    /// The reference to one manifest of this repository.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { repository: self.clone(), tag: None, digest: Some(digest) }
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (registry, path) = match text.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
            Some(_) => ("docker.io", text.to_owned()),
            None => ("docker.io", format!("library/{text}")),
        };
        let component = |part: &str| {
            let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            part.starts_with(edge)
                && part.ends_with(edge)
                && part.chars().all(|c| edge(c) || matches!(c, '.' | '_' | '-'))
                && !part.contains("..")
        };
        let host = registry.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'));
        if !host || path.len() > 255 || !path.split('/').all(component) {
            return Err(ReferenceError::Repository(text.to_owned()));
        }
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        Ok(Self { registry: registry.to_owned(), path })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl Reference {
    /// The name as people write it: without what Docker takes for granted.
    #[must_use]
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/library/").or_else(|| full.strip_prefix("docker.io/"));
        short.map_or_else(|| full.clone(), str::to_owned)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon before the last slash belongs to the registry's port.
        let after_slash = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match rest[after_slash..].split_once(':') {
            Some((_, tag)) => (&rest[..rest.len() - tag.len() - 1], Some(tag.parse()?)),
            None => (rest, None),
        };
        Ok(Self { repository: repository.parse()?, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.repository, f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_as_docker_does() {
        for (text, normal) in [
            ("debian", "docker.io/library/debian"),
            ("node:24", "docker.io/library/node:24"),
            ("ghcr.io/owner/openclaw:2026.9.6", "ghcr.io/owner/openclaw:2026.9.6"),
            ("localhost/x", "localhost/x"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b"),
            ("127.0.0.1:5000/a/b:t", "127.0.0.1:5000/a/b:t"),
        ] {
            assert_eq!(text.parse::<Reference>().expect(text).to_string(), normal);
        }
        let digest = Digest::of(b"");
        let both = format!("ghcr.io/o/r:1@{digest}");
        assert_eq!(both.parse::<Reference>().expect("both").to_string(), both);
    }

    #[test]
    fn refuses_what_no_registry_takes() {
        for text in ["", "Debian", "a//b", "a/b:", "a/b:-x", "ghcr.io/a..b", "a@sha256:zz", "ghcr.io/"] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
