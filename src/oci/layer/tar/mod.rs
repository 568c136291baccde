//! The tar form of layers: one writer whose bytes are BuildKit's, one reader that trusts nothing.
//!
//! Nothing here touches a filesystem. Spec: POSIX pax(1) §ustar and §pax Interchange Format; OCI image-spec layer.md.

mod entry;
mod error;
mod header;
mod pax;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use entry::{CAPABILITY, split};
pub use entry::{Device, Entry, Kind, WHITEOUT_PREFIX};
pub use error::{HeaderProblem, LimitKind, PathProblem, TarError};
pub use read::{Limits, TarReader};
pub use write::TarWriter;

/// Tar's unit: headers are one block, data is padded to whole ones.
const BLOCK: usize = 512;

/// Bytes of padding after `size` bytes of data.
const fn padding(size: u64) -> usize {
    ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize
}
