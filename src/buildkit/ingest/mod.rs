//! What a builder exports, as images and files of ours.
//!
//! A builder sends the layers it made uncompressed, and clawbuild writes them anew: in its own byte form, with times cut
//! down to the epoch, compressed by its own encoder. Layers of bases keep their blobs. So an image has the same digest
//! whichever engine built it.

mod base;
mod error;
mod files;
mod image;
mod layer;
mod task;

pub use base::BaseLayers;
pub(crate) use base::UnknownImage;
pub use error::IngestError;
pub use files::FilesSink;
pub use image::ImageSink;
pub use layer::LayerRules;
pub use task::ExportTask;
