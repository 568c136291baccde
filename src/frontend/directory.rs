//! Directories of the client, and reading what lies in them.

use std::collections::BTreeSet;

use buildkit::gateway::{Gateway, Reference};
use diag::{Diagnostic, Source, codes};
use llb::{GitSource, Graph, LocalSource, SourceOp};
use oci::{Digest, Platform};
use plan::ContextPlace;

use super::options::Options;
use super::report::Stop;

/// A directory the build can have: one of the client's, or a git repository at a commit.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    /// The tree it is in.
    source: SourceOp,
    /// Its path there, without slashes at the ends; empty for the whole tree.
    path: String,
}

/// Files of a directory that the daemon has ready to be read.
pub(super) struct Files<'a> {
    gateway: &'a Gateway,
    reference: Reference,
    path: String,
    /// The vertex that loaded them.
    pub(super) vertex: Digest,
}

impl Directory {
    /// A directory the client offers.
    pub(super) fn local(options: &Options, name: &str) -> Self {
        let source = SourceOp::Local(LocalSource {
            session: Some(options.session_of(name).to_owned()),
            shared_key_hint: Some(name.to_owned()),
            ..LocalSource::new(name)
        });
        Self { source, path: String::new() }
    }

    /// The main directory: the client's, or the repository it names.
    pub(super) async fn main(gateway: &Gateway, options: &Options) -> Result<Self, Stop> {
        let Some(remote) = &options.remote else { return Ok(Self::local(options, &options.main_directory)) };
        let Some(Git { remote, reference, path }) = Git::parse(remote) else {
            let message = format!("`{remote}` cannot be the build context of a recipe");
            return Err(Stop::from(
                Diagnostic::new(codes::frontend::CONTEXT, message)
                    .help("give a directory, or a git repository: `https://HOST/NAME.git#REFERENCE`"),
            ));
        };
        let commit =
            match reference.parse() {
                Ok(commit) => commit,
                Err(_) => gateway.resolve_git(&remote, &reference).await.map_err(Stop::gateway)?.parse().map_err(
                    |error: llb::GitCommitError| Diagnostic::new(codes::frontend::CONTEXT, error.to_string()),
                )?,
            };
        let source = SourceOp::Git(GitSource { remote, commit, subdir: None, keep_git_dir: false });
        Ok(Self { source, path })
    }

    /// The directory below this one.
    pub(super) fn join(&self, path: &str) -> Self {
        let path = [self.path.as_str(), path].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        Self { source: self.source.clone(), path }
    }

    /// Where a plan finds it.
    pub(super) fn place(&self) -> ContextPlace {
        ContextPlace::Tree { source: Box::new(self.source.clone()), directory: self.path.clone() }
    }

    /// Has the files that match these patterns made ready; only those travel.
    pub(super) async fn files<'a>(
        &self,
        gateway: &'a Gateway,
        name: String,
        patterns: &[String],
    ) -> Result<Files<'a>, Stop> {
        let source = match &self.source {
            SourceOp::Local(local) => {
                let below = |pattern: &String| self.join(pattern).path;
                SourceOp::Local(LocalSource { include: patterns.iter().map(below).collect(), ..local.clone() })
            }
            other => other.clone(),
        };
        // The platform is no part of such a source.
        let graph = Graph::new(Platform::LINUX_AMD64);
        let loaded = graph.source(source).with_name(format!("[internal] {name}"));
        let definition = graph.definition(&loaded).expect("one source is a graph");
        let reference = gateway.solve(&definition, &[]).await.map_err(Stop::gateway)?;
        Ok(Files { gateway, reference, path: self.path.clone(), vertex: loaded.vertex().digest() })
    }
}

impl Files<'_> {
    /// The names in a directory; none if it is not there.
    pub(super) async fn names(&self, path: &str) -> Result<BTreeSet<String>, Stop> {
        let mut at = String::from("/");
        for part in
            [self.path.as_str(), path].into_iter().flat_map(|path| path.split('/')).filter(|part| !part.is_empty())
        {
            if !self.read_dir(&at).await?.contains(part) {
                return Ok(BTreeSet::new());
            }
            at = format!("{}/{part}", at.trim_end_matches('/'));
        }
        self.read_dir(&at).await
    }

    async fn read_dir(&self, path: &str) -> Result<BTreeSet<String>, Stop> {
        let names = self.gateway.read_dir(&self.reference, path).await.map_err(Stop::gateway)?;
        Ok(names.into_iter().collect())
    }

    /// A file's bytes, if it is there.
    pub(super) async fn bytes(&self, path: &str) -> Result<Option<Vec<u8>>, Stop> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        if !self.names(directory).await?.contains(name) {
            return Ok(None);
        }
        let path = [self.path.as_str(), path].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        Ok(Some(self.gateway.read_file(&self.reference, &format!("/{path}")).await.map_err(Stop::gateway)?))
    }

    /// A text file, if it is there.
    pub(super) async fn source(&self, path: &str) -> Result<Option<Source>, Stop> {
        let Some(bytes) = self.bytes(path).await? else { return Ok(None) };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(Source::new(path, text))),
            Err(_) => Err(Stop::from(Diagnostic::new(codes::frontend::CONTEXT, format!("`{path}` is no UTF-8 text")))),
        }
    }
}

/// `a/b` and `../c` give `a/c`; `None` for what leads out of the root, and for absolute paths.
pub(super) fn resolve(directory: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop()?,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// A git repository as clients name one. Spec: BuildKit `frontend/dockerfile/dfgitutil`.
#[derive(Debug, PartialEq, Eq)]
struct Git {
    remote: String,
    reference: String,
    path: String,
}

impl Git {
    fn parse(text: &str) -> Option<Self> {
        let (remote, fragment) = text.split_once('#').unwrap_or((text, ""));
        let has_scheme = |schemes: &[&str]| schemes.iter().any(|scheme| remote.starts_with(scheme));
        let is_git = has_scheme(&["git://", "ssh://", "git@"])
            || (has_scheme(&["http://", "https://"]) && remote.ends_with(".git"));
        let remote = match remote.starts_with("github.com/") {
            true => format!("https://{remote}"),
            false if is_git => remote.to_owned(),
            false => return None,
        };
        let (reference, path) = fragment.split_once(':').unwrap_or((fragment, ""));
        let reference = if reference.is_empty() { "HEAD" } else { reference };
        Some(Self { remote, reference: reference.to_owned(), path: resolve("", path.trim_start_matches('/'))? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_within_the_root() {
        assert_eq!(resolve("a/b", "../c").as_deref(), Some("a/c"));
        assert_eq!(resolve("", ".").as_deref(), Some(""));
        assert_eq!(resolve("a", "./b//c/").as_deref(), Some("a/b/c"));
        assert_eq!(resolve("a", "../../b"), None);
        assert_eq!(resolve("a", "/b"), None);
    }

    #[test]
    fn repositories_are_told_from_archives() {
        let git = |remote: &str, reference: &str, path: &str| {
            Some(Git { remote: remote.into(), reference: reference.into(), path: path.into() })
        };
        assert_eq!(Git::parse("https://h/r.git"), git("https://h/r.git", "HEAD", ""));
        assert_eq!(Git::parse("https://h/r.git#v1:a/b/"), git("https://h/r.git", "v1", "a/b"));
        assert_eq!(Git::parse("git@h:r#:a"), git("git@h:r", "HEAD", "a"));
        assert_eq!(Git::parse("github.com/o/r#main"), git("https://github.com/o/r", "main", ""));
        assert_eq!(Git::parse("https://h/context.tar.gz"), None);
        assert_eq!(Git::parse("https://h/r.git#v1:../a"), None);
    }
}
