//! Whole trees: what a chain of snapshots shows, and how two such trees differ.

use std::collections::HashMap;
use std::io::Write;

use super::changes::{ChangeWriter, Source};
use super::{DiffError, Differ, Visible, failed, open};
use crate::layer::chain::{Chain, Level, OpenLevel, join};
use crate::layer::snapshot::Snapshot;
use crate::layer::tar::TarWriter;

/// Writes everything that `tree` (lowest first) shows, as one layer over nothing. Modification times after `epoch`
/// become `epoch`. Gives the number of entries written; the archive is not ended.
///
/// # Errors
/// [`DiffError`].
pub fn write_tree<W: Write>(tree: &[Snapshot], epoch: Option<i64>, tar: &mut TarWriter<W>) -> Result<u64, DiffError> {
    let Some(top) = tree.last() else { return Ok(0) };
    // Asked for the parents of what is written; here every directory is written before what is in it.
    let top = open(top)?;
    let chain = Chain::new(tree.iter().map(open).collect::<Result<_, _>>()?);
    let mut changes = ChangeWriter::new(&top, epoch, tar);
    walk(&chain, &mut changes)?;
    Ok(changes.written())
}

/// Writes the layer that turns `lower` (lowest first) into `upper`, a snapshot that is a whole tree: what it lacks is
/// removed. Gives the number of entries written; the archive is not ended.
///
/// # Errors
/// [`DiffError`].
pub fn write_difference<W: Write>(
    lower: &[Snapshot],
    upper: &Snapshot,
    tar: &mut TarWriter<W>,
) -> Result<u64, DiffError> {
    let lower = Chain::new(lower.iter().map(open).collect::<Result<_, _>>()?);
    let upper = open(upper)?;
    let mut differ = Differ { lower, changes: ChangeWriter::new(&upper, None, tar) };
    differ.walk(Visible::UpperOnly)?;
    Ok(differ.changes.written())
}

/// A directory being walked; see [`super::Directory`].
struct Directory {
    path: Vec<u8>,
    level: Level,
    names: std::vec::IntoIter<Box<[u8]>>,
    open: Option<OpenLevel>,
}

fn enter(chain: &Chain, path: Vec<u8>, level: Level) -> Result<Directory, DiffError> {
    let open = chain.enter(&level, &path).and_then(|open| Ok((Chain::names(&open)?, open)));
    let (names, open) = open.map_err(|source| failed(&path, source))?;
    Ok(Directory { path, level, names: names.into_iter(), open: Some(open) })
}

fn walk<W: Write>(chain: &Chain, changes: &mut ChangeWriter<'_, W>) -> Result<(), DiffError> {
    // Snapshots share files that are the same; names in different ones are no hard links of each other for that.
    let mut numbers: HashMap<(usize, u64), u64> = HashMap::new();
    let mut directories = vec![enter(chain, Vec::new(), chain.root())?];
    while let Some(Directory { path, level, names, open }) = directories.last_mut() {
        let Some(name) = names.next() else {
            directories.pop();
            continue;
        };
        let here = match &mut *open {
            Some(here) => here,
            closed => closed.insert(chain.enter(level, path).map_err(|source| failed(path, source))?),
        };
        let path = join(path, &name);
        let fail = |source| failed(&path, source);
        let Some(mut found) = chain.lookup(here, &name, &path).map_err(fail)? else { continue };
        if found.inode.is_linked() {
            let next = numbers.len() as u64;
            found.inode.number = *numbers.entry((found.tree, found.inode.number)).or_insert(next);
        }
        let directory = here.directory(&found).map_err(fail)?;
        changes.changed(&Source { directory, name: &name, path: &path, inode: &found.inode })?;
        if found.inode.is_directory() {
            *open = None;
            directories.push(enter(chain, path, found.level)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::layer::tar::{Entry, Kind, Limits, TarReader};

    fn snapshot(root: &Path, name: &str, fill: impl FnOnce(&Path)) -> Snapshot {
        let snapshot = Snapshot::at(root.join(name));
        fs::create_dir_all(snapshot.fs()).unwrap();
        fill(&snapshot.fs());
        snapshot
    }

    fn entries(write: impl FnOnce(&mut TarWriter<Vec<u8>>) -> Result<u64, DiffError>) -> Vec<Entry> {
        let mut tar = TarWriter::new(Vec::new());
        let written = write(&mut tar).unwrap();
        let bytes = tar.finish().unwrap();
        let mut reader = TarReader::new(bytes.as_slice(), Limits::default());
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            entries.push(entry);
        }
        assert_eq!(written, entries.len() as u64);
        entries
    }

    fn paths(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| std::str::from_utf8(&entry.path).unwrap()).collect()
    }

    #[test]
    fn a_tree_is_what_its_snapshots_show_together() {
        let directory = tempfile::tempdir().unwrap();
        let low = snapshot(directory.path(), "low", |fs| {
            fs::create_dir_all(fs.join("a/sub")).unwrap();
            fs::write(fs.join("a/one"), "low").unwrap();
            fs::write(fs.join("a/sub/deep"), "x").unwrap();
            fs::hard_link(fs.join("a/sub/deep"), fs.join("a/zlink")).unwrap();
        });
        let high = snapshot(directory.path(), "high", |fs| {
            fs::create_dir_all(fs.join("a")).unwrap();
            fs::write(fs.join("a/one"), "higher").unwrap();
            symlink("a/one", fs.join("link")).unwrap();
            // As a copy that shares the file.
            fs::hard_link(directory.path().join("low/fs/a/sub/deep"), fs.join("shared")).unwrap();
        });
        let found = entries(|tar| write_tree(&[low, high], Some(1), tar));
        assert_eq!(paths(&found), ["a", "a/one", "a/sub", "a/sub/deep", "a/zlink", "link", "shared"]);
        assert_eq!(found[1].kind, Kind::File { size: 6 });
        assert_eq!(found[4].kind, Kind::HardLink { target: b"a/sub/deep".to_vec() });
        assert_eq!(found[6].kind, Kind::File { size: 1 });
        assert!(found.iter().all(|entry| entry.mtime <= 1));
        assert_eq!(entries(|tar| write_tree(&[], None, tar)), []);
    }

    #[test]
    fn a_difference_removes_what_the_other_tree_lacks() {
        let directory = tempfile::tempdir().unwrap();
        let fill = |fs: &Path| {
            fs::create_dir_all(fs.join("kept/in")).unwrap();
            fs::create_dir(fs.join("gone")).unwrap();
            fs::write(fs.join("kept/in/same"), "same").unwrap();
            fs::write(fs.join("kept/file"), "before").unwrap();
            fs::write(fs.join("gone/file"), "x").unwrap();
        };
        let low = snapshot(directory.path(), "low", fill);
        let high = snapshot(directory.path(), "high", |fs| {
            fill(fs);
            fs::remove_dir_all(fs.join("gone")).unwrap();
            fs::write(fs.join("kept/file"), "afterwards").unwrap();
            // The same file is one whose time is the same, too.
            for name in ["low", "high"] {
                let file = directory.path().join(name).join("fs/kept/in/same");
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(5);
                fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
            }
        });
        let found = entries(|tar| write_difference(&[low], &high, tar));
        assert_eq!(paths(&found), [".wh.gone", "kept", "kept/file"]);
    }
}
