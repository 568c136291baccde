//! What setting a value means, free of any format, and documents to set values in.

use super::*;
use alloc::collections::BTreeSet;
use std::ops::Range;

/// `value` with `new` at `key`, if that key can be there.
pub(super) fn apply(value: &Value, key: &[String], new: &Value) -> Option<Value> {
    let Some((name, rest)) = key.split_first() else {
        return Some(new.clone());
    };
    match value {
        Value::Map(members) => {
            let mut members = members.clone();
            match members.iter_mut().rev().find(|(known, _)| known == name) {
                Some((_, value)) => *value = apply(value, rest, new)?,
                None => members.push((name.clone(), nested(rest, new))),
            }
            Some(Value::Map(members))
        }
        Value::List(items) => {
            let index: usize = name.parse().ok()?;
            let mut items = items.clone();
            if index == items.len() {
                items.push(nested(rest, new));
            } else {
                let changed = apply(items.get(index)?, rest, new)?;
                items[index] = changed;
            }
            Some(Value::List(items))
        }
        Value::Null => Some(nested(key, new)),
        Value::Boolean(_) | Value::Number(_) | Value::Text(_) => None,
    }
}

fn nested(names: &[String], value: &Value) -> Value {
    names.iter().rev().fold(value.clone(), |value, name| Value::Map(vec![(name.clone(), value)]))
}

/// The value as others read it.
pub(super) fn normal(value: &Value) -> Other {
    match value {
        Value::Null => Other::Null,
        Value::Boolean(value) => Other::Bool(*value),
        Value::Number(text) => serde_json::from_str(text).unwrap(),
        Value::Text(text) => Other::String(text.clone()),
        Value::List(items) => Other::Array(items.iter().map(normal).collect()),
        Value::Map(members) => {
            Other::Object(members.iter().map(|(name, value)| (name.clone(), normal(value))).collect())
        }
    }
}

/// What others read, as a value.
pub(super) fn from_other(other: &Other) -> Value {
    match other {
        Other::Null => Value::Null,
        Other::Bool(value) => Value::Boolean(*value),
        Other::Number(number) => Value::Number(number.to_string()),
        Other::String(text) => Value::Text(text.clone()),
        Other::Array(items) => Value::List(items.iter().map(from_other).collect()),
        Other::Object(members) => {
            Value::Map(members.iter().map(|(name, value)| (name.clone(), from_other(value))).collect())
        }
    }
}

/// Decisions, as many as there are bytes; after that, always the first choice.
#[derive(Debug)]
pub(super) struct Choices<'a>(pub(super) &'a [u8]);

impl Choices<'_> {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % limit
    }

    pub(super) fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }
}

/// A document, and where in it each value stands that stands in one place.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) text: String,
    pub(super) spans: Vec<(Vec<String>, Range<usize>)>,
    /// How many comments are in it. Each is called `remark`, has a number, and ends with `;`.
    pub(super) comments: usize,
}

impl Written {
    pub(super) fn comment(&mut self) -> String {
        self.comments += 1;
        format!("remark {};", self.comments)
    }

    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }
}

const NAMES: [&str; 16] =
    ["a", "b", "c", "port", "gateway", "0", "1", "true", "null", "x y", "é", "#k", "a.b", "k: v", "\"q\"", "-"];

pub(super) fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => proptest::sample::select(&NAMES[..]).prop_map(str::to_owned), 1 => text().prop_filter("no name", |text| !text.is_empty())]
}

/// Text of every kind: what other formats take for something else, and any characters.
pub(super) fn text() -> impl Strategy<Value = String> {
    const WORDS: [&str; 24] = [
        "",
        "word",
        "two words",
        "true",
        "No",
        "null",
        "~",
        "12",
        "1e3",
        "0x1f",
        ".5",
        "1:30",
        "2001-01-01",
        "- a",
        "a: b",
        "a #b",
        "#",
        "it's",
        "say \"x\"",
        "back\\slash",
        "line\nline\n",
        " pad ",
        "${X} `x`",
        "[1, {2}]",
    ];
    prop_oneof![
        3 => proptest::sample::select(&WORDS[..]).prop_map(str::to_owned),
        1 => proptest::collection::vec(any::<char>(), 0..6).prop_map(String::from_iter),
        1 => proptest::string::string_regex("[ -~\u{80}-\u{9f}\u{feff}\n\t]{0,12}").unwrap(),
    ]
}

pub(super) fn scalar() -> impl Strategy<Value = Value> {
    let number = |text: &str| Value::Number(text.to_owned());
    prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Boolean),
        1 => (-1_000_000_i64..1_000_000).prop_map(|number| Value::Number(number.to_string())),
        1 => proptest::sample::select(&["0", "0.5", "-2.25", "1e3", "9007199254740991"][..]).prop_map(number),
        3 => text().prop_map(Value::Text),
    ]
}

pub(super) fn tree() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            2 => members(inner),
        ]
    })
}

/// A document's root, which has names.
pub(super) fn root() -> impl Strategy<Value = Value> {
    members(tree())
}

fn members(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    proptest::collection::vec((name(), value), 0..5).prop_map(|mut members| {
        let mut known = BTreeSet::new();
        members.retain(|(name, _)| known.insert(name.clone()));
        Value::Map(members)
    })
}

/// Keys and their values. Half of the keys are led by `choices` to what is there.
pub(super) fn overrides() -> impl Strategy<Value = Vec<(Vec<String>, Value, Vec<u8>)>> {
    let key = proptest::collection::vec(name(), 1..4);
    let steps = proptest::collection::vec(any::<u8>(), 0..5);
    proptest::collection::vec((key, tree(), steps), 1..4)
}

/// A key that leads into `value` by these steps, and then goes on with the last names of `key`.
pub(super) fn lead(value: &Value, key: &[String], steps: &[u8]) -> Vec<String> {
    let Some((step, steps)) = steps.split_first() else {
        return key.to_vec();
    };
    if *step < 32 {
        return key[..1].to_vec();
    }
    let (name, value) = match value {
        Value::Map(members) if !members.is_empty() => members[usize::from(*step) % members.len()].clone(),
        Value::List(items) if !items.is_empty() => {
            let index = usize::from(*step) % items.len();
            (index.to_string(), items[index].clone())
        }
        Value::List(_) => return vec!["0".to_owned()],
        _ => return Vec::new(),
    };
    let mut path = vec![name];
    path.extend(lead(&value, key, steps));
    path
}
