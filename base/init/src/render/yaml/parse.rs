//! Reads YAML, as far as where each value stands.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Entry, Node, Shape};
use crate::json::{self, Dialect, SyntaxError};

/// How deep blocks may nest.
const MAX_DEPTH: usize = 128;

/// Takes a text apart.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut parser = Parser { text, offset: super::super::byte_order_mark(text).len() };
    parser.document().map_err(|problem| SyntaxError::at(text, parser.offset, problem))
}

/// Reads line by line. Between calls, `offset` is at the beginning of a line or at a part of it that is still to be read.
struct Parser<'a> {
    text: &'a str,
    offset: usize,
}

type Parsed<T> = Result<T, &'static str>;

impl<'a> Parser<'a> {
    fn document(&mut self) -> Parsed<Node> {
        self.eat_line_that(|line| line.starts_with('%'));
        self.skip_empty_lines();
        self.eat_line_that(|line| is_marker(line, "---"));
        let root = match self.next_indent()? {
            None => Node { span: self.offset..self.offset, start: self.offset, shape: Shape::Empty },
            Some(indent) => self.block(self.offset, indent, 0)?,
        };
        self.skip_empty_lines();
        self.eat_line_that(|line| is_marker(line, "..."));
        self.skip_empty_lines();
        if self.offset < self.text.len() {
            Err("expected the end of the document")
        } else {
            Ok(root)
        }
    }

    /// A block whose first line is indented by `indent`; `from` is behind what leads to it.
    fn block(&mut self, from: usize, indent: usize, depth: usize) -> Parsed<Node> {
        if depth > MAX_DEPTH {
            return Err("blocks are nested too deep");
        }
        self.offset += indent;
        let line = self.line();
        if is_dash(line) {
            self.list(from, indent, depth)
        } else if key_length(line).is_some() {
            self.map(from, indent, depth)
        } else {
            // What stands alone may be indented as its parent is.
            self.inline(from, indent.checked_sub(1))
        }
    }

    /// A mapping whose keys begin in column `indent`, of which the first is here.
    fn map(&mut self, from: usize, indent: usize, depth: usize) -> Parsed<Node> {
        let start = self.offset;
        let mut entries = Vec::new();
        loop {
            let line = self.line();
            let length = key_length(line).ok_or("expected a key and a colon")?;
            let key = decode_key(line[..length].trim_end()).ok_or("the key cannot be read")?;
            self.offset += length + 1;
            let value = self.value(indent, true, depth)?;
            entries.push(Entry { key, value });
            if !self.go_on_at(indent)? {
                let end = entries.last().map_or(start, |entry| entry.value.span.end);
                return Ok(Node { span: from..end, start, shape: Shape::Map { indent, entries } });
            }
            if is_dash(self.line()) {
                return Err("expected a key and a colon");
            }
        }
    }

    /// A sequence whose dashes are in column `indent`, of which the first is here.
    fn list(&mut self, from: usize, indent: usize, depth: usize) -> Parsed<Node> {
        let start = self.offset;
        let mut items = Vec::new();
        loop {
            self.offset += 1;
            let behind = self.offset;
            let spaces = self.line().len() - self.line().trim_start_matches(' ').len();
            let content = &self.line()[spaces..];
            let column = indent + 1 + spaces;
            let is_block = is_dash(content) || key_length(content).is_some();
            let item = if is_block && spaces > 0 && !content.starts_with('#') {
                self.offset += spaces;
                if depth >= MAX_DEPTH {
                    return Err("blocks are nested too deep");
                }
                if is_dash(content) {
                    self.list(behind, column, depth + 1)?
                } else {
                    self.map(behind, column, depth + 1)?
                }
            } else {
                self.value(indent, false, depth)?
            };
            items.push(item);
            // A line that is no item goes on with the mapping the sequence is in.
            let here = self.offset;
            if !self.go_on_at(indent)? || !is_dash(self.line()) {
                self.offset = here;
                let end = items.last().map_or(start, |item| item.span.end);
                return Ok(Node { span: from..end, start, shape: Shape::List { indent, items } });
            }
        }
    }

    /// Goes to the next line if it is indented by `indent`, and stays if it is indented by less.
    fn go_on_at(&mut self, indent: usize) -> Parsed<bool> {
        let here = self.offset;
        match self.next_indent()? {
            Some(next) if next == indent => {
                self.offset += indent;
                Ok(true)
            }
            Some(next) if next > indent => Err("the line is indented more than those before it"),
            _ => {
                self.offset = here;
                Ok(false)
            }
        }
    }

    /// What follows a colon or a dash in a block indented by `indent`.
    fn value(&mut self, indent: usize, after_key: bool, depth: usize) -> Parsed<Node> {
        let from = self.offset;
        let content = self.line().trim_start_matches([' ', '\t']);
        if !(content.is_empty() || content.starts_with('#')) {
            self.offset += self.line().len() - content.len();
            return self.inline(from, Some(indent));
        }
        self.skip_line();
        let here = self.offset;
        match self.next_indent()? {
            Some(next) if next > indent => self.block(from, next, depth + 1),
            // The one block that may be indented as its parent is.
            Some(next) if next == indent && after_key && is_dash(&self.line()[next..]) => {
                self.block(from, next, depth + 1)
            }
            _ => {
                self.offset = here;
                Ok(Node { span: from..from, start: from, shape: Shape::Empty })
            }
        }
    }

    /// A value that begins here, in a block indented by `parent`; it may go on over lines that are indented more.
    fn inline(&mut self, from: usize, parent: Option<usize>) -> Parsed<Node> {
        let start = self.offset;
        let line = self.line();
        let (end, shape) = match line.chars().next() {
            Some('&') => (self.end_of_block_scalar(parent), Shape::Anchored),
            Some('|' | '>' | '!') => (self.end_of_block_scalar(parent), Shape::Opaque),
            Some('?' | '@' | '`' | '%') => return Err("this way of beginning a value is not known"),
            Some(quote @ ('"' | '\'')) => {
                let length = quoted_length(&self.text[start..], quote).ok_or("the quoted value has no end")?;
                (start + length, if length <= line.len() { Shape::Plain } else { Shape::Opaque })
            }
            Some('[' | '{') => {
                let length = bracketed_length(&self.text[start..]).ok_or("the brackets have no end")?;
                (start + length, Shape::Flow)
            }
            _ => {
                let first = without_comment(line);
                let end = self.end_of_plain(parent);
                let is_one_line = end == start + first.len();
                match first {
                    "~" | "null" | "Null" | "NULL" if is_one_line => (start + first.len(), Shape::Null),
                    _ if is_one_line => (start + first.len(), Shape::Plain),
                    _ => (end, Shape::Opaque),
                }
            }
        };
        // Where a value that is taken as it is ends, only a comment may follow.
        self.offset = end;
        let after = self.line();
        if !(after.trim().is_empty() || (after.starts_with([' ', '\t']) && after.trim_start().starts_with('#'))) {
            return Err("expected the end of the line");
        }
        self.skip_line();
        Ok(Node { span: from..end, start, shape })
    }

    /// Where the last of the lines ends that belong to a value because they are indented by more than its parent.
    fn end_of_deeper_lines(&self, parent: Option<usize>) -> usize {
        let mut end = self.offset + self.line().trim_end().len();
        let mut offset =
            self.text[self.offset..].find('\n').map_or(self.text.len(), |newline| self.offset + newline + 1);
        while let Some(rest) = self.text.get(offset..).filter(|rest| !rest.is_empty()) {
            let line = rest.split('\n').next().unwrap_or_default();
            let content = line.trim_start_matches(' ');
            let indent = line.len() - content.len();
            let ends_document = indent == 0 && (line.starts_with("---") || line.starts_with("..."));
            if content.trim().is_empty() {
                // Belongs to the value if another line of it follows.
            } else if parent.is_none_or(|parent| indent > parent) && !ends_document {
                end = offset + line.trim_end().len();
            } else {
                break;
            }
            offset += line.len() + 1;
        }
        end
    }

    /// Where a value ends that may be a block scalar. Empty lines belong to it where it keeps them, and lines of spaces do.
    fn end_of_block_scalar(&self, parent: Option<usize>) -> usize {
        let end = self.end_of_deeper_lines(parent);
        let rest = &self.text[end..];
        let next = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let mut blank = &rest[..rest.len() - next.len()];
        if !next.is_empty() {
            blank = &blank[..blank.rfind('\n').map_or(0, |newline| newline + 1)];
        }
        let has_spaces = blank.split('\n').skip(1).any(|line| !line.trim_end_matches('\r').is_empty());
        if !(has_spaces || self.line().contains('+')) {
            return end;
        }
        let blank = blank.strip_suffix('\n').unwrap_or(blank);
        end + blank.strip_suffix('\r').unwrap_or(blank).len()
    }

    /// Where a value without quotes ends. A comment ends it too.
    fn end_of_plain(&self, parent: Option<usize>) -> usize {
        let last = self.end_of_deeper_lines(parent);
        let (mut end, mut offset) = (self.offset, self.offset);
        for line in self.text[self.offset..last].split_inclusive('\n') {
            let content = without_comment(line);
            if !content.is_empty() {
                end = offset + content.len();
            }
            if !trailing_comment(line).is_empty() {
                break;
            }
            offset += line.len();
        }
        end
    }

    /// The rest of the line, its end excluded.
    fn line(&self) -> &'a str {
        let line = self.text[self.offset..].split('\n').next().unwrap_or_default();
        line.strip_suffix('\r').unwrap_or(line)
    }

    fn skip_line(&mut self) {
        self.offset = self.text[self.offset..].find('\n').map_or(self.text.len(), |newline| self.offset + newline + 1);
    }

    fn eat_line_that(&mut self, is_it: impl Fn(&str) -> bool) {
        if is_it(self.line()) {
            self.skip_line();
        }
    }

    /// Goes to the next line that is neither empty nor a comment.
    fn skip_empty_lines(&mut self) {
        while self.offset < self.text.len() {
            let content = self.line().trim();
            if !(content.is_empty() || content.starts_with('#')) {
                return;
            }
            self.skip_line();
        }
    }

    /// Goes to the next line that says something, and gives how far it is indented. `None` at the document's end.
    fn next_indent(&mut self) -> Parsed<Option<usize>> {
        self.skip_empty_lines();
        let line = self.line();
        let content = line.trim_start_matches(' ');
        if content.starts_with('\t') {
            return Err("lines are indented by spaces, not by tabs");
        }
        if line.starts_with("---") || line.starts_with("...") || content.is_empty() {
            return Ok(None);
        }
        Ok(Some(line.len() - content.len()))
    }
}

/// Whether a line is that marker, and nothing but a comment behind it.
fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| {
        let content = rest.trim();
        content.is_empty() || (content.starts_with('#') && rest.starts_with([' ', '\t']))
    })
}

/// Whether a sequence's item begins here.
fn is_dash(line: &str) -> bool {
    line.strip_prefix('-').is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// How long the key is that this begins with, as far as its colon.
fn key_length(line: &str) -> Option<usize> {
    let ends = |at: usize| line[at + 1..].is_empty() || line[at + 1..].starts_with([' ', '\t']);
    match line.chars().next()? {
        quote @ ('"' | '\'') => {
            let length = quoted_length(line, quote)?;
            let spaces = line[length..].len() - line[length..].trim_start_matches(' ').len();
            let colon = length + spaces;
            (line[colon..].starts_with(':') && ends(colon)).then_some(colon)
        }
        '[' | '{' | '#' | '&' | '*' | '!' | '|' | '>' | '%' | '@' | '`' => None,
        _ => {
            let before_comment = line.len() - trailing_comment(line).len();
            line[..before_comment].match_indices(':').map(|(at, _)| at).find(|at| ends(*at))
        }
    }
}

fn decode_key(text: &str) -> Option<String> {
    if text.starts_with('"') {
        let node = json::parse(text, Dialect::Json5).ok()?;
        return if let json::Shape::Text(key) = node.shape { Some(key) } else { None };
    }
    match text.strip_prefix('\'') {
        Some(rest) => Some(rest.strip_suffix('\'')?.replace("''", "'")),
        None => Some(text.to_owned()),
    }
}

/// How long the quoted value is that this begins with.
fn quoted_length(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, char)) = chars.next() {
        if char == '\\' && quote == '"' {
            chars.next();
        } else if char == quote {
            // In single quotes, a quote is written twice.
            if quote == '"' || chars.peek().is_none_or(|(_, next)| *next != quote) {
                return Some(at + 1);
            }
            chars.next();
        }
    }
    None
}

/// How long the bracketed value is that this begins with.
fn bracketed_length(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    let mut offset = 0;
    let mut before = ' ';
    loop {
        let char = text[offset..].chars().next()?;
        let mut length = char.len_utf8();
        match char {
            '[' | '{' => open += 1,
            ']' | '}' => open -= 1,
            // Inside a word, a quote is a letter like any other.
            '"' | '\'' if before.is_whitespace() || matches!(before, '[' | '{' | ',' | ':') => {
                length = quoted_length(&text[offset..], char)?;
            }
            '#' if before.is_whitespace() => length = text[offset..].find('\n')?,
            _ => {}
        }
        offset += length;
        if open == 0 {
            return Some(offset);
        }
        before = char;
    }
}

/// A line without its comment and the white space in front of that.
fn without_comment(line: &str) -> &str {
    line[..line.len() - trailing_comment(line).len()].trim_end()
}

/// The comment at the end of a line, which begins with `#` behind white space or at the line's beginning.
fn trailing_comment(line: &str) -> &str {
    let mut marks = line.match_indices('#').map(|(at, _)| at);
    let start = marks.find(|at| *at == 0 || line[..*at].ends_with([' ', '\t']));
    start.map_or("", |start| &line[start..])
}
