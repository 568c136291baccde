//! File operations on a tree: copy, make, remove, as BuildKit does them.
//!
//! Spec: BuildKit `solver/llbsolver/file/backend.go` and tonistiigi/fsutil `copy`. No path leads out of its tree. Where
//! BuildKit leaves the time of the build behind, the epoch of the build is left instead.

mod copy;
mod error;
mod file;
mod glob;
mod share;
mod target;
#[cfg(test)]
mod tests;
mod unpack;

pub use error::FileOpError;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use llb::{Account, FileActionKind, InputIndex, MkdirAction, MkfileAction, RmAction, SymlinkAction, Timestamp};
use oci::layer::Snapshot;
use oci::layer::ownership::{Owner, Ownership};
use rustix::fs::{FileType, Mode, OFlags, Timespec};

use self::error::shown;
use self::target::{NewDirectory, Target};
use crate::embedded::mount::{Root, Tree, is};
use crate::embedded::sandbox::Accounts;

/// A tree that is copied from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The tree.
    pub root: Root<'a>,
    /// The snapshots it is made of, lowest first, where owners may be recorded beside the files.
    pub layers: &'a [PathBuf],
}

/// Applies the actions of one file operation to a tree.
pub struct TreeEditor<'a>(Target<'a>);

impl<'a> TreeEditor<'a> {
    /// Changes the tree seen at `root`, whose changes come to lie in `snapshot`. What is made and given no time gets
    /// `epoch`.
    ///
    /// # Errors
    /// [`FileOpError::Io`].
    pub fn open(
        root: Root<'a>,
        snapshot: &'a Snapshot,
        ownership: Ownership,
        epoch: Timestamp,
    ) -> Result<Self, FileOpError> {
        Ok(Self(Target::open(root, snapshot, ownership, timespec(epoch))?))
    }

    /// Lets copies of unchanged files be the snapshots' own files, under another name. `tree` is the one being changed.
    #[must_use]
    pub fn sharing(mut self, tree: &Tree) -> Self {
        self.0.sharing = share::Sharing::of(tree);
        self
    }

    /// Applies one action. Owners by name are looked up in the tree `accounts` gives for their input; copies take from
    /// `source`.
    ///
    /// # Errors
    /// [`FileOpError`]. The tree is then of no use any more.
    pub fn apply<'s>(
        &mut self,
        action: &FileActionKind,
        source: Option<Source<'s>>,
        accounts: impl Fn(InputIndex) -> Option<Root<'s>>,
    ) -> Result<(), FileOpError> {
        match action {
            FileActionKind::Mkdir(mkdir) => self.mkdir(mkdir, owner(mkdir.owner.as_ref(), accounts)?),
            FileActionKind::Mkfile(mkfile) => self.mkfile(mkfile, owner(mkfile.owner.as_ref(), accounts)?),
            FileActionKind::Symlink(symlink) => self.symlink(symlink, owner(symlink.owner.as_ref(), accounts)?),
            FileActionKind::Rm(rm) => self.rm(rm),
            FileActionKind::Copy(copy) => {
                let owner = owner(copy.owner.as_ref(), accounts)?;
                match source {
                    Some(source) => copy::copy(&mut self.0, copy, owner, source),
                    // Scratch: there is nothing to be found in it.
                    None => Err(FileOpError::NotFound(copy.src.clone())),
                }
            }
        }?;
        self.0.settle()
    }

    /// Writes down what files cannot carry. The tree's snapshot is whole after it.
    ///
    /// # Errors
    /// [`FileOpError::Io`].
    pub fn finish(self) -> Result<(), FileOpError> {
        self.0.finish()
    }

    fn mkdir(&mut self, action: &MkdirAction, owner: Option<Owner>) -> Result<(), FileOpError> {
        let path = self.0.resolve(&action.path)?;
        let new = NewDirectory { mode: action.mode, owner, time: action.timestamp.map(timespec) };
        if action.make_parents {
            // Making the inner ones has moved the times of the outer ones, and BuildKit leaves it at that.
            self.0.make_directories(&path, new)?;
            return Ok(());
        }
        // BuildKit takes anything that is there for the directory.
        if self.0.stat(&path)?.is_some() { Ok(()) } else { self.0.make_directory(&path, new) }
    }

    fn mkfile(&mut self, action: &MkfileAction, owner: Option<Owner>) -> Result<(), FileOpError> {
        let path = self.0.resolve(&lexical(&action.path))?;
        match self.0.stat(&path)? {
            Some(stat) if is(&stat, FileType::Directory) => return Err(FileOpError::IsDirectory(shown(&path))),
            // The new one takes its place, with a mode and an owner of its own; other names of the old one keep it.
            Some(_) => self.0.remove(&path)?,
            None => {}
        }
        let mode = Mode::from_raw_mode(action.mode & 0o777);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CREATE | OFlags::EXCL;
        let file = self.0.root.open(&path, flags, mode).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => FileOpError::NotFound(shown(path.parent().unwrap_or(Path::new("")))),
            _ => FileOpError::io("create", &path)(error),
        })?;
        rustix::fs::fchmod(&file, mode).map_err(FileOpError::io("set the mode of", &path))?;
        self.0.touch(path.parent().unwrap_or(Path::new("")));
        std::fs::File::from(file).write_all(&action.data).map_err(FileOpError::io("write", &path))?;
        self.complete(&path, owner, action.timestamp)
    }

    fn symlink(&mut self, action: &SymlinkAction, owner: Option<Owner>) -> Result<(), FileOpError> {
        let path = self.0.resolve(&lexical(&action.path))?;
        let (parent, name) = self.0.parent(&path)?;
        rustix::fs::symlinkat(&action.target, &parent, name).map_err(FileOpError::io("create", &path))?;
        self.0.touch(path.parent().unwrap_or(Path::new("")));
        self.complete(&path, owner, action.timestamp)
    }

    fn complete(&mut self, path: &Path, owner: Option<Owner>, time: Option<Timestamp>) -> Result<(), FileOpError> {
        if let Some(owner) = owner {
            let (parent, name) = self.0.parent(path)?;
            self.0.set_owner(std::os::fd::AsFd::as_fd(&parent), name, path, owner)?;
        }
        self.0.set_time(path, time.map_or(self.0.epoch, timespec))
    }

    fn rm(&mut self, action: &RmAction) -> Result<(), FileOpError> {
        let path = lexical(&action.path);
        if path.is_empty() {
            return Err(FileOpError::RemovesRoot);
        }
        let paths =
            if action.allow_wildcard { glob::expand(self.0.root, &path, false)? } else { vec![PathBuf::from(&path)] };
        for path in paths {
            let resolved = self.0.root.resolve_parent(&path).map_err(FileOpError::io("look for", &path))?;
            match self.0.stat(&resolved)? {
                None if !action.allow_not_found => return Err(FileOpError::NotFound(shown(&path))),
                None => {}
                Some(_) => self.0.remove(&resolved)?,
            }
        }
        Ok(())
    }
}

/// A path without `.`, `..` and doubled slashes, relative to the root. Links are not looked at.
fn lexical(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => _ = names.pop(),
            name => names.push(name),
        }
    }
    names.join("/")
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec { tv_sec: time.0.div_euclid(1_000_000_000), tv_nsec: time.0.rem_euclid(1_000_000_000) }
}

/// Who an action's owner is. As in BuildKit, a group that is not given is the user's own where the user is given by name,
/// and has the user's number otherwise; unlike there, a name that is not found is an error and not root.
fn owner<'s>(
    owner: Option<&llb::Owner>,
    accounts: impl Fn(InputIndex) -> Option<Root<'s>>,
) -> Result<Option<Owner>, FileOpError> {
    let Some(owner) = owner else { return Ok(None) };
    let read = |input: &Option<InputIndex>| match input.and_then(&accounts) {
        Some(root) => Accounts::read(root).map_err(FileOpError::io("read", Path::new("etc/passwd"))),
        None => Ok(Accounts::default()),
    };
    let mut found = match &owner.user {
        None => Owner::ROOT,
        Some(Account::Id(id)) => Owner { uid: *id, gid: *id },
        Some(Account::Name { name, input }) => {
            let accounts = read(input)?;
            let entry = accounts.users.iter().find(|entry| entry.name == *name);
            let entry = entry.ok_or_else(|| FileOpError::UnknownUser(name.clone()))?;
            Owner { uid: entry.uid, gid: entry.gid }
        }
    };
    match &owner.group {
        None => {}
        Some(Account::Id(id)) => found.gid = *id,
        Some(Account::Name { name, input }) => {
            let accounts = read(input)?;
            let entry = accounts.groups.iter().find(|entry| entry.name == *name);
            found.gid = entry.ok_or_else(|| FileOpError::UnknownGroup(name.clone()))?.gid;
        }
    }
    Ok(Some(found))
}
