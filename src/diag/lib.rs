//! What every part of clawbuild says to people: diagnostics with stable codes and source spans, and progress facts.
//!
//! Nothing here does IO or draws anything. Renderers live in the root package's `ui`.

mod code;
mod diagnostic;
pub mod progress;
mod source;
mod suggest;

pub mod codes;

pub use code::{Code, Exit};
pub use diagnostic::{Diagnostic, Label, Related, Reported};
pub use source::{LineColumn, Source, Span, Spanned};
pub use suggest::did_you_mean;
