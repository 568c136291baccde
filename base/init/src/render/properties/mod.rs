//! What holds for every document and every override: other readers see exactly what was asked for, and not a byte else has
//! changed. `PROPTEST_CASES` says how many are tried.

mod fuzz;
mod model;
mod texts;
mod toml_text;

use super::*;
use crate::json::Dialect;
use alloc::borrow::ToOwned;
use alloc::vec;
use alloc::vec::Vec;
use model::{apply, from_other, lead, normal, Choices, Written};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::Value as Other;

/// Reads a document as others do.
fn read(format: Format, text: &str) -> Result<Other, String> {
    match format {
        Format::Json => serde_json::from_str(text).map_err(|error| error.to_string()),
        Format::Json5 => json5::from_str(text).map_err(|error| error.to_string()),
        Format::Toml => {
            let table: ::toml::Table = ::toml::from_str(text).map_err(|error| error.to_string())?;
            serde_json::to_value(table).map_err(|error| error.to_string())
        }
        Format::Yaml => {
            // A document in which nothing is set is null.
            let value: Option<Other> = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
            Ok(value.filter(|value| !value.is_null()).unwrap_or_else(|| Other::Object(Default::default())))
        }
        Format::Env => {
            let pairs = dotenvy::from_read_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
            let pairs = pairs.map_err(|error| error.to_string())?;
            Ok(pairs.into_iter().map(|(name, value)| (name, Other::String(value))).collect())
        }
    }
}

/// The value at `key`, or the null that is on the way to it.
fn existing<'a>(value: &'a Value, key: &[String]) -> Option<(usize, &'a Value)> {
    let mut found = value;
    for (depth, name) in key.iter().enumerate() {
        found = match found {
            Value::Map(members) => &members.iter().rev().find(|(known, _)| known == name)?.1,
            Value::List(items) => items.get(name.parse::<usize>().ok()?)?,
            Value::Null => return Some((depth, found)),
            Value::Boolean(_) | Value::Number(_) | Value::Text(_) => return None,
        };
    }
    Some((key.len(), found))
}

/// What surrounds the value of the first override is as it was.
fn check_untouched(document: &Written, value: &Value, key: &[String], changed: &str) -> TestCaseResult {
    let old = &document.text;
    let Some((depth, _)) = existing(value, key) else {
        let mut rest = changed.chars().filter(|char| !char.is_whitespace());
        let mut kept = old.chars().filter(|char| !char.is_whitespace());
        prop_assert!(kept.all(|char| rest.any(|other| other == char)), "not all is kept:\n{changed}");
        for number in 1..=document.comments {
            prop_assert!(changed.contains(&format!("remark {number};")), "remark {number} is gone:\n{changed}");
        }
        return Ok(());
    };
    if let Some((_, span)) = document.spans.iter().find(|(path, _)| *path == key[..depth]) {
        prop_assert!(changed.starts_with(&old[..span.start]), "what is before has changed:\n{old}\n---\n{changed}");
        prop_assert!(changed.ends_with(&old[span.end..]), "what is behind has changed:\n{old:?}\n---\n{changed:?}");
    }
    Ok(())
}

/// Whether the format may refuse what is possible in others.
fn may_refuse(format: Format, error: &EditError) -> bool {
    let of_tables = |found: &str| matches!(found, "a table" | "a list of tables");
    let is_table = matches!(error, EditError::Blocked { found, .. } if of_tables(found));
    format == Format::Toml && (is_table || matches!(error, EditError::Unwritable(_)))
}

type Overrides = Vec<(Vec<String>, Value, Vec<u8>)>;

fn check_overrides(format: Format, document: &Written, value: &Value, overrides: &Overrides) -> TestCaseResult {
    let (mut text, mut model) = (document.text.clone(), value.clone());
    prop_assert_eq!(read(format, &text), Ok(normal(&model)), "\n{}", text);
    prop_assert!(check(format, &text).is_ok(), "{:?}\n{}", check(format, &text), text);
    for (index, (key, new, steps)) in overrides.iter().enumerate() {
        let key = lead(&model, key, steps);
        if key.is_empty() {
            continue;
        }
        let expected = apply(&model, &key, new);
        match set(format, &text, &key, new) {
            Ok(changed) => {
                let Some(expected) = expected else {
                    return Err(TestCaseError::fail(format!("{key:?} was set in\n{text}")));
                };
                prop_assert_eq!(read(format, &changed), Ok(normal(&expected)), "{:?}\n{}\n---\n{}", key, text, changed);
                let again = set(format, &changed, &key, new);
                prop_assert_eq!(again.as_ref(), Ok(&changed), "set twice");
                if index == 0 {
                    check_untouched(document, value, &key, &changed)?;
                }
                (text, model) = (changed, expected);
            }
            Err(error) => {
                let is_right = expected.is_none() || may_refuse(format, &error);
                prop_assert!(is_right, "{}\n{}", error.describe(&key), text);
            }
        }
    }
    Ok(())
}

fn without_nulls(value: Value) -> Value {
    let members = |members: Vec<(String, Value)>| {
        let kept = members.into_iter().filter(|(_, value)| *value != Value::Null);
        Value::Map(kept.map(|(name, value)| (name, without_nulls(value))).collect())
    };
    match value {
        Value::Map(all) => members(all),
        Value::List(items) => {
            Value::List(items.into_iter().filter(|item| *item != Value::Null).map(without_nulls).collect())
        }
        other => other,
    }
}

/// The bytes that decide how a document is laid out.
fn layout() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..120)
}

proptest! {
    #[test]
    fn json_holds_what_was_set(value in model::root(), layout in layout(), overrides in model::overrides()) {
        let document = texts::json(&value, Dialect::Json, &mut Choices(&layout));
        check_overrides(Format::Json, &document, &value, &overrides)?;
    }

    #[test]
    fn json5_holds_what_was_set(value in model::root(), layout in layout(), overrides in model::overrides()) {
        let document = texts::json(&value, Dialect::Json5, &mut Choices(&layout));
        check_overrides(Format::Json5, &document, &value, &overrides)?;
    }

    #[test]
    fn yaml_holds_what_was_set(value in model::root(), layout in layout(), overrides in model::overrides()) {
        let document = texts::yaml(&value, &mut Choices(&layout));
        check_overrides(Format::Yaml, &document, &value, &overrides)?;
    }

    #[test]
    fn toml_holds_what_was_set(value in model::root(), layout in layout(), overrides in model::overrides()) {
        let value = without_nulls(value);
        let document = toml_text::toml(&value, &mut Choices(&layout));
        check_overrides(Format::Toml, &document, &value, &overrides)?;
    }

    #[test]
    fn env_holds_what_was_set(
        pairs in proptest::collection::btree_map("[A-Z_][A-Z0-9_]{0,3}", env_text(), 0..5),
        layout in layout(),
        overrides in proptest::collection::vec(("[A-C]", env_text()), 1..4),
    ) {
        let pairs: Vec<(String, String)> = pairs.into_iter().collect();
        let document = texts::env(&pairs, &mut Choices(&layout));
        let value = Value::Map(pairs.into_iter().map(|(name, value)| (name, Value::Text(value))).collect());
        let overrides = overrides.into_iter().map(|(name, text)| (vec![name], Value::Text(text), Vec::new()));
        check_overrides(Format::Env, &document, &value, &overrides.collect())?;
    }
}

/// Text that the reader to compare with can have in quotes.
fn env_text() -> impl Strategy<Value = String> {
    model::text().prop_filter("it has no such escape", |text| !text.contains(['\r', '`', '\0']))
}
