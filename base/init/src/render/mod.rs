//! Changing single values in configuration texts. All else in the text, comments and layout included, stays as it is.

mod dotenv;
mod json;
mod toml;
mod yaml;

use alloc::format;
use alloc::string::{String, ToString};

use crate::json::{Dialect, SyntaxError};
use crate::value::Value;

/// The language of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON.
    Json,
    /// JSON5.
    Json5,
    /// TOML 1.0.
    Toml,
    /// YAML, of which block mappings and sequences can be changed.
    Yaml,
    /// `NAME=value` lines.
    Env,
}

impl Format {
    /// The format with that name in the manifest.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "json" => Self::Json,
            "json5" => Self::Json5,
            "toml" => Self::Toml,
            "yaml" => Self::Yaml,
            "env" => Self::Env,
            _ => return None,
        })
    }

    /// The document in which nothing is set.
    pub(crate) fn empty_document(self) -> &'static str {
        match self {
            Self::Json | Self::Json5 => "{}\n",
            Self::Toml | Self::Yaml | Self::Env => "",
        }
    }
}

/// Why a value could not be put into a text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EditError {
    /// The text is not in its format.
    Syntax(SyntaxError),
    /// Something on the way to the key is a plain value, or is not where a key could be put into it.
    Blocked {
        /// How much of the key leads to it.
        depth: usize,
        /// What is there.
        found: &'static str,
    },
    /// The format cannot hold the value.
    Unwritable(&'static str),
}

impl EditError {
    /// The error as a sentence about `key`.
    pub(crate) fn describe(&self, key: &[String]) -> String {
        match self {
            Self::Syntax(error) => error.to_string(),
            Self::Blocked { depth, found } => {
                format!("`{}` cannot be set: `{}` is {found}", key.join("."), key[..(*depth).min(key.len())].join("."))
            }
            Self::Unwritable(problem) => format!("`{}` cannot be set: {problem}", key.join(".")),
        }
    }
}

impl From<SyntaxError> for EditError {
    fn from(error: SyntaxError) -> Self {
        Self::Syntax(error)
    }
}

/// What editors of some systems put in front of a text.
fn byte_order_mark(text: &str) -> &str {
    let mark = '\u{feff}';
    text.get(..mark.len_utf8()).filter(|start| start.starts_with(mark)).unwrap_or_default()
}

/// Reads a text and keeps nothing.
///
/// # Errors
/// The text is not in its format.
pub(crate) fn check(format: Format, text: &str) -> Result<(), EditError> {
    match format {
        Format::Json => crate::json::parse(text, Dialect::Json).map(drop)?,
        Format::Json5 => crate::json::parse(text, Dialect::Json5).map(drop)?,
        Format::Toml => toml::check(text)?,
        Format::Yaml => yaml::check(text)?,
        Format::Env => dotenv::check(text)?,
    }
    Ok(())
}

/// The text with the value at `key`: replaced where it is, inserted where it is not.
///
/// # Errors
/// The text is not in its format, the key cannot be there, or the format cannot hold the value.
pub(crate) fn set(format: Format, text: &str, key: &[String], value: &Value) -> Result<String, EditError> {
    match format {
        Format::Json => json::set(Dialect::Json, text, key, value),
        Format::Json5 => json::set(Dialect::Json5, text, key, value),
        Format::Toml => toml::set(text, key, value),
        Format::Yaml => yaml::set(text, key, value),
        Format::Env => dotenv::set(text, key, value),
    }
}

#[cfg(test)]
mod properties;
