//! Where a recipe's program comes from.

use std::fmt;

use diag::Spanned;
use oci::Digest;

use crate::{Registry, Requirement};

/// Where the program comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// A package of a language's registry.
    Release {
        /// Whose.
        registry: Registry,
        /// The package's name.
        package: Spanned<String>,
        /// Which version.
        version: Spanned<Requirement>,
    },
    /// A commit of a git repository.
    Git {
        /// The repository.
        url: Spanned<String>,
        /// The commit, by the name it has there.
        reference: Spanned<GitReference>,
        /// The version to tag the image with, where the reference does not say it.
        version: Option<Spanned<String>>,
    },
    /// A tar archive, compressed or not.
    Archive {
        /// Where it lies.
        url: Spanned<String>,
        /// Its digest.
        sha256: Spanned<Digest>,
        /// The directory in it that is the source; the archive's top when empty.
        root: String,
        /// The version to tag the image with.
        version: Spanned<String>,
    },
    /// A directory, relative to the recipe's own.
    Path {
        /// The directory.
        path: Spanned<String>,
        /// The version to tag the image with.
        version: Option<Spanned<String>>,
    },
}

/// The name a commit has in its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GitReference {
    /// A tag.
    Tag(String),
    /// A branch; the lock holds the commit it was at.
    Branch(String),
    /// The commit's own id.
    Commit(String),
}

impl GitReference {
    /// The reference's full name in the repository, where it has one.
    #[must_use]
    pub fn full_name(&self) -> Option<String> {
        match self {
            Self::Tag(tag) => Some(format!("refs/tags/{tag}")),
            Self::Branch(branch) => Some(format!("refs/heads/{branch}")),
            Self::Commit(_) => None,
        }
    }

    /// The version a reference names: what a tag says after its last `/` and a `v`, if that begins with a digit.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        let Self::Tag(tag) = self else { return None };
        let word = tag.rsplit('/').next().unwrap_or(tag);
        // `ironclaw-v1.3.0` and `v1.3.0` both say 1.3.0.
        let after = word.rfind("-v").map_or(word.trim_start_matches('v'), |at| &word[at + 2..]);
        after.starts_with(|c: char| c.is_ascii_digit()).then_some(after)
    }
}

impl fmt::Display for GitReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::Branch(branch) => write!(f, "branch {branch}"),
            Self::Commit(commit) => write!(f, "rev {commit}"),
        }
    }
}
