//! Values set in YAML texts.
//!
//! Of YAML, block mappings and block sequences are taken apart, which is what configuration files are made of. Everything
//! else, such as block scalars and bracketed values, is kept whole; a bracketed value is taken apart where it is JSON5 too.

mod parse;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::EditError;
use crate::json::{self, SyntaxError};
use crate::value::Value;
use parse::parse;

/// By how much a new block is indented.
const STEP: usize = 2;

/// Reads a text and keeps nothing.
pub(super) fn check(text: &str) -> Result<(), SyntaxError> {
    parse(text).map(drop)
}

/// The text with the value at `key`.
pub(super) fn set(text: &str, key: &[String], value: &Value) -> Result<String, EditError> {
    let root = parse(text)?;
    let (range, new) = Document { text }.edit(&root, key, 0, value)?;
    Ok(format!("{}{new}{}", &text[..range.start], &text[range.end..]))
}

/// A value and its place.
#[derive(Debug)]
struct Node {
    /// From behind what leads to it, a colon or a dash, to its last character.
    span: Range<usize>,
    /// Where its own first character is.
    start: usize,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    /// Nothing.
    Empty,
    /// A scalar on one line, not null.
    Plain,
    /// `null` or `~`.
    Null,
    /// In brackets.
    Flow,
    /// Something that has a name others refer to.
    Anchored,
    /// Anything else that is kept whole.
    Opaque,
    Map {
        indent: usize,
        entries: Vec<Entry>,
    },
    List {
        indent: usize,
        items: Vec<Node>,
    },
}

/// A key and a value.
#[derive(Debug)]
struct Entry {
    key: String,
    value: Node,
}

struct Document<'a> {
    text: &'a str,
}

impl Document<'_> {
    /// What to write where, for a value at or below `node`, to which `depth` names of the key lead.
    fn edit(
        &self,
        node: &Node,
        key: &[String],
        depth: usize,
        value: &Value,
    ) -> Result<(Range<usize>, String), EditError> {
        let blocked = |found| Err(EditError::Blocked { depth, found });
        let rest = &key[depth..];
        let Some(next) = rest.first() else {
            return match &node.shape {
                Shape::Anchored => blocked("anchored, and others may refer to it"),
                Shape::Empty | Shape::Map { .. } | Shape::List { .. } => {
                    Ok((node.span.clone(), format!(" {}", write(value))))
                }
                Shape::Plain | Shape::Null | Shape::Flow | Shape::Opaque => {
                    Ok((node.start..node.span.end, write(value)))
                }
            };
        };
        match &node.shape {
            Shape::Map { indent, entries } => match entries.iter().rev().find(|entry| entry.key == *next) {
                Some(entry) => self.edit(&entry.value, key, depth + 1, value),
                None => Ok(self.below(node, &block(*indent, rest, value))),
            },
            Shape::List { indent, items } => {
                let number: usize = next
                    .parse()
                    .map_err(|_| EditError::Blocked { depth, found: "a list, which has numbers for keys" })?;
                match items.get(number) {
                    Some(item) => self.edit(item, key, depth + 1, value),
                    None if number == items.len() => {
                        let line = format!("{:indent$}- {}\n", "", write(&nested(&rest[1..], value)));
                        Ok(self.below(node, &line))
                    }
                    None => blocked("a list that is shorter"),
                }
            }
            // The whole document.
            Shape::Empty if depth == 0 => Ok(self.below(node, &block(0, rest, value))),
            Shape::Empty => Ok((node.span.clone(), format!(" {}", write(&nested(rest, value))))),
            Shape::Null => Ok((node.start..node.span.end, write(&nested(rest, value)))),
            Shape::Flow => {
                let span = node.start..node.span.end;
                match super::json::set_as_json(&self.text[span.clone()], rest, value) {
                    Ok(new) => Ok((span, new)),
                    Err(EditError::Blocked { depth: below, found }) => {
                        Err(EditError::Blocked { depth: depth + below, found })
                    }
                    Err(EditError::Syntax(_) | EditError::Unwritable(_)) => {
                        blocked("in brackets, and can be changed only as a whole")
                    }
                }
            }
            Shape::Anchored => blocked("anchored, and others may refer to it"),
            Shape::Plain | Shape::Opaque => blocked("a plain value"),
        }
    }

    /// Lines behind the last one of a block.
    fn below(&self, node: &Node, lines: &str) -> (Range<usize>, String) {
        let end = match node.shape {
            Shape::Empty => node.span.end,
            _ => self.text[node.span.end..].find('\n').map_or(self.text.len(), |newline| node.span.end + newline + 1),
        };
        let before = &self.text[..end];
        let separator = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
        (end..end, format!("{separator}{lines}"))
    }
}

/// An entry and the mappings that lead to it, each on a line of its own.
fn block(indent: usize, names: &[String], value: &Value) -> String {
    let mut lines = String::new();
    for (level, name) in names.iter().enumerate() {
        let indent = indent + level * STEP;
        lines.push_str(&format!("{:indent$}{}:", "", write_text(name)));
        lines.push_str(if level + 1 < names.len() { "\n" } else { " " });
    }
    lines.push_str(&write(value));
    lines.push('\n');
    lines
}

/// The value, below mappings for the names that lead to it.
fn nested(names: &[String], value: &Value) -> Value {
    names.iter().rev().fold(value.clone(), |value, name| Value::Map(alloc::vec![(name.clone(), value)]))
}

/// The value on one line. What is no scalar is JSON, which is YAML.
fn write(value: &Value) -> String {
    match value {
        Value::Text(text) => write_text(text),
        Value::Null | Value::Boolean(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => {
            let mut written = String::new();
            json::write(value, &mut written);
            written
        }
    }
}

/// Text without quotes where no reader takes it for anything else, and in quotes otherwise.
fn write_text(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_plain = text.starts_with(|char: char| char.is_ascii_alphabetic() || matches!(char, '/' | '_'))
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/'))
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_plain {
        return text.to_owned();
    }
    let mut written = String::new();
    json::write_string(text, &mut written);
    written
}

#[cfg(test)]
mod tests;
