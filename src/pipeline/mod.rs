//! The run: recipe, lock, bases, plan, LLB, engine, outputs. Each step is a function from one type to the next.

mod archives;
mod bases;
mod check;
mod checkouts;
mod contract;
mod dependencies;
mod docker;
mod engines;
mod export;
mod frontend_image;
mod image;
mod layers;
mod layout;
mod locking;
mod merge;
mod metadata;
mod naming;
mod product;
mod publish;
mod push;
mod session;
mod solve;
mod survey;

pub use check::{Checked, check_image, check_recipe};
pub use contract::{Execution, Outcome, Report, Verdict, test_image};
pub(crate) use dependencies::{entry as locked_dependencies, locked};
pub use engines::{EngineSettings, Seat, Wish};
pub use export::{Exported, OutputSpec, OutputSpecError, export};
pub use frontend_image::build_frontend;
pub(crate) use image::image_output;
pub use image::{Built, ImageOptions, build_base, build_image, lower_base, lower_image};
pub(crate) use layers::debian_package;
pub use layout::{FoundLayout, read_layout};
pub use locking::{Locking, ensure_all_locked, ensure_locked};
pub use merge::merge;
pub use metadata::{ImageMetadata, ProductMetadata};
pub use naming::{ImageName, Naming};
pub use product::Product;
pub use publish::{PublishOptions, publish, record_bases};
pub use push::{Pushed, push_image};
pub use session::{Run, Session};
pub use solve::SolveOptions;
pub use survey::{Answer, Surveyed, survey};

use diag::{Diagnostic, codes};

use crate::cli::Failure;

/// The run was stopped from outside.
pub(crate) fn interrupted() -> Failure {
    Diagnostic::new(codes::cli::INTERRUPTED, "interrupted; finished steps are kept").into()
}
