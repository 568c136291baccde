//! Content digests: what of an input a step really looks at, as one digest.
//!
//! Times are left out, as BuildKit leaves them out: a file that was only touched is the same file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llb::{Account, ActionInput, FileActionKind, FileOp, InputIndex, MountKind, Op};
use oci::layer::Snapshot;
use oci::{Digest, Hasher};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use store::{Bucket, Key};

use super::chain::Chain;
use super::solver::Solve;
use super::unpack;
use crate::error::VertexError;

/// A part of a tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Selection {
    path: String,
    // Whether a symbolic link at the very path stands for what it leads to.
    follow: bool,
}

/// What of one input decides the outcome of a vertex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relevance {
    /// Which tree it is.
    Identity,
    /// What these parts of the tree hold, whichever tree it is.
    Content(Vec<Selection>),
}

impl Relevance {
    /// For each input of a vertex, what of it counts.
    pub(crate) fn of_inputs(op: &Op, inputs: usize) -> Vec<Self> {
        let mut all = vec![Self::Content(Vec::new()); inputs];
        match op {
            Op::File(file) => file_op(file, &mut all),
            Op::Exec(exec) => {
                for mount in &exec.mounts {
                    let Some(InputIndex(input)) = mount.input else { continue };
                    let only_read = mount.readonly && mount.output.is_none() && mount.dest != "/";
                    match mount.kind {
                        MountKind::Bind if only_read => {
                            let path = mount.selector.as_deref().unwrap_or("/");
                            all[input].select(path, true);
                        }
                        MountKind::Bind
                        | MountKind::Cache { .. }
                        | MountKind::Tmpfs { .. }
                        | MountKind::Secret(_)
                        | MountKind::Ssh(_) => all[input] = Self::Identity,
                    }
                }
            }
            Op::Source(_) | Op::Merge(_) | Op::Diff(_) => all.fill(Self::Identity),
        }
        for relevance in &mut all {
            if let Self::Content(selections) = relevance {
                selections.sort();
                selections.dedup();
            }
        }
        all
    }

    fn select(&mut self, path: &str, follow: bool) {
        if let Self::Content(selections) = self {
            selections.push(Selection { path: path.to_owned(), follow });
        }
    }
}

fn file_op(file: &FileOp, all: &mut [Relevance]) {
    for action in &file.actions {
        if let ActionInput::Input(InputIndex(input)) = action.input {
            all[input] = Relevance::Identity;
        }
        if let (FileActionKind::Copy(copy), ActionInput::Input(InputIndex(input))) =
            (&action.kind, action.secondary_input)
        {
            if copy.allow_wildcard {
                all[input].select(fixed_prefix(&copy.src), true);
            } else {
                all[input].select(&copy.src, copy.follow_symlink);
            }
        }
        for (InputIndex(input), database) in named_accounts(&action.kind) {
            all[input].select(database, true);
        }
    }
}

/// The files an action looks names of owners up in.
pub(crate) fn named_accounts(action: &FileActionKind) -> Vec<(InputIndex, &'static str)> {
    let owner = match action {
        FileActionKind::Copy(copy) => &copy.owner,
        FileActionKind::Mkfile(mkfile) => &mkfile.owner,
        FileActionKind::Mkdir(mkdir) => &mkdir.owner,
        FileActionKind::Symlink(symlink) => &symlink.owner,
        FileActionKind::Rm(_) => &None,
    };
    let Some(owner) = owner else { return Vec::new() };
    let accounts = [(&owner.user, "/etc/passwd"), (&owner.group, "/etc/group")];
    let named = accounts.into_iter().filter_map(|(account, database)| match account {
        Some(Account::Name { input, .. }) => input.map(|input| (input, database)),
        Some(Account::Id(_)) | None => None,
    });
    named.collect()
}

/// The directories of a pattern that hold no metacharacter: what is below them is more than the pattern can match.
fn fixed_prefix(pattern: &str) -> &str {
    match pattern.find(['*', '?', '[', '\\']) {
        None => pattern,
        Some(first) => match pattern[..first].rfind('/') {
            None | Some(0) => "/",
            Some(slash) => &pattern[..slash],
        },
    }
}

/// The digest of these parts of a chain's tree, worked out once.
///
/// # Errors
/// [`VertexError`] where the tree cannot be seen.
pub(crate) async fn of_chain(
    solve: &Arc<Solve>,
    chain: &Chain,
    selections: &[Selection],
) -> Result<Digest, VertexError> {
    let workshop = solve.workshop.clone();
    let key = memo_key(&workshop.domain, chain, selections);
    if let Some(digest) = workshop.store.record(Bucket::Contents, &key) {
        return Ok(digest);
    }
    let snapshots = unpack::snapshots(solve, chain.parts()).await?;
    let selections = selections.to_vec();
    solve
        .blocking(move || {
            let layers: Vec<PathBuf> = snapshots.iter().map(Snapshot::fs).collect();
            let tree = workshop.mounter()?.read_only(&layers)?;
            let mut digest = digest(&tree.path(), &selections).map_err(VertexError::io("read", &tree.path()))?;
            for snapshot in &snapshots {
                // Owners that could only be recorded beside the files. Whose they are matters little: they are rare.
                let beside = snapshot.directory().join("symlink-owners");
                match fs::read(&beside) {
                    Ok(records) => digest = Digest::of([digest.as_bytes(), records.as_slice()].concat()),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(VertexError::io("read", &beside)(error)),
                }
            }
            // Should it be lost, it is worked out again.
            workshop.store.put_record_unsynced(Bucket::Contents, &key, &digest)?;
            Ok(digest)
        })
        .await
}

fn memo_key(domain: &str, chain: &Chain, selections: &[Selection]) -> Key {
    let selections = selections.iter().map(|selection| format!("{} {}", selection.follow, selection.path));
    let parts = [domain.to_owned(), chain.identity().hex()].into_iter().chain(selections).collect::<Vec<_>>();
    Key::of(parts.iter().map(String::as_bytes))
}

/// The digest of these parts of the tree at `root`. Symbolic links are resolved inside it. Blocks.
///
/// # Errors
/// Whatever reading gives. A part that is not there is no error: its absence is hashed.
pub(crate) fn digest(root: &Path, selections: &[Selection]) -> io::Result<Digest> {
    let directory = File::open(root)?;
    let mut hasher = Hasher::new(io::sink());
    for selection in selections {
        text(&mut hasher, selection.path.as_bytes());
        match resolve(&directory, selection)? {
            None => text(&mut hasher, b"absent"),
            Some(path) => entry(&mut hasher, &path)?,
        }
    }
    Ok(hasher.finish().0)
}

/// Where a selection leads, never outside of the tree.
fn resolve(root: &File, selection: &Selection) -> io::Result<Option<PathBuf>> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if !selection.follow {
        flags |= OFlags::NOFOLLOW;
    }
    let path = selection.path.trim_matches('/');
    let path = if path.is_empty() { "." } else { path };
    match rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Ok(file) => {
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            fs::read_link(link).map(Some)
        }
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn entry(hasher: &mut Hasher<io::Sink>, path: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let kind = meta.file_type();
    for number in [u64::from(meta.mode()), u64::from(meta.uid()), u64::from(meta.gid()), meta.rdev()] {
        hasher.write_all(&number.to_le_bytes())?;
    }
    attributes(hasher, path)?;
    if kind.is_dir() {
        let mut names: Vec<OsString> =
            fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        hasher.write_all(&(names.len() as u64).to_le_bytes())?;
        for name in names {
            text(hasher, name.as_bytes());
            entry(hasher, &path.join(name))?;
        }
    } else if kind.is_symlink() {
        text(hasher, fs::read_link(path)?.as_os_str().as_bytes());
    } else if kind.is_file() {
        hasher.write_all(&meta.len().to_le_bytes())?;
        io::copy(&mut File::open(path)?, hasher)?;
    } else {
        debug_assert!(kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device());
    }
    Ok(())
}

/// The extended attributes a layer can tell, and those that stand for owners and devices where these cannot be real.
const ATTRIBUTES: [&str; 3] = ["security.capability", "user.clawbuild.device", "user.clawbuild.owner"];

fn attributes(hasher: &mut Hasher<io::Sink>, path: &Path) -> io::Result<()> {
    let mut value = [0; 256];
    for name in ATTRIBUTES {
        match rustix::fs::lgetxattr(path, name, &mut value[..]) {
            Ok(length) => text(hasher, &value[..length]),
            // Symbolic links and special files can have none of `user.`.
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM) => text(hasher, b""),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Length first, so that neighbours cannot run into each other.
fn text(hasher: &mut Hasher<io::Sink>, bytes: &[u8]) {
    for part in [&(bytes.len() as u64).to_le_bytes()[..], bytes] {
        hasher.write_all(part).expect("writing to a sink cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn part(path: &str) -> Vec<Selection> {
        vec![Selection { path: path.to_owned(), follow: true }]
    }

    #[test]
    fn only_the_selected_part_counts_and_times_do_not() {
        let tree = tempfile::tempdir().expect("a temporary directory");
        let root = tree.path();
        fs::create_dir_all(root.join("app/sub")).expect("makes");
        fs::write(root.join("app/sub/file"), "one").expect("writes");
        fs::write(root.join("other"), "x").expect("writes");
        let before = digest(root, &part("/app")).expect("reads");

        fs::write(root.join("other"), "y").expect("writes");
        fs::write(root.join("app/sub/file"), "one").expect("writes again");
        assert_eq!(digest(root, &part("/app")).expect("reads"), before);

        fs::write(root.join("app/sub/file"), "two").expect("writes");
        let changed = digest(root, &part("/app")).expect("reads");
        assert_ne!(changed, before);
        fs::set_permissions(root.join("app/sub/file"), fs::Permissions::from_mode(0o755)).expect("changes the mode");
        assert_ne!(digest(root, &part("/app")).expect("reads"), changed);
    }

    #[test]
    fn links_stay_in_the_tree_and_absence_is_a_state() {
        let tree = tempfile::tempdir().expect("a temporary directory");
        let root = tree.path();
        fs::create_dir(root.join("etc")).expect("makes");
        symlink("/etc/passwd", root.join("link")).expect("links");
        let absent = digest(root, &part("/link")).expect("the host's file is not seen");
        fs::write(root.join("etc/passwd"), "root").expect("writes");
        let present = digest(root, &part("/link")).expect("reads");
        assert_ne!(absent, present);
        let itself = vec![Selection { path: "/link".to_owned(), follow: false }];
        assert_ne!(digest(root, &itself).expect("reads"), present);
    }

    #[test]
    fn patterns_select_what_lies_below_their_fixed_part() {
        for (pattern, prefix) in
            [("/a/b", "/a/b"), ("/a/*.txt", "/a"), ("/*", "/"), ("/a/b?/c", "/a"), ("/a/b/[cd]/e", "/a/b")]
        {
            assert_eq!(fixed_prefix(pattern), prefix);
        }
    }
}
