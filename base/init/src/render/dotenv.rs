//! Values set in files of `NAME=value` lines.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use super::EditError;
use crate::json::{self, SyntaxError};
use crate::value::Value;

/// One assignment.
struct Assignment<'a> {
    name: &'a str,
    /// The value's bytes, quotes included.
    value: Range<usize>,
}

/// Reads a text and keeps nothing.
pub(super) fn check(text: &str) -> Result<(), SyntaxError> {
    assignments(text).map(drop)
}

/// The text with `NAME=value`, where the key is the name alone.
pub(super) fn set(text: &str, key: &[String], value: &Value) -> Result<String, EditError> {
    let [name] = key else {
        return Err(EditError::Blocked { depth: 1, found: "a variable, which holds no keys" });
    };
    if !is_name(name) {
        return Err(EditError::Unwritable("it is no variable name"));
    }
    let written = write(value);
    let known = assignments(text)?;
    // Readers take the last of several assignments.
    if let Some(assignment) = known.iter().rev().find(|assignment| assignment.name == name) {
        let Range { start, end } = assignment.value;
        return Ok(format!("{}{written}{}", &text[..start], &text[end..]));
    }
    let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    Ok(format!("{text}{separator}{name}={written}\n"))
}

fn assignments(text: &str) -> Result<Vec<Assignment<'_>>, SyntaxError> {
    let mut found = Vec::new();
    let mut offset = super::byte_order_mark(text).len();
    while offset < text.len() {
        let line_end = text[offset..].find('\n').map_or(text.len(), |newline| offset + newline);
        let line = &text[offset..line_end];
        let content = line.trim_start();
        if content.trim_end().is_empty() || content.starts_with('#') {
            offset = line_end + 1;
            continue;
        }
        let content = content.strip_prefix("export ").map_or(content, str::trim_start);
        let start = offset + (line.len() - content.len());
        let (name, _) = content.split_once('=').ok_or_else(|| SyntaxError::at(text, start, "expected `NAME=value`"))?;
        if !is_name(name.trim_end()) {
            return Err(SyntaxError::at(text, start, "it is no variable name"));
        }
        let behind_equals = start + name.len() + 1;
        let value = value_span(text, behind_equals)?;
        offset = text[value.end..].find('\n').map_or(text.len(), |newline| value.end + newline + 1);
        found.push(Assignment { name: name.trim_end(), value });
    }
    Ok(found)
}

/// Where the value stands that begins behind the `=` at `start`. A quoted value may go on over lines.
fn value_span(text: &str, start: usize) -> Result<Range<usize>, SyntaxError> {
    let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let line = &text[start..line_end];
    let begin = start + (line.len() - line.trim_start_matches([' ', '\t']).len());
    let Some(quote) = text[begin..line_end].chars().next().filter(|char| matches!(char, '"' | '\'')) else {
        let plain = &text[begin..line_end];
        let comment = plain.match_indices('#').find(|(at, _)| *at == 0 || plain[..*at].ends_with([' ', '\t']));
        let length = plain[..comment.map_or(plain.len(), |(at, _)| at)].trim_end().len();
        // Where nothing is, a value goes right behind the `=`, not before a comment that follows.
        return Ok(if length == 0 { start..start } else { begin..begin + length });
    };
    let mut chars = text[begin + 1..].char_indices();
    while let Some((at, char)) = chars.next() {
        if char == quote {
            return behind_quotes(text, begin, begin + 1 + at + 1);
        }
        if char == '\\' && quote == '"' {
            chars.next();
        }
    }
    Err(SyntaxError::at(text, begin, "the quoted value has no end"))
}

/// The value that begins at `begin`, the quotes of which end at `end`. Plain text may follow, and belongs to it.
fn behind_quotes(text: &str, begin: usize, end: usize) -> Result<Range<usize>, SyntaxError> {
    let line = text[end..].split('\n').next().unwrap_or_default();
    let comment = line.match_indices('#').find(|(at, _)| *at == 0 || line[..*at].ends_with([' ', '\t']));
    let more = line[..comment.map_or(line.len(), |(at, _)| at)].trim_end();
    if more.contains(['"', '\'', '\\']) {
        return Err(SyntaxError::at(text, end, "only plain text may follow the quotes"));
    }
    Ok(begin..end + more.len())
}

fn is_name(text: &str) -> bool {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.bytes().all(part) && text.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_')
}

/// The value in the plainest spelling that every reader takes the same way.
fn write(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::Boolean(value) => value.to_string(),
        Value::Number(text) | Value::Text(text) => text.clone(),
        Value::List(items) if items.iter().all(|item| matches!(item, Value::Text(_))) => items
            .iter()
            .filter_map(|item| if let Value::Text(text) = item { Some(text.as_str()) } else { None })
            .collect::<Vec<_>>()
            .join(","),
        Value::List(_) | Value::Map(_) => {
            let mut text = String::new();
            json::write(value, &mut text);
            text
        }
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:@%+,=-".contains(&byte);
    if text.bytes().all(is_plain) {
        return text;
    }
    if !text.contains(['\'', '\n', '\r', '\\']) {
        return format!("'{text}'");
    }
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '"' | '\\' | '$' | '`' => quoted.extend(['\\', char]),
            _ => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    fn set_one(document: &str, name: &str, value: &Value) -> String {
        set(document, &[name.to_owned()], value).unwrap()
    }

    #[test]
    fn a_value_is_replaced_and_everything_around_it_stays() {
        let document = "# head\nexport A = old  # why\n\nB=\"x # y\" # z\nA2=1";
        assert_eq!(set_one(document, "A", &text("new")), document.replace("old", "new"));
        assert_eq!(set_one(document, "B", &text("q r")), document.replace("\"x # y\"", "'q r'"));
        assert_eq!(set_one(document, "A2", &Value::Boolean(true)), document.replace("A2=1", "A2=true"));
    }

    #[test]
    fn a_comment_behind_nothing_stays_one() {
        assert_eq!(set_one("A= # why\n", "A", &text("x")), "A=x # why\n");
    }

    #[test]
    fn a_new_name_goes_to_the_end() {
        assert_eq!(set_one("", "A", &text("1")), "A=1\n");
        assert_eq!(set_one("B=2", "A", &text("1")), "B=2\nA=1\n");
        assert_eq!(set_one("\u{feff}A=2", "A", &text("1")), "\u{feff}A=1");
        assert_eq!(set_one("B=2\n", "A", &text("")), "B=2\nA=\n");
    }

    #[test]
    fn the_last_of_several_assignments_is_the_one() {
        assert_eq!(set_one("A=1\nA=2\n", "A", &text("3")), "A=1\nA=3\n");
    }

    #[test]
    fn quoted_values_may_span_lines() {
        assert_eq!(set_one("A=\"1\nB=2\\\"\n\"\nB=3\n", "B", &text("4")), "A=\"1\nB=2\\\"\n\"\nB=4\n");
    }

    #[test]
    fn what_follows_quotes_belongs_to_the_value() {
        assert_eq!(set_one("A='x'y # c\n", "A", &text("1")), "A=1 # c\n");
        assert!(check("A='x'\"y # z\"\n").is_err());
    }

    #[test]
    fn special_characters_are_quoted() {
        assert_eq!(set_one("", "A", &text("a b#c$d")), "A='a b#c$d'\n");
        assert_eq!(set_one("", "A", &text("it's $5\n\"x\"\\")), "A=\"it's \\$5\\n\\\"x\\\"\\\\\"\n");
        assert_eq!(set_one("", "A", &Value::List(vec![text("x"), text("y")])), "A=x,y\n");
    }

    #[test]
    fn what_is_no_assignment_is_an_error() {
        assert_eq!(check("A=1\nnonsense\n").unwrap_err().line, 2);
        assert_eq!(check("A=1\n9=2\n").unwrap_err().line, 2);
        assert_eq!(check("A='1\n").unwrap_err().problem, "the quoted value has no end");
        assert!(set("", &["a".to_owned(), "b".to_owned()], &text("1")).is_err());
        assert!(set("", &["a\nb".to_owned()], &text("1")).is_err());
    }
}
