//! Everything people see: data on stdout, talk on stderr, diagnostics, and the progress of a build.
//!
//! [`Printer`] is the only writer of the two streams; nothing else in the program prints. What is shown is decided
//! here and nowhere else: the rest of clawbuild returns values, [`diag::Diagnostic`]s and progress events.

pub mod diagnostic;
mod printer;
pub mod progress;
mod style;
mod terminal;
pub mod text;

pub use diagnostic::ErrorFormat;
pub use printer::{OutputError, Printer, Settings, Verbosity};
pub use style::{Style, Styled, Styles};
pub use terminal::{ColorChoice, Environment, Size, Terminal};
