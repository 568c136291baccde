//! Values set in TOML texts.

mod parse;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::EditError;
use crate::json::{self, SyntaxError};
use crate::value::Value;
use parse::parse;

/// Reads a text and keeps nothing.
pub(super) fn check(text: &str) -> Result<(), SyntaxError> {
    parse(text).map(drop)
}

/// The text with the value at `key`.
pub(super) fn set(text: &str, key: &[String], value: &Value) -> Result<String, EditError> {
    let document = parse(text)?;
    let (range, new) = match document.find(key)? {
        Some((node, depth)) => document.edit(node, key, depth, value)?,
        None => document.insertion(key, &write(value)?)?,
    };
    Ok(format!("{}{new}{}", &text[..range.start], &text[range.end..]))
}

/// A text taken apart.
#[derive(Debug)]
struct Document<'a> {
    text: &'a str,
    /// The first is the one without a header.
    tables: Vec<Table>,
    /// The arrays of tables, and how many tables each has.
    lists: Vec<(Vec<String>, usize)>,
}

/// A header and the entries below it.
#[derive(Debug)]
struct Table {
    /// The names that lead to it. Tables of an array are named by their numbers.
    path: Vec<String>,
    /// Where its entries begin.
    body: usize,
    entries: Vec<Entry>,
}

/// A key and a value.
#[derive(Debug)]
struct Entry {
    key: Vec<String>,
    start: usize,
    value: Node,
}

#[derive(Debug)]
struct Node {
    span: Range<usize>,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    Plain,
    List(Vec<Node>),
    Table(Vec<Entry>),
}

const TABLE: &str = "a table";

impl Document<'_> {
    /// What to write where, for a value at or below `node`, to which `depth` names of the key lead.
    fn edit(
        &self,
        node: &Node,
        key: &[String],
        depth: usize,
        value: &Value,
    ) -> Result<(Range<usize>, String), EditError> {
        let rest = &key[depth..];
        let Some(next) = rest.first() else {
            return Ok((node.span.clone(), write(value)?));
        };
        match &node.shape {
            Shape::Plain => Err(EditError::Blocked { depth, found: "a plain value" }),
            Shape::List(items) => {
                let number: usize = next
                    .parse()
                    .map_err(|_| EditError::Blocked { depth, found: "a list, which has numbers for keys" })?;
                match items.get(number) {
                    Some(item) => self.edit(item, key, depth + 1, value),
                    None if number == items.len() => {
                        let new = inline(&rest[1..], value)?;
                        Ok(self.insert(node, items.last().map(|item| item.span.end), &new, ["[", "]"]))
                    }
                    None => Err(EditError::Blocked { depth, found: "a list that is shorter" }),
                }
            }
            Shape::Table(entries) => match find_entry(entries, rest, depth)? {
                Some((node, depth)) => self.edit(node, key, depth, value),
                None => {
                    let new = format!("{} = {}", write_key(rest), write(value)?);
                    Ok(self.insert(node, entries.last().map(|entry| entry.value.span.end), &new, ["{ ", " }"]))
                }
            },
        }
    }

    /// Puts a new part behind the last of a list or an inline table; a comma that may follow there stays behind it.
    fn insert(&self, node: &Node, last: Option<usize>, new: &str, [open, close]: [&str; 2]) -> (Range<usize>, String) {
        let Range { start, end } = node.span;
        match last {
            Some(last) => (last..last, format!(", {new}")),
            None if self.text[start + 1..end - 1].trim().is_empty() => (start..end, format!("{open}{new}{close}")),
            // Comments stay. The last of them ends with its line, so the closing bracket is on another.
            None => (end - 1..end, format!("{new}{close}")),
        }
    }

    /// The value that is at `key` or on the way to it, and how much of the key leads to it.
    fn find(&self, key: &[String]) -> Result<Option<(&Node, usize)>, EditError> {
        for table in &self.tables {
            if table.path.starts_with(key) {
                return Err(EditError::Blocked { depth: key.len(), found: TABLE });
            }
            if let Some(rest) = key.strip_prefix(table.path.as_slice()) {
                if let Some((node, depth)) = find_entry(&table.entries, rest, table.path.len())? {
                    return Ok(Some((node, depth)));
                }
            }
        }
        Ok(None)
    }

    /// Where a key goes that is not there, and how it is written.
    fn insertion(&self, key: &[String], value: &str) -> Result<(Range<usize>, String), EditError> {
        for (path, length) in &self.lists {
            let Some((number, rest)) = key.strip_prefix(path.as_slice()).and_then(<[String]>::split_first) else {
                continue;
            };
            let depth = path.len();
            let number: usize = number
                .parse()
                .map_err(|_| EditError::Blocked { depth, found: "a list, which has numbers for keys" })?;
            if number > *length {
                return Err(EditError::Blocked { depth, found: "a list that is shorter" });
            }
            if number == *length {
                // A header means the last table of each array on its way, which may be another one than the key's.
                let is_top = self.lists.iter().all(|(other, _)| !path.starts_with(other) || other == path);
                if !is_top || rest.is_empty() {
                    return Err(EditError::Blocked { depth, found: "a list of tables" });
                }
                return Ok(self.at_end(&format!("[[{}]]", write_key(path)), &write_key(rest), value));
            }
        }
        let parents = self.tables.iter().filter(|table| key.starts_with(&table.path));
        let parent = parents.max_by_key(|table| table.path.len()).expect("the first table is above everything");
        let rest = &key[parent.path.len()..];
        let is_listed = self.lists.iter().any(|(path, _)| parent.path.starts_with(path));
        // What dotted keys have begun, only dotted keys go on with.
        let is_dotted = parent.entries.iter().any(|entry| entry.key.len() > 1 && entry.key[0] == rest[0]);
        if rest.len() == 1 || is_listed || is_dotted {
            return Ok(self.below(parent, &write_key(rest), value));
        }
        let (name, path) = key.split_last().expect("a key that is not there is not empty");
        Ok(self.at_end(&format!("[{}]", write_key(path)), &write_key(core::slice::from_ref(name)), value))
    }

    /// An entry on a line of its own, behind the last one of a table.
    fn below(&self, table: &Table, key: &str, value: &str) -> (Range<usize>, String) {
        let (position, indent) = match table.entries.last() {
            Some(last) => {
                let line_start = self.text[..last.start].rfind('\n').map_or(0, |newline| newline + 1);
                (self.next_line(last.value.span.end), &self.text[line_start..last.start])
            }
            None if table.path.is_empty() => (self.behind_head(), ""),
            None => (table.body, ""),
        };
        let before = &self.text[..position];
        let is_line = before == super::byte_order_mark(self.text) || before.ends_with('\n');
        let separator = if is_line { "" } else { "\n" };
        (position..position, format!("{separator}{indent}{key} = {value}\n"))
    }

    /// Where the next line after `offset` begins.
    fn next_line(&self, offset: usize) -> usize {
        self.text[offset..].find('\n').map_or(self.text.len(), |newline| offset + newline + 1)
    }

    /// Behind the comment a text begins with, unless that belongs to the header below it.
    fn behind_head(&self) -> usize {
        let start = super::byte_order_mark(self.text).len();
        let mut position = start;
        for line in self.text[start..].split_inclusive('\n') {
            match line.trim() {
                "" => return position + line.len(),
                comment if comment.starts_with('#') => position += line.len(),
                _ => return start,
            }
        }
        position
    }

    fn at_end(&self, header: &str, key: &str, value: &str) -> (Range<usize>, String) {
        let end = self.text.len();
        let separator = match self.text {
            "" => "",
            text if text.ends_with('\n') => "\n",
            _ => "\n\n",
        };
        (end..end, format!("{separator}{header}\n{key} = {value}\n"))
    }
}

/// The value that is at `key` or on the way to it, among entries `depth` names deep.
fn find_entry<'a>(entries: &'a [Entry], key: &[String], depth: usize) -> Result<Option<(&'a Node, usize)>, EditError> {
    for entry in entries {
        if key.starts_with(&entry.key) {
            return Ok(Some((&entry.value, depth + entry.key.len())));
        }
        if entry.key.starts_with(key) {
            return Err(EditError::Blocked { depth: depth + key.len(), found: TABLE });
        }
    }
    Ok(None)
}

/// The value, in an inline table if names lead to it.
fn inline(names: &[String], value: &Value) -> Result<String, EditError> {
    let value = write(value)?;
    Ok(if names.is_empty() { value } else { format!("{{ {} = {value} }}", write_key(names)) })
}

fn write_key(names: &[String]) -> String {
    let mut written = String::new();
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            written.push('.');
        }
        if !name.is_empty() && name.bytes().all(is_bare) {
            written.push_str(name);
        } else {
            json::write_string(name, &mut written);
        }
    }
    written
}

fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// The value as TOML. Its strings are those of JSON, escapes included.
fn write(value: &Value) -> Result<String, EditError> {
    let mut written = String::new();
    match value {
        Value::Null => return Err(EditError::Unwritable("TOML has no null")),
        Value::Boolean(value) => written.push_str(if *value { "true" } else { "false" }),
        Value::Number(text) => {
            let is_whole = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
            if is_whole && text.parse::<i64>().is_err() {
                return Err(EditError::Unwritable("whole numbers of TOML have 64 bits with a sign"));
            }
            written.push_str(text);
        }
        Value::Text(text) => json::write_string(text, &mut written),
        Value::List(items) => {
            let items = items.iter().map(write).collect::<Result<Vec<_>, _>>()?;
            written = format!("[{}]", items.join(", "));
        }
        Value::Map(members) if members.is_empty() => written.push_str("{}"),
        Value::Map(members) => {
            let entry = |(name, value): &(String, Value)| {
                Ok(format!("{} = {}", write_key(core::slice::from_ref(name)), write(value)?))
            };
            let entries = members.iter().map(entry).collect::<Result<Vec<_>, EditError>>()?;
            written = format!("{{ {} }}", entries.join(", "));
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests;
