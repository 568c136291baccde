//! Debian archives: signatures, indexes, dependency resolution, packages, root filesystem assembly.
//!
//! Everything here is handed bytes or paths and gives back values or writes where it is told. There is no network, no
//! clock and no async; a root filesystem is assembled without running anything from the packages and without a file
//! of it ever touching a file system.

pub mod assemble;
mod compression;
pub mod control;
pub mod deb;
#[cfg(test)]
mod fixture;
pub mod index;
mod package;
pub mod relation;
pub mod release;
pub mod resolve;
pub mod version;

pub use assemble::{AssembleError, Assembly, BaseOptions, Installed, assemble};
pub use compression::Compression;
pub use deb::{Deb, DebError};
pub use index::{IndexError, PackageIndex};
pub use package::LockedPackage;
pub use release::{Keyring, Release, ReleaseError};
pub use version::Version;
