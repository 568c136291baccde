//! Layer bytes: the deterministic tar form, compression, and differences between file trees.
//!
//! A layer is a tar of changes. [`tar`] is its byte form, [`compress`] turns that into a blob with a diff ID and a
//! digest, [`diff`] computes a layer from an overlay's upper directory, [`apply`] goes the other way. [`ownership`]
//! is what both know about owners that a user namespace cannot give to files.

use std::io;

use diag::{Diagnostic, codes};

mod chain;
mod inode;
mod snapshot;
#[cfg(test)]
mod testing;

pub mod apply;
pub mod compress;
pub mod diff;
pub mod ownership;
pub mod rewrite;
pub mod tar;

pub use inode::{DeviceKind, OverlayFeature};
pub use snapshot::Snapshot;

/// How a failed file operation is told: a full disk as such, anything else by its causes.
pub(crate) fn io_diagnostic(error: &(dyn std::error::Error + 'static), source: &io::Error) -> Diagnostic {
    if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return Diagnostic::new(codes::oci::FULL, "the disk is full")
            .caused_by(error)
            .help("free space and try again; nothing half-written was kept");
    }
    Diagnostic::new(codes::oci::IO, error.to_string()).caused_by(error)
}
