//! The embedded engine: solves LLB in this process, with no daemon.
//!
//! [`solver`] walks the graph and looks results up under the keys of [`key`]; what is not known is made by [`source`] and
//! [`op`]. Results are [`chain`]s of [`snapshot`]s, written down by [`record`] and turned into images by [`export`].

pub mod container;
pub mod fileop;
pub mod mount;
pub mod sandbox;

mod alike;
mod chain;
mod content;
mod engine;
mod export;
mod flight;
mod key;
mod op;
mod record;
mod snapshot;
mod solver;
mod source;
mod unpack;
mod workshop;

pub use engine::Embedded;
pub use workshop::EmbeddedOptions;

pub(crate) use workshop::Workshop;

/// What users call it.
const NAME: &str = "embedded";
