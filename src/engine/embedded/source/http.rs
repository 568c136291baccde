//! Files by HTTP.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use diag::progress::Task;
use llb::HttpSource;
use oci::layer::ownership::{Owner, Owners, Ownership, Place};
use registry::progress::Meter;
use registry::{Expect, Url};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::embedded::chain::Chain;
use crate::embedded::snapshot::Draft;
use crate::embedded::solver::Solve;
use crate::error::VertexError;

/// The permission bits of a file whose source names none, as BuildKit has them.
pub(crate) const DEFAULT_FILE_MODE: u32 = 0o600;

/// The name of the file in its tree: the one given, or the last part of the URL's path.
pub(crate) fn file_name(source: &HttpSource) -> &str {
    source.filename.as_deref().unwrap_or_else(|| {
        let path = source.url.split(['?', '#']).next().unwrap_or_default();
        let path = path.split_once("://").map_or(path, |(_, rest)| rest);
        match path.rsplit_once('/') {
            Some((_, name)) if !name.is_empty() => name,
            Some(_) | None => "download",
        }
    })
}

/// A tree that holds the one file, with the time 0.
pub(super) async fn take(solve: &Arc<Solve>, source: &HttpSource, task: &Task) -> Result<Chain, VertexError> {
    let url = Url::parse(&source.url).map_err(|error| VertexError::Url { url: source.url.clone(), source: error })?;
    let meter = Meter::new(task, file_name(source));
    let expect = Expect::sha256(source.checksum);
    let fetched = tokio::select! {
        biased;
        () = solve.cancel.cancelled() => return Err(VertexError::Canceled),
        fetched = solve.workshop.downloader.fetch(&url, &expect, &meter) => fetched?,
    };
    let (workshop, source) = (solve.workshop.clone(), source.clone());
    solve
        .blocking(move || {
            let draft = Draft::new(&workshop.store)?;
            let path = draft.fs().join(file_name(&source));
            // Not a link to the blob: modes and times are the file's own.
            fs::copy(workshop.store.blob_path(&fetched.digest), &path).map_err(VertexError::io("write", &path))?;
            let owner = Owner { uid: source.uid, gid: source.gid };
            set_owner(&draft, &source, owner, workshop.ownership())
                .map_err(VertexError::io("change the owner of", &path))?;
            let mode = fs::Permissions::from_mode(source.perm.unwrap_or(DEFAULT_FILE_MODE));
            fs::set_permissions(&path, mode).map_err(VertexError::io("change the mode of", &path))?;
            let epoch = Timespec { tv_sec: 0, tv_nsec: 0 };
            let times = Timestamps { last_access: epoch, last_modification: epoch };
            for path in [&path, &draft.fs()] {
                rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| VertexError::io("set the time of", path)(errno.into()))?;
            }
            Ok(Chain::default().with(draft.commit()?))
        })
        .await
}

fn set_owner(draft: &Draft, source: &HttpSource, owner: Owner, ownership: Ownership) -> std::io::Result<()> {
    let mut owners = Owners::open(draft.snapshot(), ownership)?;
    let directory = fs::File::open(draft.fs())?;
    let name = file_name(source).as_bytes();
    owners.set(Place { directory: directory.as_fd(), name, path: name }, owner)?;
    owners.save(draft.snapshot())
}

#[cfg(test)]
mod tests {
    use oci::Digest;

    use super::*;

    #[test]
    fn a_file_is_named_by_its_url_unless_named() {
        for (url, name) in [
            ("https://example.org/a/b.tar.gz", "b.tar.gz"),
            ("https://example.org/a/b.tar.gz?token=1/2", "b.tar.gz"),
            ("https://example.org/", "download"),
            ("https://example.org", "download"),
        ] {
            let mut source = HttpSource {
                url: url.to_owned(),
                checksum: Digest::of(""),
                filename: None,
                perm: None,
                uid: 0,
                gid: 0,
            };
            assert_eq!(file_name(&source), name);
            source.filename = Some("x".to_owned());
            assert_eq!(file_name(&source), "x");
        }
    }
}
