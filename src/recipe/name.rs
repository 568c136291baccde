//! Names and paths, checked where they are read.

use std::fmt;
use std::str::FromStr;

/// The name of a recipe, base, stage or tool: lower-case letters, digits and single `-` between them.
///
/// It is also good as a repository component, a directory and a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// A text that does not have the form asked for; says which form that is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadName(pub String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good = text.len() <= 63
            && text.starts_with(edge)
            && text.ends_with(edge)
            && text.chars().all(|c| edge(c) || c == '-')
            && !text.contains("--");
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName(format!(
                "`{text}` is not a name: lower-case letters, digits and single `-` between them, at most 63"
            )))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An absolute, normal path inside an image: no `.`, `..`, `//` or trailing `/`, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerPath(String);

impl ContainerPath {
    /// The path as text, with its leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path below this one.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        Self(format!("{}/{relative}", self.0.trim_end_matches('/')))
    }
}

impl FromStr for ContainerPath {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(BadName(format!("`{text}` is not an absolute path: it must start with `/`")));
        };
        if text.chars().any(char::is_control) {
            return Err(BadName(format!("`{}` has control characters", text.escape_debug())));
        }
        let normal = rest.is_empty() || rest.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if normal {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName(format!("`{text}` is not a normal path: write it without `.`, `..`, `//` or a `/` at the end")))
        }
    }
}

impl fmt::Display for ContainerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A version or range in its registry's own words, kept as written: the grammar is the resolver's business.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement(String);

impl Requirement {
    /// The requirement as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Requirement {
    /// The requirement with every `from` as `to`, which holds nothing but letters and digits.
    pub(crate) fn replace(&self, from: &str, to: &str) -> Self {
        Self(self.0.replace(from, to))
    }
}

impl FromStr for Requirement {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let good = !text.trim().is_empty() && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        if good { Ok(Self(text.to_owned())) } else { Err(BadName(format!("`{text}` is not a version or range"))) }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
