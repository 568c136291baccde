//! A layer from an overlay's upper directory.
//!
//! Which entries, and in which order, is BuildKit's way exactly (its overlay differ over containerd's change writer), so
//! that both give the same diff ID for the same change:
//!
//! 1. The upper directory is walked depth first, names sorted bytewise, a directory before what is in it.
//! 2. A whiteout becomes an entry only if there is something below it to hide.
//! 3. What is the same below is left out: equal in mode, owner and capability, and, but for directories, in length,
//!    time and, where whole seconds say too little, content. Directories that lead to changes are put in front of
//!    them, each once.
//! 4. An opaque directory is compared name by name with what it hides: what is gone gets one whiteout at its top, and
//!    an opaque mark is never written.
//! 5. Sockets are left out. Of several names of one inode the first is the file, the others are hard links to it.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, OwnedFd};

use diag::{Diagnostic, Reported, codes};

use super::chain::{self, Chain, Found, Level, OpenLevel, Tree, join};
use super::compress::{Compression, LayerBlob, LayerWriter};
use super::inode::{InodeKind, OverlayFeature};
use super::snapshot::Snapshot;
use super::tar::{TarError, TarWriter};

mod changes;
mod compare;
mod whole;

pub use whole::{write_difference, write_tree};

use changes::{ChangeWriter, Source};

#[cfg(test)]
mod tests;

/// A failure to compute a layer.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The tree cannot be read.
    #[error("cannot read `{path}` in a snapshot")]
    Read {
        /// The path in the snapshot.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A snapshot cannot be opened.
    #[error("cannot open the snapshot `{path}`")]
    Open {
        /// The snapshot's directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The tree uses an overlay feature that layers cannot express.
    #[error("`{path}` was changed by overlayfs' {}", match .feature {
        OverlayFeature::Redirect => "redirect_dir",
        OverlayFeature::Metacopy => "metacopy",
    })]
    Feature {
        /// The path in the snapshot.
        path: String,
        /// Which feature.
        feature: OverlayFeature,
    },
    /// The archive cannot be written.
    #[error(transparent)]
    Tar(#[from] TarError),
}

impl Reported for DiffError {
    fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Read { source, .. } | Self::Open { source, .. } => super::io_diagnostic(self, source),
            Self::Feature { .. } => Diagnostic::new(codes::oci::LAYER_OVERLAY, self.to_string())
                .help("unmount what was mounted over this store from outside, and build again with `--no-cache`"),
            Self::Tar(error) => error.diagnostic(),
        }
    }
}

/// Writes the layer that turns `lower` (lowest first) into what it is with `upper` over it. Modification times after
/// `epoch` (seconds since 1970) become `epoch`. Gives the number of entries written; the archive is not ended.
///
/// # Errors
/// [`DiffError`].
pub fn write_layer<W: Write>(
    lower: &[Snapshot],
    upper: &Snapshot,
    epoch: Option<i64>,
    tar: &mut TarWriter<W>,
) -> Result<u64, DiffError> {
    let lower = Chain::new(lower.iter().map(open).collect::<Result<_, _>>()?);
    let upper = open(upper)?;
    let mut differ = Differ { lower, changes: ChangeWriter::new(&upper, epoch, tar) };
    differ.walk(Visible::Merged)?;
    Ok(differ.changes.written())
}

/// Opens a snapshot, one by one only to name the one that fails.
fn open(snapshot: &Snapshot) -> Result<Tree, DiffError> {
    let path = snapshot.directory().display().to_string();
    Tree::open(snapshot).map_err(|source| DiffError::Open { path, source })
}

/// As [`write_layer`], from the walk to the finished blob in `sink`.
///
/// # Errors
/// [`DiffError`].
pub fn export<W: Write>(
    lower: &[Snapshot],
    upper: &Snapshot,
    epoch: Option<i64>,
    compression: Compression,
    threads: NonZeroUsize,
    sink: W,
) -> Result<(LayerBlob, W), DiffError> {
    let mut tar = TarWriter::new(LayerWriter::new(sink, compression, threads));
    write_layer(lower, upper, epoch, &mut tar)?;
    Ok(tar.finish()?.finish().map_err(TarError::Write)?)
}

/// How an upper directory stands to the lower one at its path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Visible {
    /// What the upper one does not have shows through.
    Merged,
    /// Nothing of the lower one shows through.
    UpperOnly,
}

struct Differ<'a, W> {
    lower: Chain,
    changes: ChangeWriter<'a, W>,
}

/// A directory being walked. Its descriptors are closed while its subdirectories are walked, so that neither depth nor
/// the number of snapshots uses them up.
struct Directory {
    path: Vec<u8>,
    /// What the lower snapshots have here.
    level: Level,
    visible: Visible,
    /// Names still to come.
    names: std::vec::IntoIter<Box<[u8]>>,
    open: Option<(OwnedFd, OpenLevel)>,
}

fn open_both(upper: &Tree, lower: &Chain, level: &Level, path: &[u8]) -> Result<(OwnedFd, OpenLevel), DiffError> {
    let both = upper.directory(path).and_then(|upper| Ok((upper, lower.enter(level, path)?)));
    both.map_err(|source| failed(path, source))
}

fn failed(path: &[u8], source: io::Error) -> DiffError {
    DiffError::Read { path: String::from_utf8_lossy(path).into_owned(), source }
}

impl<W: Write> Differ<'_, W> {
    fn walk(&mut self, root: Visible) -> Result<(), DiffError> {
        // On the heap, not the stack: how deep a tree is, is up to whoever made it.
        let mut directories = vec![self.enter(Vec::new(), self.lower.root(), root)?];
        while let Some(directory) = directories.last_mut() {
            let Some(name) = directory.names.next() else {
                directories.pop();
                continue;
            };
            if let Some(inside) = self.visit(directory, &name)? {
                directory.open = None;
                directories.push(inside);
            }
        }
        Ok(())
    }

    fn enter(&self, path: Vec<u8>, level: Level, visible: Visible) -> Result<Directory, DiffError> {
        let (upper, lower) = open_both(self.changes.upper(), &self.lower, &level, &path)?;
        let mut names = chain::names(upper.as_fd()).map_err(|source| failed(&path, source))?;
        if visible == Visible::UpperOnly {
            names.extend(Chain::names(&lower).map_err(|source| failed(&path, source))?);
            names.sort_unstable();
            names.dedup();
        }
        Ok(Directory { path, level, visible, names: names.into_iter(), open: Some((upper, lower)) })
    }

    /// Looks at one name; gives what to walk next where it is a directory.
    fn visit(&mut self, directory: &mut Directory, name: &[u8]) -> Result<Option<Directory>, DiffError> {
        let upper = self.changes.upper();
        let visible = directory.visible;
        let (fd, open_level) = match &mut directory.open {
            Some(open) => open,
            closed => closed.insert(open_both(upper, &self.lower, &directory.level, &directory.path)?),
        };
        let path = join(&directory.path, name);
        let fail = |source| failed(&path, source);
        let inode = upper.inode(fd.as_fd(), name, &path).map_err(fail)?;
        let below = self.lower.lookup(open_level, name, &path).map_err(fail)?;
        let inode = match inode {
            Some(inode) if inode.kind != InodeKind::Whiteout => inode,
            // Removed by a whiteout, or by not being in a directory that hides all below.
            _ => {
                if below.is_some() {
                    self.changes.removed(&path)?;
                }
                return Ok(None);
            }
        };
        if let Some(feature) = inode.feature {
            return Err(DiffError::Feature { path: String::from_utf8_lossy(&path).into_owned(), feature });
        }
        let source = Source { directory: fd.as_fd(), name, path: &path, inode: &inode };
        let same = match &below {
            Some(below) => self.same(open_level, below, &source).map_err(fail)?,
            None => false,
        };
        if !same {
            self.changes.changed(&source)?;
        } else if visible == Visible::UpperOnly && inode.is_linked() {
            self.changes.unchanged_link(&source)?;
        }
        if !inode.is_directory() {
            return Ok(None);
        }
        let inside = if inode.opaque && below.is_some() { Visible::UpperOnly } else { visible };
        self.enter(path, below.map(|below| below.level).unwrap_or_default(), inside).map(Some)
    }

    fn same(&self, level: &OpenLevel, below: &Found, above: &Source<'_>) -> io::Result<bool> {
        let Source { directory, name, inode, .. } = *above;
        match compare::metadata(&below.inode, inode) {
            compare::Verdict::Same => Ok(true),
            compare::Verdict::Different => Ok(false),
            compare::Verdict::Target => Ok(Chain::read_link(level, below, name)? == chain::read_link(directory, name)?),
            compare::Verdict::Content => {
                let below = self.lower.open_file(level, below, name)?;
                compare::contents(below, chain::open_file(directory, name)?)
            }
        }
    }
}
