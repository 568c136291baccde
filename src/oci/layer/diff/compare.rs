//! Whether a file in the upper directory is the same as the one below it.

use std::fs::File;
use std::io::{self, Read};

use crate::layer::inode::{Inode, InodeKind};

/// What the metadata says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    Different,
    /// Both are symbolic links: their targets decide.
    Target,
    /// Both are files of one length: their content decides.
    Content,
}

/// Directories are the same when mode, owner and capability are. Others must have equal length and time too; where
/// neither time has a fraction of a second, as after unpacking a layer, it says too little and the content decides.
pub(super) fn metadata(lower: &Inode, upper: &Inode) -> Verdict {
    let alike = lower.kind == upper.kind
        && lower.mode == upper.mode
        && lower.owner == upper.owner
        && lower.capability == upper.capability;
    if !alike {
        return Verdict::Different;
    }
    if upper.is_directory() {
        return Verdict::Same;
    }
    if lower.size != upper.size || lower.mtime != upper.mtime {
        return Verdict::Different;
    }
    if lower.mtime_nanoseconds != 0 || upper.mtime_nanoseconds != 0 {
        let same = lower.mtime_nanoseconds == upper.mtime_nanoseconds;
        return if same { Verdict::Same } else { Verdict::Different };
    }
    match upper.kind {
        InodeKind::Symlink => Verdict::Target,
        InodeKind::File if upper.size > 0 => Verdict::Content,
        InodeKind::File
        | InodeKind::Directory
        | InodeKind::Fifo
        | InodeKind::Socket
        | InodeKind::Device(..)
        | InodeKind::Whiteout => Verdict::Same,
    }
}

/// Whether both hold the same bytes.
pub(super) fn contents(mut one: File, mut other: File) -> io::Result<bool> {
    const PIECE: usize = 64 * 1024;
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let count = fill(&mut one, &mut left)?;
        if fill(&mut other, &mut right)? != count || left[..count] != right[..count] {
            return Ok(false);
        }
        if count < PIECE {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
