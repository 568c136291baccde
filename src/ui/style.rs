//! The few styles used in output. Meaning never depends on them: every one has a word or a sign next to it.

use std::fmt;

/// What a piece of text is, for whoever can show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Headings and what the eye should find first.
    Strong,
    /// What can be skipped: timings, paths in passing.
    Faint,
    /// A failure.
    Error,
    /// A warning.
    Warning,
    /// Something that went well.
    Success,
    /// A name, or a result taken from the cache.
    Accent,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Strong => "\x1b[1m",
            Self::Faint => "\x1b[2m",
            Self::Error => "\x1b[1;31m",
            Self::Warning => "\x1b[1;33m",
            Self::Success => "\x1b[32m",
            Self::Accent => "\x1b[36m",
        }
    }
}

/// Applies styles, or leaves text plain, as the stream it is for wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Styles {
    color: bool,
}

impl Styles {
    pub(super) const fn new(color: bool) -> Self {
        Self { color }
    }

    /// `text` in `style`.
    pub const fn paint<T: fmt::Display>(self, style: Style, text: T) -> Styled<T> {
        Styled { style: if self.color { Some(style) } else { None }, text }
    }
}

/// A value that writes itself in a style.
#[derive(Clone, Copy, Debug)]
pub struct Styled<T> {
    style: Option<Style>,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Styled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.style {
            Some(style) => {
                f.write_str(style.code())?;
                self.text.fmt(f)?;
                f.write_str("\x1b[0m")
            }
            None => self.text.fmt(f),
        }
    }
}
