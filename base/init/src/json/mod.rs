//! JSON and JSON5, read into a tree that knows where each part stands in the text.
//!
//! Nothing is converted: numbers stay text, so a value of any size passes through unharmed. The depth is bounded, so hostile
//! input cannot exhaust the stack.

mod write;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::value::Value;
pub(crate) use write::{write, write_string};

/// Which of the two languages a text is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// RFC 8259, nothing more.
    Json,
    /// JSON5: comments, trailing commas, unquoted keys, more spellings of strings and numbers.
    Json5,
}

/// How deep values may nest.
const MAX_DEPTH: usize = 128;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// The bytes it takes.
    pub(crate) span: Range<usize>,
    /// What it is.
    pub(crate) shape: Shape,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number; its text is the span's.
    Number,
    /// A string, decoded.
    Text(String),
    /// An array.
    Array(Vec<Node>),
    /// An object.
    Object(Vec<Member>),
}

/// A name and a value in an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    /// The name, decoded.
    pub(crate) key: String,
    /// The bytes the name takes, quotes included.
    pub(crate) key_span: Range<usize>,
    /// The value.
    pub(crate) value: Node,
}

/// Why a text is not in its language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Line, from 1.
    pub(crate) line: usize,
    /// Column in characters, from 1.
    pub(crate) column: usize,
    /// What is wrong.
    pub(crate) problem: &'static str,
}

impl SyntaxError {
    /// The error at a byte offset of `text`.
    pub(crate) fn at(text: &str, offset: usize, problem: &'static str) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1, problem }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.problem)
    }
}

/// Reads a whole text as one value.
///
/// # Errors
/// The first place where the text leaves its language.
pub(crate) fn parse(text: &str, dialect: Dialect) -> Result<Node, SyntaxError> {
    let mut parser = Parser { text, offset: 0, dialect };
    let result = parser.value(0).and_then(|node| {
        parser.skip_trivia()?;
        if parser.offset < text.len() {
            return Err("unexpected text after the value");
        }
        Ok(node)
    });
    result.map_err(|problem| SyntaxError::at(text, parser.offset, problem))
}

/// The value a tree stands for. Numbers JSON cannot spell (`Infinity`, hexadecimal) stay as they were written.
pub(crate) fn to_value(node: &Node, text: &str) -> Value {
    match &node.shape {
        Shape::Null => Value::Null,
        Shape::Boolean(value) => Value::Boolean(*value),
        Shape::Number => Value::Number(text[node.span.clone()].to_owned()),
        Shape::Text(value) => Value::Text(value.clone()),
        Shape::Array(items) => Value::List(items.iter().map(|item| to_value(item, text)).collect()),
        Shape::Object(members) => {
            Value::Map(members.iter().map(|member| (member.key.clone(), to_value(&member.value, text))).collect())
        }
    }
}

/// Whether a text is one number in the grammar of JSON.
pub(crate) fn is_number(text: &str) -> bool {
    let mut parser = Parser { text, offset: 0, dialect: Dialect::Json };
    parser.number().is_ok() && parser.offset == text.len()
}

struct Parser<'a> {
    text: &'a str,
    offset: usize,
    dialect: Dialect,
}

type Parsed<T> = Result<T, &'static str>;

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.offset..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.offset += expected.len_utf8();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let follows = |char: char| char.is_alphanumeric() || char == '_' || char == '$';
        let found = self.rest().strip_prefix(word).is_some_and(|after| !after.starts_with(follows));
        if found {
            self.offset += word.len();
        }
        found
    }

    fn eat_digits(&mut self, is_digit: fn(&u8) -> bool) -> usize {
        let count = self.rest().bytes().take_while(is_digit).count();
        self.offset += count;
        count
    }

    fn json5(&self) -> bool {
        self.dialect == Dialect::Json5
    }

    /// Skips white space and comments.
    fn skip_trivia(&mut self) -> Parsed<()> {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\n' | '\r') => self.offset += 1,
                Some(char) if self.json5() && (char.is_whitespace() || char == '\u{feff}') => {
                    self.offset += char.len_utf8()
                }
                Some('/') if self.json5() => {
                    if self.rest().starts_with("//") {
                        let end = |char| matches!(char, '\n' | '\r' | '\u{2028}' | '\u{2029}');
                        self.offset += self.rest().find(end).unwrap_or(self.rest().len());
                    } else if self.rest().starts_with("/*") {
                        let length = self.rest()[2..].find("*/").ok_or("the comment has no end")?;
                        self.offset += length + 4;
                    } else {
                        return Err("a comment begins with // or /*");
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    fn value(&mut self, depth: usize) -> Parsed<Node> {
        if depth > MAX_DEPTH {
            return Err("values are nested too deep");
        }
        self.skip_trivia()?;
        let start = self.offset;
        let shape = match self.peek() {
            None => return Err("a value is missing"),
            Some('{') => Shape::Object(self.object(depth)?),
            Some('[') => Shape::Array(self.array(depth)?),
            Some('"') => Shape::Text(self.string('"')?),
            Some('\'') if self.json5() => Shape::Text(self.string('\'')?),
            _ if self.eat_word("true") => Shape::Boolean(true),
            _ if self.eat_word("false") => Shape::Boolean(false),
            _ if self.eat_word("null") => Shape::Null,
            Some('-' | '+' | '.' | '0'..='9' | 'I' | 'N') => {
                self.number()?;
                Shape::Number
            }
            Some(_) => return Err("a value begins otherwise"),
        };
        Ok(Node { span: start..self.offset, shape })
    }

    fn object(&mut self, depth: usize) -> Parsed<Vec<Member>> {
        self.offset += 1;
        let mut members = Vec::new();
        loop {
            self.skip_trivia()?;
            if self.peek() == Some('}') && (members.is_empty() || self.json5()) {
                self.offset += 1;
                return Ok(members);
            }
            let start = self.offset;
            let key = self.key()?;
            let key_span = start..self.offset;
            self.skip_trivia()?;
            if !self.eat(':') {
                return Err("expected `:` after the key");
            }
            let value = self.value(depth + 1)?;
            members.push(Member { key, key_span, value });
            self.skip_trivia()?;
            if !self.eat(',') {
                return if self.eat('}') { Ok(members) } else { Err("expected `,` or `}`") };
            }
        }
    }

    fn array(&mut self, depth: usize) -> Parsed<Vec<Node>> {
        self.offset += 1;
        let mut items = Vec::new();
        loop {
            self.skip_trivia()?;
            if self.peek() == Some(']') && (items.is_empty() || self.json5()) {
                self.offset += 1;
                return Ok(items);
            }
            items.push(self.value(depth + 1)?);
            self.skip_trivia()?;
            if !self.eat(',') {
                return if self.eat(']') { Ok(items) } else { Err("expected `,` or `]`") };
            }
        }
    }

    fn key(&mut self) -> Parsed<String> {
        match self.peek() {
            Some('"') => self.string('"'),
            Some('\'') if self.json5() => self.string('\''),
            Some(_) if self.json5() => self.identifier(),
            _ => Err("expected a key in double quotes"),
        }
    }

    fn identifier(&mut self) -> Parsed<String> {
        let mut name = String::new();
        while let Some(char) = self.peek() {
            let part = if char == '\\' {
                if !self.rest().starts_with("\\u") {
                    return Err("a key may hold no such escape");
                }
                self.offset += 2;
                self.unicode_escape()?
            } else {
                if !(is_key_start(char) || (!name.is_empty() && is_key_part(char))) {
                    break;
                }
                self.offset += char.len_utf8();
                char
            };
            name.push(part);
        }
        if name.is_empty() {
            Err("expected a key")
        } else {
            Ok(name)
        }
    }

    fn string(&mut self, quote: char) -> Parsed<String> {
        self.offset += 1;
        let mut decoded = String::new();
        loop {
            let char = self.peek().ok_or("the string has no end")?;
            match char {
                _ if char == quote => {
                    self.offset += 1;
                    return Ok(decoded);
                }
                '\\' => {
                    self.offset += 1;
                    if let Some(char) = self.escape()? {
                        decoded.push(char);
                    }
                }
                '\n' | '\r' => return Err("the string has no end on its line"),
                '\0'..='\x1f' if !self.json5() => return Err("a control character must be escaped"),
                _ => {
                    self.offset += char.len_utf8();
                    decoded.push(char);
                }
            }
        }
    }

    /// What an escape stands for, the backslash read; nothing for the end of a line.
    fn escape(&mut self) -> Parsed<Option<char>> {
        let char = self.peek().ok_or("the string has no end")?;
        self.offset += char.len_utf8();
        Ok(Some(match char {
            '"' | '\\' | '/' => char,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => self.unicode_escape()?,
            _ if !self.json5() => return Err("there is no such escape"),
            'v' => '\x0b',
            '0' if !self.peek().is_some_and(|next| next.is_ascii_digit()) => '\0',
            'x' => char::from(u8::try_from(self.hexadecimal(2)?).expect("two digits fit a byte")),
            '\r' => {
                self.eat('\n');
                return Ok(None);
            }
            '\n' | '\u{2028}' | '\u{2029}' => return Ok(None),
            '0'..='9' => return Err("there is no such escape"),
            other => other,
        }))
    }

    /// The character of `\uXXXX`, of both halves where they are a pair. A half alone stands for no character.
    fn unicode_escape(&mut self) -> Parsed<char> {
        let unit = self.hexadecimal(4)?;
        if !(0xd800..0xdc00).contains(&unit) {
            return Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let after_first = self.offset;
        if self.rest().starts_with("\\u") {
            self.offset += 2;
            let low = self.hexadecimal(4)?;
            if (0xdc00..0xe000).contains(&low) {
                let point = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(point).expect("two halves make a character"));
            }
            self.offset = after_first;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hexadecimal(&mut self, digits: usize) -> Parsed<u32> {
        let text = self.rest().get(..digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let number = text.and_then(|text| u32::from_str_radix(text, 16).ok()).ok_or("expected hexadecimal digits")?;
        self.offset += digits;
        Ok(number)
    }

    fn number(&mut self) -> Parsed<()> {
        let _ = self.eat('-') || (self.json5() && self.eat('+'));
        if self.json5() {
            if self.eat_word("Infinity") || self.eat_word("NaN") {
                return Ok(());
            }
            if self.rest().starts_with("0x") || self.rest().starts_with("0X") {
                self.offset += 2;
                return if self.eat_digits(u8::is_ascii_hexdigit) > 0 {
                    self.end_of_number()
                } else {
                    Err("the number has no digits")
                };
            }
        }
        let leading_zero = self.peek() == Some('0');
        let whole = self.eat_digits(u8::is_ascii_digit);
        if leading_zero && whole > 1 {
            return Err("a number may not begin with 0");
        }
        let mut fraction = None;
        if self.eat('.') {
            fraction = Some(self.eat_digits(u8::is_ascii_digit));
        }
        let complete = match (whole, fraction) {
            (0, None | Some(0)) => false,
            (0, Some(_)) | (_, Some(0)) => self.json5(),
            (_, None | Some(_)) => true,
        };
        if !complete {
            return Err("the number is not complete");
        }
        if self.eat('e') || self.eat('E') {
            let _ = self.eat('-') || self.eat('+');
            if self.eat_digits(u8::is_ascii_digit) == 0 {
                return Err("the number is not complete");
            }
        }
        self.end_of_number()
    }

    fn end_of_number(&self) -> Parsed<()> {
        if self.peek().is_some_and(is_key_part) {
            Err("the number has no end")
        } else {
            Ok(())
        }
    }
}

/// Whether an unquoted key of JSON5 may begin with this.
pub(crate) fn is_key_start(char: char) -> bool {
    char.is_alphabetic() || char == '_' || char == '$'
}

/// Whether an unquoted key of JSON5 may go on with this.
pub(crate) fn is_key_part(char: char) -> bool {
    is_key_start(char) || char.is_numeric() || matches!(char, '\u{200c}' | '\u{200d}')
}

#[cfg(test)]
mod tests;
