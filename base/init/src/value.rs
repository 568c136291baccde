//! Values an override puts into a configuration, and how they are read from a variable's text.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::json;

/// A value, free of any format's spelling.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// No value.
    Null,
    /// True or false.
    Boolean(bool),
    /// A number in JSON's grammar, as it was written: no digit is ever lost.
    Number(String),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<Value>),
    /// Named values, in their order.
    Map(Vec<(String, Value)>),
}

/// What a variable's text must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text, as it is.
    String,
    /// A whole number of at most 64 bits.
    Integer,
    /// A number, with or without a fraction.
    Number,
    /// `true` or `false`, or a usual word for them.
    Boolean,
    /// Texts separated by commas.
    List,
    /// Any JSON value.
    Json,
}

impl Kind {
    /// The kind with that name in the manifest.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            "list" => Self::List,
            "json" => Self::Json,
            _ => return None,
        })
    }

    /// Reads a variable's text. `None` means that the text is not of this kind.
    pub(crate) fn read(self, text: &str) -> Option<Value> {
        match self {
            Self::String => Some(Value::Text(text.to_owned())),
            Self::Integer => integer(text.trim()).map(Value::Number),
            Self::Number => number(text.trim()).map(Value::Number),
            Self::Boolean => boolean(text.trim()).map(Value::Boolean),
            Self::List => Some(Value::List(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Value::Text(item.to_owned()))
                    .collect(),
            )),
            Self::Json => {
                let node = json::parse(text, json::Dialect::Json).ok()?;
                Some(json::to_value(&node, text))
            }
        }
    }
}

/// Names the kind in a sentence that begins with "expected".
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "text",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::List => "a comma-separated list",
            Self::Json => "a JSON value",
        })
    }
}

/// The number's canonical text, if it is whole and fits 64 bits.
fn integer(text: &str) -> Option<String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.to_string());
    }
    text.parse::<u64>().ok().map(|number| number.to_string())
}

fn number(text: &str) -> Option<String> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    json::is_number(unsigned).then(|| unsigned.to_owned())
}

fn boolean(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["true", "yes", "on", "1"]) {
        Some(true)
    } else if is(&["false", "no", "off", "0"]) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn number_value(text: &str) -> Option<Value> {
        Some(Value::Number(text.to_owned()))
    }

    #[test]
    fn integers_keep_every_digit_and_lose_their_noise() {
        assert_eq!(Kind::Integer.read(" 18789\n"), number_value("18789"));
        assert_eq!(Kind::Integer.read("+7"), number_value("7"));
        assert_eq!(Kind::Integer.read("007"), number_value("7"));
        assert_eq!(Kind::Integer.read("-0"), number_value("0"));
        assert_eq!(Kind::Integer.read("18446744073709551615"), number_value("18446744073709551615"));
        assert_eq!(Kind::Integer.read("-9223372036854775808"), number_value("-9223372036854775808"));
        for bad in ["", "-", "1.0", "1e3", "0x10", "18446744073709551616", "1 2", "٣"] {
            assert_eq!(Kind::Integer.read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn numbers_are_in_the_grammar_of_json() {
        assert_eq!(Kind::Number.read("0.70"), number_value("0.70"));
        assert_eq!(Kind::Number.read("1e-3"), number_value("1e-3"));
        for bad in ["", "NaN", "inf", ".5", "5.", "01", "0x1", "1_000"] {
            assert_eq!(Kind::Number.read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn booleans_have_the_usual_words() {
        assert_eq!(Kind::Boolean.read("TRUE"), Some(Value::Boolean(true)));
        assert_eq!(Kind::Boolean.read("off "), Some(Value::Boolean(false)));
        assert_eq!(Kind::Boolean.read("maybe"), None);
    }

    #[test]
    fn lists_drop_what_is_empty() {
        let list =
            |items: &[&str]| Some(Value::List(items.iter().map(|item| Value::Text((*item).to_owned())).collect()));
        assert_eq!(Kind::List.read("a, b ,,c,"), list(&["a", "b", "c"]));
        assert_eq!(Kind::List.read(" , "), list(&[]));
    }

    #[test]
    fn json_is_strict() {
        let expected = Value::Map(vec![("a".into(), Value::List(vec![Value::Null, Value::Number("1.50".into())]))]);
        assert_eq!(Kind::Json.read(r#" {"a": [null, 1.50]} "#), Some(expected));
        assert_eq!(Kind::Json.read("{a: 1}"), None);
        assert_eq!(Kind::Json.read("1 2"), None);
        assert_eq!(Kind::Json.read(&"[".repeat(100_000)), None);
    }
}
