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
//! Everything appears under its final name only when whole: write to `tmp`, sync, rename. Directories are not synced
//! after a rename, except when the store is made: a name that a power failure takes away is a miss, and what it named
//! can be made again. Nothing is written when everything is found, except that the modification time of a blob, a
//! record, or a snapshot's directory says when it was last used, to the hour.

mod blob;
mod error;
mod inventory;
mod lock;
mod prune;
mod record;
mod root;
mod temp;
mod tree;
mod usage;
mod used;

pub use blob::{BlobWriter, Committed};
pub use error::StoreError;
pub use lock::{Lease, Lock};
pub use prune::{PrunePolicy, Pruned};
pub use record::{Bucket, Key};
pub use root::Store;
pub use tree::remove_tree;
pub use usage::{Amount, Usage};
