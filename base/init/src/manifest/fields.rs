//! The manifest's values, taken one by one. Errors name the place in the words of whoever wrote it.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::str::FromStr;
use core::time::Duration;

use crate::json::{Node, Shape};

/// A value of the manifest and the words for its place.
pub(super) struct Entry<'a> {
    text: &'a str,
    pub(super) place: String,
    node: Node,
}

/// The members of an object, each of which is taken once.
pub(super) struct Fields<'a> {
    place: String,
    pub(super) members: Vec<(String, Entry<'a>)>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(text: &'a str, place: &str, node: Node) -> Result<Self, String> {
        Entry { text, place: place.to_owned(), node }.fields()
    }

    /// The member of that name. `null` counts as absent.
    pub(super) fn optional(&mut self, name: &str) -> Option<Entry<'a>> {
        let index = self.members.iter().position(|(key, _)| key == name)?;
        let (_, entry) = self.members.remove(index);
        (entry.node.shape != Shape::Null).then_some(entry)
    }

    pub(super) fn required(&mut self, name: &str) -> Result<Entry<'a>, String> {
        self.optional(name).ok_or_else(|| format!("{} lacks `{name}`", self.place))
    }

    /// Fails if a member was not taken: nothing here knows it, or it is there twice.
    pub(super) fn finish(self) -> Result<(), String> {
        match self.members.first() {
            Some((name, _)) => Err(format!("{} has an unknown key `{name}`", self.place)),
            None => Ok(()),
        }
    }
}

impl<'a> Entry<'a> {
    fn wrong(&self, expected: &str) -> String {
        format!("{} must be {expected}", self.place)
    }

    pub(super) fn fields(self) -> Result<Fields<'a>, String> {
        let Shape::Object(members) = self.node.shape else {
            return Err(self.wrong("an object"));
        };
        let members = members.into_iter().map(|member| {
            let place = format!("`{}`", member.key);
            (member.key, Self { text: self.text, place, node: member.value })
        });
        Ok(Fields { members: members.collect(), place: self.place })
    }

    pub(super) fn each<T>(self, read: impl Fn(Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        let Shape::Array(items) = self.node.shape else {
            return Err(self.wrong("a list"));
        };
        let entry =
            |(index, node)| Self { text: self.text, place: format!("entry {} of {}", index + 1, self.place), node };
        items.into_iter().enumerate().map(entry).map(read).collect()
    }

    pub(super) fn text(self) -> Result<String, String> {
        match self.node.shape {
            Shape::Text(text) => Ok(text),
            _ => Err(self.wrong("a string")),
        }
    }

    /// Whether it is a string, where it may be something else as well.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.node.shape, Shape::Text(_))
    }

    pub(super) fn boolean(self) -> Result<bool, String> {
        match self.node.shape {
            Shape::Boolean(value) => Ok(value),
            _ => Err(self.wrong("true or false")),
        }
    }

    pub(super) fn number<T: FromStr>(self) -> Result<T, String> {
        let text = &self.text[self.node.span.clone()];
        let number = if self.node.shape == Shape::Number { text.parse().ok() } else { None };
        number.ok_or_else(|| self.wrong("a whole number in its range"))
    }

    pub(super) fn millis(self) -> Result<Duration, String> {
        // A day more than covers every drain, and keeps deadlines in the clock's range.
        let millis: u64 = self.number()?;
        Ok(Duration::from_millis(millis.min(86_400_000)))
    }

    pub(super) fn one_of<T>(self, words: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        match &self.node.shape {
            Shape::Text(word) => parse(word).ok_or_else(|| format!("{} must be {words}, not `{word}`", self.place)),
            _ => Err(self.wrong(words)),
        }
    }

    pub(super) fn path(self) -> Result<String, String> {
        let place = self.place.clone();
        let path = self.text()?;
        if path.starts_with('/') && !path.contains('\0') {
            Ok(path)
        } else {
            Err(format!("{place} must be an absolute path"))
        }
    }

    pub(super) fn variable(self) -> Result<String, String> {
        let place = self.place.clone();
        self.text().and_then(|name| {
            if is_variable(&name) {
                Ok(name)
            } else {
                Err(format!("{place} must be a variable's name"))
            }
        })
    }

    /// A name that stands in front of lines and in messages.
    pub(super) fn name(self) -> Result<String, String> {
        let place = self.place.clone();
        let name = self.text()?;
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !name.is_empty() && name.bytes().all(is_part) {
            Ok(name)
        } else {
            Err(format!("{place} must be a name of letters, digits, `.`, `_` and `-`"))
        }
    }

    pub(super) fn command(self) -> Result<Vec<String>, String> {
        let place = self.place.clone();
        let command = self.each(Entry::text)?;
        let usable =
            command.first().is_some_and(|program| !program.is_empty()) && command.iter().all(|arg| !arg.contains('\0'));
        if usable {
            Ok(command)
        } else {
            Err(format!("{place} must be a program and its arguments"))
        }
    }

    /// A path to ask for by HTTP. Nothing in it may end the request line.
    pub(super) fn request_path(self) -> Result<String, String> {
        let place = self.place.clone();
        let path = self.text()?;
        let printable = path.bytes().all(|byte| byte.is_ascii_graphic());
        if path.starts_with('/') && printable {
            Ok(path)
        } else {
            Err(format!("{place} must be a path such as \"/health\""))
        }
    }
}

/// Whether a variable may have that name.
pub(super) fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}
