//! Copying files from one tree to another. Spec: tonistiigi/fsutil `copy/copy.go`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use llb::CopyAction;
use oci::layer::ownership::{Owner, Place};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::error::{FileOpError, shown};
use super::file::{self, SourceOwners, proc_path};
use super::share::{self, Origin};
use super::target::{NewDirectory, Target, set_times};
use super::{Source, glob, lexical, timespec, unpack};
use crate::context::patterns::{Inherited, Patterns};
use crate::embedded::mount::is;

/// Mode of directories made above a destination.
const PARENT_MODE: u32 = 0o755;

pub(super) fn copy(
    target: &mut Target<'_>,
    action: &CopyAction,
    owner: Option<Owner>,
    source: Source<'_>,
) -> Result<(), FileOpError> {
    if !action.create_dest_path {
        let dest = target.resolve(&lexical(&action.dest))?;
        let above = dest.parent().unwrap_or(Path::new(""));
        if target.stat(above)?.is_none() {
            return Err(FileOpError::NotFound(shown(above)));
        }
    }
    let src = lexical(&action.src);
    let paths = if action.allow_wildcard {
        glob::expand(source.root, &src, action.follow_symlink)?
    } else {
        vec![PathBuf::from(&src)]
    };
    if paths.is_empty() && !action.allow_empty_wildcard {
        return Err(FileOpError::NoMatch(action.src.clone()));
    }
    let time = action.timestamp.map(timespec);
    for path in paths {
        let dest = target.resolve(&lexical(&action.dest))?;
        let parents = NewDirectory { mode: PARENT_MODE, owner, time };
        if action.attempt_unpack && unpack::unpack(target, source, &path, &dest, owner, parents)? {
            continue;
        }
        let parents = NewDirectory { mode: action.mode.unwrap_or(PARENT_MODE), ..parents };
        let owners = SourceOwners::read(source, target.ownership())
            .map_err(FileOpError::io("read the owners of", Path::new("")))?;
        let copier = Copier {
            source,
            owners,
            owner,
            mode: action.mode,
            time,
            include: patterns(&action.include)?,
            exclude: patterns(&action.exclude)?,
            replace: action.always_replace,
            links: HashMap::new(),
            made: Vec::new(),
            shared: HashMap::new(),
            origins: Vec::new(),
            levels: Vec::new(),
            target,
        };
        copier.run(action, &path, &dest, parents)?;
    }
    Ok(())
}

fn patterns(lines: &[String]) -> Result<Option<Patterns>, FileOpError> {
    let patterns = Patterns::parse(lines.iter().map(String::as_str))?;
    Ok(if patterns.is_empty() { None } else { Some(patterns) })
}

/// One copy under way.
struct Copier<'c, 't, 's> {
    target: &'c mut Target<'t>,
    source: Source<'s>,
    owners: SourceOwners<'s>,
    owner: Option<Owner>,
    mode: Option<u32>,
    time: Option<Timespec>,
    include: Option<Patterns>,
    exclude: Option<Patterns>,
    replace: bool,
    /// The first copy of each file with several names, by the file's snapshot and number.
    links: HashMap<(usize, u64), PathBuf>,
    /// Directories made for this copy to go into.
    made: Vec<PathBuf>,
    /// The snapshots of files that were shared instead of copied, by their numbers.
    shared: HashMap<u64, usize>,
    /// The directories of snapshots that the directory of what is copied consists of.
    origins: Vec<Origin>,
    /// The directories being copied, outermost first.
    levels: Vec<Level>,
}

/// A directory being copied.
struct Level {
    source: Rc<OwnedFd>,
    stat: Stat,
    /// How the source is reached from the directory above it.
    above: Rc<OwnedFd>,
    name: OsString,
    source_path: PathBuf,
    path: PathBuf,
    /// Where it is copied to. With patterns, not before something in it is copied.
    target: Option<Rc<OwnedFd>>,
    /// Whether that is past the overlay, where files can be shared.
    direct: bool,
    /// The directories of snapshots it consists of.
    origins: Vec<Origin>,
}

/// A file of the source and the place it is copied to.
struct Item<'i> {
    directory: Rc<OwnedFd>,
    name: &'i OsStr,
    source_path: PathBuf,
    path: PathBuf,
    /// Relative to what is copied as a whole, for patterns; empty for that itself.
    below: String,
}

/// What patterns that matched a directory mean for what is below it.
#[derive(Clone, Default)]
struct Matched {
    include: Inherited,
    exclude: Inherited,
}

impl Copier<'_, '_, '_> {
    fn run(mut self, action: &CopyAction, src: &Path, dest: &Path, parents: NewDirectory) -> Result<(), FileOpError> {
        let root = self.source.root;
        let source_path = if action.follow_symlink { root.resolve(src) } else { root.resolve_parent(src) };
        let source_path = source_path.map_err(FileOpError::io("look for", src))?;
        let stat = root.stat(&source_path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => FileOpError::NotFound(shown(src)),
            _ => FileOpError::io("look at", src)(error),
        })?;
        let directory = is(&stat, FileType::Directory);

        // A slash at the end of the destination asks for a directory of that name.
        let asked = match action.dest.ends_with('/') || action.dest.ends_with("/.") {
            true => Some(dest),
            false => dest.parent(),
        };
        self.made = self.target.make_directories(asked.unwrap_or(Path::new("")), parents)?;
        let there = self.target.stat(dest)?;
        let into_directory = there.is_some_and(|there| is(&there, FileType::Directory));
        let path = match (directory, action.dir_copy_contents) {
            (true, false) if there.is_some() => inside(dest, action, src),
            (false, _) if into_directory => inside(dest, action, src),
            _ => dest.to_owned(),
        };
        let parent = match directory && action.dir_copy_contents && there.is_none() {
            true => Some(path.as_path()),
            false => path.parent(),
        };
        self.made.extend(self.target.make_directories(parent.unwrap_or(Path::new("")), parents)?);

        let above = source_path.parent().unwrap_or(Path::new(""));
        let above = root.open(above, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        let above = Rc::new(above.map_err(FileOpError::io("open", src))?);
        let name = source_path.file_name().unwrap_or(OsStr::new(".")).to_owned();
        let names = source_path.parent().into_iter().flatten();
        self.origins = names.fold(share::origins(self.source.layers), |origins, name| share::descend(&origins, name));
        let item = Item { directory: above, name: &name, source_path, path: path.clone(), below: String::new() };
        self.item(item, false, &Matched::default())?;
        if let Some(sharing) = &mut self.target.sharing {
            sharing.note(std::mem::take(&mut self.shared).into_keys());
        }
        // One that was made to be copied over has got the times of the source's.
        for path in self.made.iter().rev().filter(|made| **made != path) {
            self.target.untouch(path);
            self.target.set_time(path, parents.time.unwrap_or(self.target.epoch))?;
        }
        Ok(())
    }

    /// Copies one file, or a directory with all that is in it. With `overwrite`, the attributes of a directory that is
    /// there already become those of the source's.
    fn item(&mut self, item: Item<'_>, overwrite: bool, above: &Matched) -> Result<(), FileOpError> {
        let mut matched = Matched::default();
        let mut included = true;
        if !item.below.is_empty() {
            if let Some(patterns) = &self.include {
                (included, matched.include) = patterns.matches(&item.below, &above.include);
            }
            if let Some(patterns) = &self.exclude {
                let (excluded, inherited) = patterns.matches(&item.below, &above.exclude);
                matched.exclude = inherited;
                if excluded && !patterns.can_unmatch_below(&item.below) {
                    return Ok(());
                }
                included &= !excluded;
            }
            if !included && self.include.as_ref().is_some_and(|include| !include.can_match_below(&item.below)) {
                return Ok(());
            }
        }
        let stat = rustix::fs::statat(&*item.directory, item.name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(FileOpError::io("look at", &item.source_path))?;
        if is(&stat, FileType::Directory) {
            self.directory(item, stat, overwrite, included, &matched)
        } else if included {
            self.file(&item, &stat, overwrite)
        } else {
            Ok(())
        }
    }

    fn directory(
        &mut self,
        item: Item<'_>,
        stat: Stat,
        overwrite: bool,
        included: bool,
        matched: &Matched,
    ) -> Result<(), FileOpError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&*item.directory, item.name, flags, Mode::empty());
        let opened = opened.map_err(FileOpError::io("open", &item.source_path))?;
        let Item { directory, name, source_path, path, below } = item;
        let origins = share::descend(self.origins(), name);
        self.levels.push(Level {
            source: Rc::new(opened),
            stat,
            above: directory,
            name: name.to_owned(),
            source_path,
            path,
            target: None,
            direct: false,
            origins,
        });
        let mut created = false;
        if included {
            self.make_levels(overwrite, self.levels.len() - 1)?;
            created = self.make_level(overwrite, self.levels.len() - 1)?;
        }
        self.children(&below, matched)?;
        let Some(level) = self.levels.pop() else { return Ok(()) };
        if included && (overwrite || created) {
            self.set_attributes(&level.above, &level.name, &level.source_path, &level.path, &stat)?;
            self.target.untouch(&level.path);
        } else if included {
            // BuildKit gives the directory that was there the times of the one copied over it.
            let times = self.times(&stat);
            let (parent, name) = self.target.parent(&level.path)?;
            set_times(parent.as_fd(), name, &level.path, &times)?;
            self.target.untouch(&level.path);
        }
        Ok(())
    }

    /// Where the directory being copied comes from.
    fn origins(&self) -> &[Origin] {
        self.levels.last().map_or(&self.origins, |level| &level.origins)
    }

    fn children(&mut self, below: &str, matched: &Matched) -> Result<(), FileOpError> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let (directory, source_path, path) = (Rc::clone(&level.source), level.source_path.clone(), level.path.clone());
        let list = || -> std::io::Result<Vec<OsString>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(&*directory)? {
                let entry = entry?;
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    names.push(OsString::from_vec(entry.file_name().to_bytes().to_owned()));
                }
            }
            names.sort();
            Ok(names)
        };
        for name in list().map_err(FileOpError::io("list", &source_path))? {
            let filtered = self.include.is_some() || self.exclude.is_some();
            let shown = if filtered { name.to_string_lossy() } else { std::borrow::Cow::Borrowed("x") };
            let item = Item {
                directory: Rc::clone(&directory),
                source_path: source_path.join(&name),
                path: path.join(&name),
                below: if below.is_empty() { shown.into_owned() } else { format!("{below}/{shown}") },
                name: &name,
            };
            self.item(item, true, matched)?;
        }
        Ok(())
    }

    /// Makes those of the first levels that were put off until something in them would be copied.
    fn make_levels(&mut self, overwrite: bool, count: usize) -> Result<(), FileOpError> {
        for number in 0..count {
            if self.levels.get(number).is_some_and(|level| level.target.is_some()) {
                continue;
            }
            if self.make_level(overwrite, number)? {
                let Some(level) = self.levels.get(number) else { continue };
                let (above, name, source_path, path, stat) = (
                    Rc::clone(&level.above),
                    level.name.clone(),
                    level.source_path.clone(),
                    level.path.clone(),
                    level.stat,
                );
                self.set_attributes(&above, &name, &source_path, &path, &stat)?;
                // What is copied into it moves its time on.
                self.target.touch(&path);
            }
        }
        Ok(())
    }

    /// Makes the directory of one level where it is not there. Says whether it was made.
    fn make_level(&mut self, overwrite: bool, number: usize) -> Result<bool, FileOpError> {
        let Some(level) = self.levels.get(number) else { return Ok(false) };
        let (path, stat) = (level.path.clone(), level.stat);
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        let above = number.checked_sub(1).and_then(|above| self.levels.get(above));
        let inside_direct = above.is_some_and(|above| above.direct);
        // What is made past the overlay must not be looked for through it before: it would remember that nothing is there.
        if !inside_direct
            && self.replace
            && self.target.stat(&path)?.is_some_and(|there| !is(&there, FileType::Directory))
        {
            self.target.remove(&path)?;
        }
        let (parent, name) = match number.checked_sub(1).and_then(|above| self.levels.get(above)?.target.clone()) {
            Some(parent) => (parent, path.file_name().unwrap_or(OsStr::new("."))),
            None => {
                let (parent, name) = self.target.parent(&path)?;
                (Rc::new(parent), name)
            }
        };
        let created = match rustix::fs::mkdirat(&*parent, name, mode) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(FileOpError::io("create", &path)(error)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&*parent, name, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOTDIR | Errno::LOOP => FileOpError::NotDirectory(shown(&path)),
            error => FileOpError::io("open", &path)(error),
        })?;
        if created {
            self.target.touch(path.parent().unwrap_or(Path::new("")));
        } else if overwrite {
            rustix::fs::fchmod(&opened, mode).map_err(FileOpError::io("set the mode of", &path))?;
        }
        let (opened, direct) = match &self.target.sharing {
            Some(_) if inside_direct => (opened, true),
            Some(sharing) if created || self.made.contains(&path) => {
                (sharing.directory(&path).map_err(FileOpError::io("open", &path))?, true)
            }
            Some(_) | None => (opened, false),
        };
        if let Some(level) = self.levels.get_mut(number) {
            (level.target, level.direct) = (Some(Rc::new(opened)), direct);
        }
        Ok(created)
    }

    /// Copies anything but a directory.
    fn file(&mut self, item: &Item<'_>, stat: &Stat, overwrite: bool) -> Result<(), FileOpError> {
        self.make_levels(overwrite, self.levels.len())?;
        let path = item.path.as_path();
        let (parent, name) = match self.levels.last().and_then(|level| level.target.clone()) {
            Some(parent) => (parent, item.path.file_name().unwrap_or(OsStr::new("."))),
            None => {
                let (parent, name) = self.target.parent(path)?;
                (Rc::new(parent), name)
            }
        };
        if self.share(item, stat, &parent, name)? {
            return Ok(());
        }
        match self.make(item, stat, &parent, name) {
            // Something is there: it makes way, unless it is a directory.
            Err(Errno::EXIST) => {
                let directory = self.target.stat(path)?.is_some_and(|there| is(&there, FileType::Directory));
                if directory && !self.replace {
                    return Err(FileOpError::IsDirectory(shown(path)));
                }
                self.target.remove(path)?;
                self.make(item, stat, &parent, name)
            }
            result => result,
        }
        .map_err(FileOpError::io("copy", &item.source_path))?;
        self.target.touch(path.parent().unwrap_or(Path::new("")));
        self.set_attributes(&item.directory, item.name, &item.source_path, path, stat)
    }

    /// Makes the copy another name of the source's file, if nothing is to tell them apart.
    fn share(&mut self, item: &Item<'_>, stat: &Stat, parent: &OwnedFd, name: &OsStr) -> Result<bool, FileOpError> {
        let (Some(level), Some(sharing)) = (self.levels.last().filter(|level| level.direct), &self.target.sharing)
        else {
            return Ok(false);
        };
        let mode = self.mode.is_none_or(|mode| mode & 0o7777 == stat.st_mode & 0o7777);
        let time = self.time.is_none_or(|time| time == file::times(stat).last_modification);
        if !mode || !time || !is(stat, FileType::RegularFile) {
            return Ok(false);
        }
        if let Some(owner) = self.owner {
            let reachable = proc_path(item.directory.as_fd(), item.name);
            let own = self.owners.of(&item.source_path, &reachable, stat);
            if own.map_err(FileOpError::io("read the owner of", &item.source_path))? != owner {
                return Ok(false);
            }
        }
        let Some(found) = share::locate(&level.origins, item.name) else { return Ok(false) };
        let key = (found.layer(), stat.st_ino);
        if let Some(first) = self.links.get(&key) {
            let shared = self.shared.contains_key(&stat.st_ino);
            return if shared {
                self.link(first, parent, name).map(|()| true).map_err(FileOpError::io("link", &item.path))
            } else {
                Ok(false)
            };
        }
        let elsewhere = self.shared.get(&stat.st_ino).is_some_and(|layer| *layer != found.layer());
        let Some(layer) = self.source.layers.get(found.layer()) else { return Ok(false) };
        if elsewhere || !sharing.link(layer, &found, stat, name, parent.as_fd()) {
            return Ok(false);
        }
        self.shared.insert(stat.st_ino, found.layer());
        if stat.st_nlink > 1 {
            self.links.insert(key, item.path.clone());
        }
        Ok(true)
    }

    /// Makes the copy, with its content but without its attributes. Fails with `EXIST` if something is there.
    fn make(&mut self, item: &Item<'_>, stat: &Stat, parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let create = || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let linked = (stat.st_nlink > 1).then(|| {
                    let layer = share::locate(self.origins(), item.name).map_or(usize::MAX, |found| found.layer());
                    (layer, stat.st_ino)
                });
                if let Some(first) = linked.and_then(|linked| self.links.get(&linked)) {
                    return self.link(first, parent, name);
                }
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let from = rustix::fs::openat(&*item.directory, item.name, flags, Mode::empty())?;
                let to = create()?;
                file::copy_content(&from, &to, stat.st_size.cast_unsigned()).map_err(failed)?;
                if let Some(linked) = linked {
                    self.links.insert(linked, item.path.clone());
                }
                Ok(())
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(&*item.directory, item.name, Vec::new())?;
                rustix::fs::symlinkat(link, parent, name)
            }
            FileType::Fifo => rustix::fs::mkfifoat(parent, name, Mode::from_raw_mode(0o600)),
            // A socket without its program is nothing; BuildKit leaves an empty file in its place.
            FileType::Socket | FileType::Unknown => create().map(drop),
            FileType::CharacterDevice | FileType::BlockDevice => {
                let Some((kind, device)) = file::device(stat) else { return Err(Errno::INVAL) };
                let place = self.place(parent, name, &item.path);
                self.target.owners.make_device(place, kind, device, 0o600).map_err(failed)
            }
            FileType::Directory => Err(Errno::ISDIR),
        }
    }

    /// Makes another name of an earlier copy.
    fn link(&self, first: &Path, parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        let direct = self.levels.last().is_some_and(|level| level.direct);
        match (&self.target.sharing, first.file_name()) {
            // Past the overlay, both names have to be.
            (Some(sharing), Some(original)) if direct => {
                let directory = sharing.directory(first.parent().unwrap_or(Path::new("")))?;
                rustix::fs::linkat(directory, original, parent, name, AtFlags::empty())
            }
            _ => rustix::fs::linkat(self.target.root.directory(), first, parent, name, AtFlags::empty()),
        }
    }

    fn place<'p>(&self, parent: &'p OwnedFd, name: &'p OsStr, path: &'p Path) -> Place<'p> {
        Place { directory: parent.as_fd(), name: name.as_bytes(), path: path.as_os_str().as_bytes() }
    }

    /// Gives a copy its owner, mode, times and extended attributes, in the order in which none undoes another.
    fn set_attributes(
        &mut self,
        directory: &OwnedFd,
        source_name: &OsStr,
        source_path: &Path,
        path: &Path,
        stat: &Stat,
    ) -> Result<(), FileOpError> {
        let reachable = proc_path(directory.as_fd(), source_name);
        let (parent, name) = match self.levels.last() {
            Some(Level { target: Some(target), path: above, .. }) if path.parent() == Some(above) => {
                (Rc::clone(target), path.file_name().unwrap_or(OsStr::new(".")))
            }
            Some(_) | None => {
                let (parent, name) = self.target.parent(path)?;
                (Rc::new(parent), name)
            }
        };
        let owner = match self.owner {
            Some(owner) => owner,
            None => self
                .owners
                .of(source_path, &reachable, stat)
                .map_err(FileOpError::io("read the owner of", source_path))?,
        };
        self.target.set_owner(parent.as_fd(), name, path, owner)?;
        let symlink = is(stat, FileType::Symlink);
        if !symlink {
            let mode = Mode::from_raw_mode(self.mode.unwrap_or(stat.st_mode) & 0o7777);
            rustix::fs::chmodat(&*parent, name, mode, AtFlags::empty())
                .map_err(FileOpError::io("set the mode of", path))?;
        }
        set_times(parent.as_fd(), name, path, &self.times(stat))?;
        if !symlink {
            let place = self.place(&parent, name, path);
            file::copy_attributes(&reachable, &mut self.target.owners, place)
                .map_err(FileOpError::io("copy the attributes of", source_path))?;
        }
        Ok(())
    }

    fn times(&self, stat: &Stat) -> Timestamps {
        match self.time {
            Some(time) => Timestamps { last_access: time, last_modification: time },
            None => file::times(stat),
        }
    }
}

/// Where in a directory a copy goes: under its own name, but for the root and `directory/.`, which become the directory.
fn inside(dest: &Path, action: &CopyAction, src: &Path) -> PathBuf {
    let contents = !action.allow_wildcard && action.src.ends_with("/.");
    match src.file_name() {
        Some(name) if !contents => dest.join(name),
        Some(_) | None => dest.to_owned(),
    }
}
