//! One message to the user: what is wrong, where, and how to mend it.

use crate::{Code, Source, Span};

/// A place in a source, with a remark about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The text the span points into.
    pub source: Source,
    /// The marked bytes.
    pub span: Span,
    /// What is to be said about them; may be empty.
    pub text: String,
}

/// Output that belongs to a failure, shown below it: the last lines of a failed step, for instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// Heading of the block.
    pub title: String,
    /// Its lines, verbatim.
    pub lines: Vec<String>,
}

/// A failure as told to the user.
///
/// Texts are lower-case, carry no final period and quote the user's words in backticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The kind of failure.
    pub code: Code,
    /// One line: what is wrong.
    pub message: String,
    /// Where, the most important place first.
    pub labels: Vec<Label>,
    /// Why: causes, outermost first.
    pub causes: Vec<String>,
    /// How to mend it: commands or edits.
    pub help: Vec<String>,
    /// Output that belongs to it.
    pub related: Vec<Related>,
}

impl Diagnostic {
    /// A diagnostic that says only what is wrong.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            labels: Vec::new(),
            causes: Vec::new(),
            help: Vec::new(),
            related: Vec::new(),
        }
    }

    /// Marks a place. The first label marked is the main one.
    #[must_use]
    pub fn label(mut self, source: &Source, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { source: source.clone(), span, text: text.into() });
        self
    }

    /// Adds a cause.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds an error and the whole chain of its sources, outermost first. What only repeats the message or the
    /// cause before it is left out.
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            if text != self.message && self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Says how to mend it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Attaches a block of output.
    #[must_use]
    pub fn related(mut self, title: impl Into<String>, lines: Vec<String>) -> Self {
        self.related.push(Related { title: title.into(), lines });
        self
    }
}

/// An error that knows how to present itself to the user.
///
/// Every error enum that can reach a user implements it; the root package renders the result and takes the exit
/// status from its code.
pub trait Reported {
    /// The diagnostic for this error.
    fn diagnostic(&self) -> Diagnostic;
}

impl Reported for Diagnostic {
    fn diagnostic(&self) -> Diagnostic {
        self.clone()
    }
}
