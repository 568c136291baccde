//! The plan: what will be built, stage by stage, and its lowering to LLB.
//!
//! [`Project`] holds the bases, [`LockedRecipe`] a recipe whose every outside input is pinned, [`Plan`] the stages one
//! image needs for one platform, with ids resolved and the image's config complete. [`Plan::lower`] turns it into LLB and
//! cannot fail for want of anything. Nothing here reads files, the network, the clock or the environment.

mod archives;
mod bases;
mod custom;
mod describe;
mod error;
mod frontend;
mod ground;
mod image;
mod init;
mod language;
mod locked;
mod lower;
mod place;
mod project;
mod published;
mod requests;
mod source;
mod stage;
#[cfg(test)]
mod tests;
mod tier;
#[cfg(test)]
mod tier_tests;

pub use archives::{Archive, ArchiveFormat, ArchiveLayers, ArchiveSet};
pub use bases::{BaseImages, DebianLayers, LockedBase, locked_base};
pub use describe::describe;
pub use error::PlanError;
pub use frontend::{FRONTEND_BASE, PROGRAM_CONTEXT};
pub use ground::Ground;
pub use image::{Build, Epoch, ImagePlan};
pub use init::INIT_CONTEXT_FILES;
pub use language::CargoLock;
pub use locked::LockedRecipe;
pub use lower::{Lowered, STORE_LAYOUT, layer_repository};
pub use place::{ContextPlace, ImagePlace, Places};
pub use project::Project;
pub use published::{GivenImage, Published, PublishedError, Unpublished};
pub use requests::{DEBIAN_OWNER_BASE, Requests};
pub use source::{Checkout, Checkouts};
pub use stage::{
    CA_SECRET, Context, Copy, CopyFrom, Download, FileAction, From, Mount, MountKind, Origin, Plan, Run, Stage,
    StageId, Step, StepKind,
};
