//! Values set in TOML texts.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::EditError;
use crate::json::{self, SyntaxError};
use crate::value::Value;

/// How deep values may nest.
const MAX_DEPTH: usize = 128;

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

fn parse(text: &str) -> Result<Document<'_>, SyntaxError> {
    let mut parser = Parser { text, offset: super::byte_order_mark(text).len() };
    let mut document = Document { text, tables: Vec::new(), lists: Vec::new() };
    document.tables.push(Table { path: Vec::new(), body: 0, entries: Vec::new() });
    parser.document(&mut document).map_err(|problem| SyntaxError::at(text, parser.offset, problem))?;
    Ok(document)
}

struct Parser<'a> {
    text: &'a str,
    offset: usize,
}

type Parsed<T> = Result<T, &'static str>;

impl<'a> Parser<'a> {
    fn document(&mut self, document: &mut Document<'_>) -> Parsed<()> {
        loop {
            self.skip_lines();
            match self.peek() {
                None => return Ok(()),
                Some('[') => {
                    let table = self.header(&mut document.lists)?;
                    document.tables.push(table);
                }
                Some(_) => {
                    let entry = self.entry(0)?;
                    self.end_of_line()?;
                    document.tables.last_mut().expect("there is a first table").entries.push(entry);
                }
            }
        }
    }

    fn header(&mut self, lists: &mut Vec<(Vec<String>, usize)>) -> Parsed<Table> {
        let is_listed = self.rest().starts_with("[[");
        let (open, close) = if is_listed { (2, "]]") } else { (1, "]") };
        self.offset += open;
        let names = self.key()?;
        if !self.eat(close) {
            return Err("the header has no end");
        }
        self.end_of_line()?;
        // A name on the way that is an array of tables means the last of them.
        let mut path = Vec::new();
        let last = names.len() - 1;
        for (index, name) in names.into_iter().enumerate() {
            path.push(name);
            let is_new = is_listed && index == last;
            let known = lists.iter_mut().find(|(list, _)| *list == path);
            let number = match known {
                Some((_, length)) => {
                    *length += usize::from(is_new);
                    Some(*length - 1)
                }
                None if is_new => {
                    lists.push((path.clone(), 1));
                    Some(0)
                }
                None => None,
            };
            path.extend(number.map(|number| format!("{number}")));
        }
        Ok(Table { path, body: self.offset, entries: Vec::new() })
    }

    fn entry(&mut self, depth: usize) -> Parsed<Entry> {
        let start = self.offset;
        let key = self.key()?;
        if !self.eat("=") {
            return Err("expected `=` after the key");
        }
        self.skip_spaces();
        let value = self.value(depth)?;
        Ok(Entry { key, start, value })
    }

    /// A key and the dots in it, with the white space around it.
    fn key(&mut self) -> Parsed<Vec<String>> {
        let mut names = Vec::new();
        loop {
            self.skip_spaces();
            let name = match self.peek() {
                Some(quote @ ('"' | '\'')) => self.string(quote)?,
                _ => {
                    let length = self.rest().bytes().take_while(|byte| is_bare(*byte)).count();
                    let name = self.rest()[..length].to_owned();
                    self.offset += length;
                    if name.is_empty() {
                        return Err("expected a key");
                    }
                    name
                }
            };
            names.push(name);
            self.skip_spaces();
            if !self.eat(".") {
                return Ok(names);
            }
        }
    }

    fn value(&mut self, depth: usize) -> Parsed<Node> {
        if depth > MAX_DEPTH {
            return Err("values are nested too deep");
        }
        let start = self.offset;
        let shape = match self.peek() {
            Some(quote @ ('"' | '\'')) => {
                let triple = if quote == '"' { "\"\"\"" } else { "'''" };
                if self.eat(triple) {
                    self.long_string(quote, triple)?;
                } else {
                    self.string(quote)?;
                }
                Shape::Plain
            }
            Some('[') => Shape::List(self.parts("]", |parser| parser.value(depth + 1))?),
            Some('{') => Shape::Table(self.parts("}", |parser| parser.entry(depth + 1))?),
            _ => {
                self.scalar()?;
                Shape::Plain
            }
        };
        Ok(Node { span: start..self.offset, shape })
    }

    /// The parts between brackets, with commas between them and perhaps behind the last.
    fn parts<T>(&mut self, close: &str, part: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.offset += 1;
        let mut parts = Vec::new();
        loop {
            self.skip_lines();
            if self.eat(close) {
                return Ok(parts);
            }
            parts.push(part(self)?);
            self.skip_lines();
            if !self.eat(",") {
                return if self.eat(close) { Ok(parts) } else { Err("expected `,` or the closing bracket") };
            }
        }
    }

    /// A number, a truth value, or a date, which may hold one space.
    fn scalar(&mut self) -> Parsed<()> {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b':' | b'_');
        let length = self.rest().bytes().take_while(|byte| is_part(byte)).count();
        let word = &self.rest()[..length];
        let unsigned = word.trim_start_matches(['+', '-']);
        let is_value = matches!(word, "true" | "false")
            || matches!(unsigned, "inf" | "nan")
            || unsigned.starts_with(|char: char| char.is_ascii_digit());
        if !is_value {
            return Err("expected a value");
        }
        let is_date = word.len() == 10 && word.bytes().filter(|byte| *byte == b'-').count() == 2;
        self.offset += length;
        let time = self
            .rest()
            .strip_prefix(' ')
            .filter(|rest| is_date && rest.starts_with(|char: char| char.is_ascii_digit()));
        if let Some(time) = time {
            self.offset += 1 + time.bytes().take_while(|byte| is_part(byte)).count();
        }
        Ok(())
    }

    /// A string on one line, decoded.
    fn string(&mut self, quote: char) -> Parsed<String> {
        self.offset += 1;
        let mut decoded = String::new();
        loop {
            let char = self.next().ok_or("the string has no end")?;
            match char {
                '\n' => return Err("the string has no end on its line"),
                '\\' if quote == '"' => decoded.push(self.escape()?),
                _ if char == quote => return Ok(decoded),
                _ => decoded.push(char),
            }
        }
    }

    /// A string over several lines, its three opening quotes read.
    fn long_string(&mut self, quote: char, triple: &str) -> Parsed<()> {
        loop {
            if self.eat(triple) {
                // One or two more quotes belong to the string.
                while self.rest().starts_with(quote) {
                    self.offset += 1;
                }
                return Ok(());
            }
            let char = self.next().ok_or("the string has no end")?;
            if char == '\\' && quote == '"' {
                self.next().ok_or("the string has no end")?;
            }
        }
    }

    fn escape(&mut self) -> Parsed<char> {
        Ok(match self.next().ok_or("the string has no end")? {
            'b' => '\x08',
            't' => '\t',
            'n' => '\n',
            'f' => '\x0c',
            'r' => '\r',
            'e' => '\x1b',
            '"' => '"',
            '\\' => '\\',
            'u' => self.unicode(4)?,
            'U' => self.unicode(8)?,
            _ => return Err("there is no such escape"),
        })
    }

    fn unicode(&mut self, digits: usize) -> Parsed<char> {
        let text = self.rest().get(..digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let char = text.and_then(|text| u32::from_str_radix(text, 16).ok()).and_then(char::from_u32);
        self.offset += digits * usize::from(char.is_some());
        char.ok_or("the escape is no character")
    }

    fn end_of_line(&mut self) -> Parsed<()> {
        self.skip_spaces();
        if self.peek() == Some('#') {
            self.offset += self.rest().find('\n').unwrap_or(self.rest().len());
        }
        if self.rest().is_empty() || self.eat("\r\n") || self.eat("\n") {
            Ok(())
        } else {
            Err("expected the end of the line")
        }
    }

    fn skip_spaces(&mut self) {
        self.offset += self.rest().bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    }

    /// Skips white space, line ends and comments.
    fn skip_lines(&mut self) {
        loop {
            self.offset += self.rest().bytes().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
            if self.peek() != Some('#') {
                return;
            }
            self.offset += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.offset += char.len_utf8();
        Some(char)
    }

    fn eat(&mut self, expected: &str) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.offset += expected.len();
        }
        found
    }
}

#[cfg(test)]
#[path = "toml_tests.rs"]
mod tests;
