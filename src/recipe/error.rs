//! The one error of this crate: a finished diagnostic, since only the parser knows the spans.

use std::fmt;

use diag::{Code, Diagnostic, Reported, Source, Span};

/// A mistake in a recipe, a base or the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeError(Box<Diagnostic>);

/// What parsing gives.
pub type Result<T> = std::result::Result<T, RecipeError>;

impl RecipeError {
    /// A mistake at a place.
    pub fn at(code: Code, source: &Source, span: Span, message: impl Into<String>) -> Self {
        Self(Box::new(Diagnostic::new(code, message).label(source, span, "")))
    }

    /// Puts a remark under the marked text.
    #[must_use]
    pub fn mark(mut self, text: impl Into<String>) -> Self {
        if let Some(label) = self.0.labels.first_mut() {
            label.text = text.into();
        }
        self
    }

    /// Marks a second place.
    #[must_use]
    pub fn also(mut self, source: &Source, span: Span, text: impl Into<String>) -> Self {
        self.0 = Box::new(self.0.label(source, span, text));
        self
    }

    /// Says how to mend it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help.push(help.into());
        self
    }

    /// Adds a cause.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.0.causes.push(cause.into());
        self
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for RecipeError {}

impl Reported for RecipeError {
    fn diagnostic(&self) -> Diagnostic {
        (*self.0).clone()
    }
}
