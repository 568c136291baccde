//! The store: everything clawbuild keeps between runs, in one directory, shared safely by concurrent processes.
//!
//! ```text
//! ROOT/
//!   format              the layout's version; another version is refused, never converted in place
//!   lease               every process holds a shared lock on it while it uses the store; pruning needs it alone
//!   oci-layout, blobs/sha256/<hex>
//!                       content by digest: the store is itself an OCI layout
//!   records/<bucket>/<aa>/<key>
//!                       small JSON facts derived from content; a torn or unreadable one is a miss
//!   snapshots/<id>/     file trees, written only while their directory still lies in `tmp`
//!   cache/<id>/         cache mounts
//!   locks/<name>        single flight between processes
//!   tmp/<pid>-<random>/ one directory for each process; those whose process is gone are swept on open
//! ```
//! Everything appears under its final name only when whole: write to `tmp`, sync, rename.

mod blob;
mod error;
mod lock;
mod record;
mod root;

pub use blob::{BlobWriter, Committed};
pub use error::StoreError;
pub use lock::{Lease, Lock};
pub use record::{Bucket, Key};
pub use root::Store;
