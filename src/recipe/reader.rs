//! Reading spanned TOML into typed values, with one good message for each kind of mistake.

use std::cell::RefCell;
use std::fmt::Display;
use std::str::FromStr;

use diag::{Source, Span, Spanned, codes, did_you_mean};
use toml::de::{DeTable, DeValue};

use crate::{RecipeError, Result};

/// Parses a document; syntax errors become diagnostics with their place.
pub(crate) fn document(source: &Source) -> Result<toml::Spanned<DeTable<'_>>> {
    DeTable::parse(source.text()).map_err(|error| {
        let span = error.span().unwrap_or_default().into();
        RecipeError::at(codes::recipe::SYNTAX, source, span, error.message().trim_end_matches('.'))
    })
}

/// A table being read. Keys asked for are remembered; [`Table::finish`] refuses the others.
pub(crate) struct Table<'a> {
    source: &'a Source,
    /// `image.user`, for messages; empty for the document.
    path: String,
    span: Span,
    entries: &'a DeTable<'a>,
    asked: RefCell<Vec<&'static str>>,
}

/// A value being read.
#[derive(Clone)]
pub(crate) struct Value<'a> {
    source: &'a Source,
    path: String,
    span: Span,
    value: &'a DeValue<'a>,
}

impl<'a> Table<'a> {
    pub(crate) fn document(source: &'a Source, document: &'a toml::Spanned<DeTable<'a>>) -> Self {
        let span = Span::new(0..source.text().find('\n').unwrap_or(source.text().len()));
        Self { source, path: String::new(), span, entries: document.get_ref(), asked: RefCell::default() }
    }

    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// The table's own name, such as `image.user`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of an optional key.
    pub(crate) fn get(&self, key: &'static str) -> Option<Value<'a>> {
        self.asked.borrow_mut().push(key);
        let value = self.entries.get(key)?;
        Some(Value { source: self.source, path: self.join(key), span: value.span().into(), value: value.get_ref() })
    }

    /// The value of a required key.
    pub(crate) fn need(&self, key: &'static str) -> Result<Value<'a>> {
        self.get(key).ok_or_else(|| {
            // A misspelt key is a better message than a missing one.
            if let Some((near, _)) = self
                .entries
                .iter()
                .find(|(near, _)| did_you_mean(near.get_ref(), [key]).is_some() && !self.is_asked(near.get_ref()))
            {
                return self.unknown(near.get_ref(), near.span().into(), format!("did you mean `{key}`?"));
            }
            let place = if self.path.is_empty() { "the file".to_owned() } else { format!("`[{}]`", self.path) };
            RecipeError::at(codes::recipe::MISSING_KEY, self.source, self.span, format!("{place} has no `{key}`"))
                .mark(format!("`{key}` belongs here"))
        })
    }

    fn is_asked(&self, key: &str) -> bool {
        self.asked.borrow().contains(&key)
    }

    fn place(&self) -> String {
        if self.path.is_empty() { "at the top level".to_owned() } else { format!("in `[{}]`", self.path) }
    }

    fn unknown(&self, word: &str, span: Span, help: String) -> RecipeError {
        let message = format!("unknown key `{word}` {}", self.place());
        RecipeError::at(codes::recipe::UNKNOWN_KEY, self.source, span, message).help(help)
    }

    /// An optional table.
    pub(crate) fn table(&self, key: &'static str) -> Result<Option<Table<'a>>> {
        self.get(key).map(|value| value.table()).transpose()
    }

    /// All entries, for tables whose keys are names the user chose.
    pub(crate) fn entries(&self) -> Vec<(Spanned<&'a str>, Value<'a>)> {
        let mut entries: Vec<_> = self
            .entries
            .iter()
            .map(|(key, value)| {
                let value_span = value.span().into();
                let name = Spanned::new(key.get_ref().as_ref(), key.span().into());
                (
                    name,
                    Value {
                        source: self.source,
                        path: self.join(key.get_ref()),
                        span: value_span,
                        value: value.get_ref(),
                    },
                )
            })
            .collect();
        // As written, so that messages and defaults follow the user's order.
        entries.sort_by_key(|(key, _)| key.span.start);
        entries
    }

    /// Refuses keys nobody asked for, once all have been asked for.
    pub(crate) fn finish(self) -> Result<()> {
        self.known()
    }

    /// As [`Table::finish`], for a borrowed table.
    pub(crate) fn known(&self) -> Result<()> {
        let asked = self.asked.borrow();
        let unknown = self.entries.iter().filter(|(key, _)| !asked.contains(&key.get_ref().as_ref()));
        let Some((key, _)) = unknown.min_by_key(|(key, _)| key.span().start) else { return Ok(()) };
        let word: &str = key.get_ref();
        let mut known = asked.clone();
        known.sort_unstable();
        known.dedup();
        let help = match did_you_mean(word, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known keys {}: {}", self.place(), known.join(", ")),
        };
        Err(self.unknown(word, key.span().into(), help))
    }
}

impl<'a> Value<'a> {
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    fn wrong_type(&self, expected: &str) -> RecipeError {
        let found = match self.value {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let message = format!("`{}` takes {expected}, not {found}", self.path);
        RecipeError::at(codes::recipe::WRONG_TYPE, self.source, self.span, message).mark(format!("expected {expected}"))
    }

    /// A mistake in the value's form.
    pub(crate) fn bad(&self, message: impl Display) -> RecipeError {
        RecipeError::at(codes::recipe::BAD_VALUE, self.source, self.span, format!("`{}`: {message}", self.path))
    }

    pub(crate) fn is_string(&self) -> bool {
        self.value.is_str()
    }

    pub(crate) fn table(&self) -> Result<Table<'a>> {
        let entries = self.value.as_table().ok_or_else(|| self.wrong_type("a table"))?;
        Ok(Table { source: self.source, path: self.path.clone(), span: self.span, entries, asked: RefCell::default() })
    }

    pub(crate) fn array(&self) -> Result<Vec<Value<'a>>> {
        let array = self.value.as_array().ok_or_else(|| self.wrong_type("an array"))?;
        let item = |(index, value): (usize, &'a toml::Spanned<DeValue<'a>>)| Value {
            source: self.source,
            path: format!("{}[{index}]", self.path),
            span: value.span().into(),
            value: value.get_ref(),
        };
        Ok(array.iter().enumerate().map(item).collect())
    }

    pub(crate) fn string(&self) -> Result<Spanned<String>> {
        let text = self.value.as_str().ok_or_else(|| self.wrong_type("text in quotes"))?;
        Ok(Spanned::new(text.to_owned(), self.span))
    }

    /// Text that is not empty.
    pub(crate) fn text(&self) -> Result<Spanned<String>> {
        let text = self.string()?;
        if text.value.trim().is_empty() { Err(self.bad("must not be empty")) } else { Ok(text) }
    }

    pub(crate) fn boolean(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.wrong_type("true or false"))
    }

    /// A whole number within bounds.
    pub(crate) fn integer(&self, bounds: std::ops::RangeInclusive<u64>) -> Result<u64> {
        let number = self.value.as_integer().ok_or_else(|| self.wrong_type("a whole number"))?;
        let parsed = u64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok();
        parsed.filter(|number| bounds.contains(number)).ok_or_else(|| {
            self.bad(format!("{} is not between {} and {}", number.as_str(), bounds.start(), bounds.end()))
        })
    }

    /// Text in the form `T` reads.
    pub(crate) fn parse<T>(&self) -> Result<Spanned<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = self.text()?;
        let value = text.value.parse().map_err(|error: T::Err| self.bad(error))?;
        Ok(Spanned::new(value, self.span))
    }

    /// An array of values in the form `T` reads.
    pub(crate) fn parse_all<T>(&self) -> Result<Vec<Spanned<T>>>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.array()?.iter().map(Self::parse).collect()
    }

    /// An array of texts.
    pub(crate) fn strings(&self) -> Result<Vec<Spanned<String>>> {
        self.array()?.iter().map(Self::string).collect()
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Result<Spanned<T>> {
        let text = self.text()?;
        match choices.iter().find(|(word, _)| *word == text.value) {
            Some((_, choice)) => Ok(Spanned::new(*choice, self.span)),
            None => {
                let words = choices.iter().map(|(word, _)| *word);
                let error = self.bad(format!(
                    "`{}` is not one of {}",
                    text.value,
                    words.clone().collect::<Vec<_>>().join(", ")
                ));
                Err(match did_you_mean(&text.value, words) {
                    Some(near) => error.help(format!("did you mean `{near}`?")),
                    None => error,
                })
            }
        }
    }

    /// Any value that JSON has too.
    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        use serde_json::Value as Json;
        let number = |json: Option<Json>| json.ok_or_else(|| self.bad("the number is too large"));
        match self.value {
            DeValue::String(text) => Ok(Json::String(text.to_string())),
            DeValue::Boolean(value) => Ok(Json::Bool(*value)),
            DeValue::Integer(value) => {
                let digits = value.as_str().replace('_', "");
                number(i64::from_str_radix(&digits, value.radix()).ok().map(Json::from))
            }
            DeValue::Float(value) => {
                let parsed = value.as_str().replace('_', "").parse().ok();
                number(parsed.and_then(serde_json::Number::from_f64).map(Json::Number))
            }
            DeValue::Datetime(_) => Err(self.wrong_type("what JSON has: a date goes in quotes")),
            DeValue::Array(_) => Ok(Json::Array(self.array()?.iter().map(Self::json).collect::<Result<_>>()?)),
            DeValue::Table(_) => {
                let entries = self.table()?.entries().into_iter();
                let entries = entries.map(|(name, value)| Ok((name.value.to_owned(), value.json()?)));
                Ok(Json::Object(entries.collect::<Result<_>>()?))
            }
        }
    }

    pub(crate) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// A length of time such as `500ms`, `30s`, `5m`.
    pub(crate) fn duration(&self) -> Result<std::time::Duration> {
        let text = self.text()?.value;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => 0,
        };
        let number = number.parse::<u64>().ok().filter(|number| *number <= 1_000_000 && millis > 0);
        number
            .map(|number| std::time::Duration::from_millis(number * millis))
            .ok_or_else(|| self.bad(format!("`{text}` is not a length of time: write `500ms`, `30s` or `5m`")))
    }

    /// An octal file mode in quotes, such as `"0644"`.
    pub(crate) fn mode(&self) -> Result<u32> {
        let text = self.text()?.value;
        u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| {
            self.bad(format!("`{text}` is not a file mode: write octal digits in quotes, such as \"0644\""))
        })
    }
}
