//! Values set in JSON and JSON5 texts.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::EditError;
use crate::json::{self, Dialect, Member, Node, Shape};
use crate::value::Value;

/// The text with the value at `key`.
pub(super) fn set(dialect: Dialect, text: &str, key: &[String], value: &Value) -> Result<String, EditError> {
    let root = json::parse(text, dialect)?;
    let bare_keys = dialect == Dialect::Json5
        && matches!(&root.shape, Shape::Object(members) if members.first().is_some_and(|member| is_bare(text, member)));
    let edits = Document { text, bare_keys }.edits(&root, key, value)?;
    Ok(apply(text, edits))
}

/// The text, which is JSON5 and something else too, with the value at `key`. What is new in it is JSON.
pub(super) fn set_as_json(text: &str, key: &[String], value: &Value) -> Result<String, EditError> {
    let root = json::parse(text, Dialect::Json5)?;
    let edits = Document { text, bare_keys: false }.edits(&root, key, value)?;
    Ok(apply(text, edits))
}

/// Texts put in place of ranges, in ascending order and apart from each other.
type Edits = Vec<(Range<usize>, String)>;

fn apply(text: &str, edits: Edits) -> String {
    let mut result = String::with_capacity(text.len() + edits.iter().map(|(_, new)| new.len()).sum::<usize>());
    let mut done = 0;
    for (range, new) in edits {
        result.push_str(&text[done..range.start]);
        result.push_str(&new);
        done = range.end;
    }
    result.push_str(&text[done..]);
    result
}

struct Document<'a> {
    text: &'a str,
    /// Whether the document writes keys without quotes where it can.
    bare_keys: bool,
}

fn is_bare(text: &str, member: &Member) -> bool {
    text[member.key_span.clone()].starts_with(json::is_key_start)
}

impl Document<'_> {
    fn edits(&self, root: &Node, key: &[String], value: &Value) -> Result<Edits, EditError> {
        let mut node = root;
        for (depth, name) in key.iter().enumerate() {
            let rest = &key[depth + 1..];
            match &node.shape {
                // Readers take the last of several members with one name.
                Shape::Object(members) => match members.iter().rev().find(|member| member.key == *name) {
                    Some(member) => node = &member.value,
                    None => return Ok(self.insert_member(node, members, name, rest, value)),
                },
                Shape::Array(items) => {
                    let index: usize = name
                        .parse()
                        .map_err(|_| EditError::Blocked { depth, found: "a list, which has numbers for keys" })?;
                    match items.get(index) {
                        Some(item) => node = item,
                        None if index == items.len() => return Ok(self.insert_item(node, items, rest, value)),
                        None => return Err(EditError::Blocked { depth, found: "a list that is shorter" }),
                    }
                }
                Shape::Null => return Ok(vec![(node.span.clone(), self.inline(&key[depth..], value))]),
                Shape::Boolean(_) | Shape::Number | Shape::Text(_) => {
                    return Err(EditError::Blocked { depth, found: "a plain value" });
                }
            }
        }
        Ok(vec![(node.span.clone(), self.inline(&[], value))])
    }

    fn insert_member(&self, object: &Node, members: &[Member], name: &str, rest: &[String], value: &Value) -> Edits {
        let bare = self.bare_keys && members.iter().all(|member| is_bare(self.text, member));
        let mut new = String::new();
        write_key(name, bare, &mut new);
        new.push_str(&self.inline(rest, value));
        let first = members.first().map(|member| member.key_span.start);
        let last = members.last().map(|member| member.value.span.end);
        self.insert(object, first.zip(last), new)
    }

    fn insert_item(&self, array: &Node, items: &[Node], rest: &[String], value: &Value) -> Edits {
        let first = items.first().map(|item| item.span.start);
        let last = items.last().map(|item| item.span.end);
        self.insert(array, first.zip(last), self.inline(rest, value))
    }

    /// The value, below objects for the names that lead to it, on one line.
    fn inline(&self, names: &[String], value: &Value) -> String {
        let mut new = String::new();
        for name in names {
            new.push_str("{ ");
            write_key(name, self.bare_keys, &mut new);
        }
        json::write(value, &mut new);
        for _ in names {
            new.push_str(" }");
        }
        new
    }

    /// Puts a new part behind the last of a container, laid out as its neighbours are.
    fn insert(&self, container: &Node, parts: Option<(usize, usize)>, new: String) -> Edits {
        let open = container.span.start + 1;
        let close = container.span.end - 1;
        let Some((first, last)) = parts else {
            return self.insert_only(open, close, &new);
        };
        let tail = &self.text[last..close];
        let comma = comma_offset(tail);
        let after_comma = comma.map_or(last, |comma| last + comma + 1);
        // Comments on the last part's line stay with it; the new part begins a line of its own below them.
        let line_end = line_end(&self.text[after_comma..close]).map(|end| after_comma + end);
        let leading = &self.text[open..first];
        let own_lines =
            leading.contains('\n') || line_end.is_some_and(|end| has_line_comment(&self.text[after_comma..end]));
        let (position, mut inserted) = match line_end {
            Some(end) if own_lines => {
                let indent = match leading.rfind('\n') {
                    Some(newline) => indentation(&leading[newline + 1..]).to_owned(),
                    None => format!("{}  ", indentation(line_of(self.text, container.span.start))),
                };
                // A line end of two characters is put in front of the part as well.
                let newline = if self.text[..end].ends_with('\r') { "\r\n" } else { "\n" };
                let position = if newline.len() == 2 { end - 1 } else { end };
                (position, format!("{newline}{indent}{new}"))
            }
            _ => (after_comma, format!(" {new}")),
        };
        if comma.is_some() {
            inserted.push(',');
            return vec![(position..position, inserted)];
        }
        if position == last {
            return vec![(last..last, format!(",{inserted}"))];
        }
        vec![(last..last, ",".to_owned()), (position..position, inserted)]
    }

    /// Puts the only part into an empty container. What stands in it already, comments that is, stays.
    fn insert_only(&self, open: usize, close: usize, new: &str) -> Edits {
        let inside = &self.text[open..close];
        if inside.trim().is_empty() {
            return vec![(open..close, format!(" {new} "))];
        }
        let outer = indentation(line_of(self.text, open - 1));
        if inside.contains('\n') {
            let end = open + inside.trim_end().len();
            return vec![(end..close, format!("\n{outer}  {new}\n{outer}"))];
        }
        let end = open + inside.trim_end().len();
        vec![(end..close, format!(" {new} "))]
    }
}

fn write_key(name: &str, bare: bool, out: &mut String) {
    if bare && name.starts_with(json::is_key_start) && name.chars().all(json::is_key_part) {
        out.push_str(name);
    } else {
        json::write_string(name, out);
    }
    out.push_str(": ");
}

/// Where the comma is in what follows a part, comments passed over.
fn comma_offset(tail: &str) -> Option<usize> {
    significant(tail).find(|(_, char)| *char == ',').map(|(offset, _)| offset)
}

/// Where the line ends, the end of a block comment counted to the line it began on.
fn line_end(text: &str) -> Option<usize> {
    significant(text).find(|(_, char)| *char == '\n').map(|(offset, _)| offset)
}

fn has_line_comment(text: &str) -> bool {
    let mut blocks = text;
    while let Some(start) = blocks.find("/*") {
        if blocks[..start].contains("//") {
            return true;
        }
        let end = blocks[start..].find("*/").map_or(blocks.len(), |end| start + end + 2);
        blocks = &blocks[end..];
    }
    blocks.contains("//")
}

/// The characters outside comments. A line comment's own line end is outside of it.
fn significant(text: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut offset = 0;
    core::iter::from_fn(move || loop {
        let rest = &text[offset..];
        if rest.starts_with("//") {
            offset += rest.find('\n').unwrap_or(rest.len());
        } else if let Some(comment) = rest.strip_prefix("/*") {
            offset += comment.find("*/").map_or(rest.len(), |end| end + 4);
        } else {
            let char = rest.chars().next()?;
            let at = offset;
            offset += char.len_utf8();
            return Some((at, char));
        }
    })
}

/// The line of `text` in which the byte at `offset` is, as far as that byte.
fn line_of(text: &str, offset: usize) -> &str {
    let start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    &text[start..offset]
}

fn indentation(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
