//! Reads TOML, as far as where each value stands.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{is_bare, Document, Entry, Node, Shape, Table};
use crate::json::SyntaxError;

/// How deep values may nest.
const MAX_DEPTH: usize = 128;

/// Takes a text apart.
pub(super) fn parse(text: &str) -> Result<Document<'_>, SyntaxError> {
    let mut parser = Parser { text, offset: super::super::byte_order_mark(text).len() };
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
