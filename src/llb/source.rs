//! Content from outside the graph. Spec: BuildKit `solver/pb/ops.proto` `SourceOp`, `solver/pb/attr.go`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use oci::{Digest, Repository};

use crate::caps::Cap;

/// Where content comes from. Everything but a local directory is pinned by a digest or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceOp {
    /// An image in a registry.
    Image(ImageSource),
    /// An image in an OCI layout the client has.
    OciLayout(OciLayoutSource),
    /// A directory of the client's.
    Local(LocalSource),
    /// A commit of a git repository.
    Git(GitSource),
    /// A file by HTTP.
    Http(HttpSource),
}

/// `docker-image://`. A tag would only blur identity, so there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSource {
    /// Where the image lies.
    pub repository: Repository,
    /// The manifest's or index's digest.
    pub digest: Digest,
}

/// `oci-layout://`: an image out of a content store that the session (or the embedded engine) offers by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciLayoutSource {
    /// A name for people and progress output, in repository syntax, such as `base/debian`.
    pub name: String,
    /// The manifest's or index's digest.
    pub digest: Digest,
    /// Attribute `oci.store`: which of the session's stores.
    pub store: Option<String>,
    /// Attribute `oci.session`: whose session; `None` is the one that solves.
    pub session: Option<String>,
}

/// `local://`: a directory the client offers under a name. Its path is never part of the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalSource {
    /// The name the client offers it under.
    pub name: String,
    /// Take only what matches one of these, unless empty. `.dockerignore` syntax.
    pub include: Vec<String>,
    /// Take nothing that matches one of these. `.dockerignore` syntax.
    pub exclude: Vec<String>,
    /// Take these paths and, for symbolic links among them, what they lead to.
    pub follow_paths: Vec<String>,
    /// Names the transfer cache on the daemon's side.
    pub shared_key_hint: Option<String>,
    /// Attribute `local.session`: whose session; `None` is the one that solves.
    pub session: Option<String>,
    /// Attribute `local.unique`: keeps a shared daemon from merging equal graphs of two clients with different
    /// directories. `None` for the embedded engine, whose contexts are its own.
    pub unique: Option<String>,
}

impl LocalSource {
    /// All of the directory the client offers under this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// `git://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSource {
    /// The repository's URL.
    pub remote: String,
    /// The commit checked out.
    pub commit: GitCommit,
    /// Only this directory of it.
    pub subdir: Option<String>,
    /// Whether `.git` stays in the tree.
    pub keep_git_dir: bool,
}

/// A git commit id: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GitCommit(String);

/// A text that is no full commit id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a full git commit id: 40 or 64 lower-case hexadecimal digits")]
pub struct GitCommitError(pub String);

impl GitCommit {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GitCommit {
    type Err = GitCommitError;

    fn from_str(text: &str) -> Result<Self, GitCommitError> {
        let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if digits && matches!(text.len(), 40 | 64) {
            Ok(Self(text.to_owned()))
        } else {
            Err(GitCommitError(text.to_owned()))
        }
    }
}

impl fmt::Display for GitCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `http://` or `https://`: a tree with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSource {
    /// The URL, without credentials.
    pub url: String,
    /// The content's digest.
    pub checksum: Digest,
    /// The file's name in the tree; `None` is the last part of the URL.
    pub filename: Option<String>,
    /// Permission bits; `None` is 0600.
    pub perm: Option<u32>,
    /// Owner; 0 is root.
    pub uid: u32,
    /// Group; 0 is root.
    pub gid: u32,
}

impl HttpSource {
    /// A file under the URL's last part, 0600 and root's.
    #[must_use]
    pub fn new(url: impl Into<String>, checksum: Digest) -> Self {
        Self { url: url.into(), checksum, filename: None, perm: None, uid: 0, gid: 0 }
    }
}

impl SourceOp {
    /// Whether the content depends on the platform, so that the platform is part of the vertex.
    #[must_use]
    pub const fn is_platform_specific(&self) -> bool {
        match self {
            Self::Image(_) | Self::OciLayout(_) => true,
            Self::Local(_) | Self::Git(_) | Self::Http(_) => false,
        }
    }

    pub(crate) fn add_caps(&self, caps: &mut BTreeSet<Cap>) {
        match self {
            Self::Image(_) => _ = caps.insert(Cap::SourceImage),
            Self::OciLayout(_) => _ = caps.insert(Cap::SourceOciLayout),
            Self::Local(local) => {
                caps.insert(Cap::SourceLocal);
                for (used, cap) in [
                    (!local.include.is_empty(), Cap::SourceLocalIncludePatterns),
                    (!local.exclude.is_empty(), Cap::SourceLocalExcludePatterns),
                    (!local.follow_paths.is_empty(), Cap::SourceLocalFollowPaths),
                    (local.shared_key_hint.is_some(), Cap::SourceLocalSharedKeyHint),
                    (local.session.is_some(), Cap::SourceLocalSessionId),
                    (local.unique.is_some(), Cap::SourceLocalUnique),
                ] {
                    if used {
                        caps.insert(cap);
                    }
                }
            }
            Self::Git(git) => {
                caps.extend([Cap::SourceGit, Cap::SourceGitFullUrl]);
                if git.keep_git_dir {
                    caps.insert(Cap::SourceGitKeepDir);
                }
                if git.subdir.is_some() {
                    caps.insert(Cap::SourceGitSubdir);
                }
            }
            Self::Http(http) => {
                caps.extend([Cap::SourceHttp, Cap::SourceHttpChecksum]);
                if http.perm.is_some() {
                    caps.insert(Cap::SourceHttpPerm);
                }
                if http.uid != 0 || http.gid != 0 {
                    caps.insert(Cap::SourceHttpUidGid);
                }
            }
        }
    }
}
