//! Overrides: values to set, and what a rendered configuration says. It is read by other parsers than claw-init's.

use std::collections::BTreeMap;

use recipe::{Config, ConfigFormat, Override, OverrideType, Recipe};
use serde_json::{Value, json};

/// A variable, its value, and what has to stand in the configuration for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Setting {
    pub(super) variable: String,
    pub(super) text: String,
    pub(super) key: Vec<String>,
    pub(super) expected: Value,
    pub(super) secret: bool,
}

/// A value for every override that has a key. Only what renders the configuration is to see them: a runtime may not
/// work with them.
pub(super) fn of_every_key(config: &Config) -> Vec<Setting> {
    let keyed = config.overrides.iter().filter(|(_, entry)| !entry.key.is_empty());
    keyed.map(|(name, entry)| setting(config.format.value, name, entry, sample(name, entry))).collect()
}

/// The values that recipes give as examples: runtimes work with them.
pub(super) fn of_examples(config: &Config) -> Vec<Setting> {
    let examples = config.overrides.iter().filter_map(|(name, entry)| {
        let text = entry.example.as_ref()?.value.clone();
        (!entry.key.is_empty()).then(|| setting(config.format.value, name, entry, text))
    });
    examples.collect()
}

/// A value for every secret, found nowhere else.
pub(super) fn canaries(recipe: &Recipe) -> BTreeMap<String, String> {
    let overrides = recipe.config.iter().flat_map(|config| &config.overrides);
    overrides.filter(|(_, entry)| entry.secret).map(|(name, _)| (name.clone(), canary(name))).collect()
}

fn canary(name: &str) -> String {
    format!("canary-{}", &store::Key::of([b"canary".as_slice(), name.as_bytes()]).hex()[..40])
}

fn sample(name: &str, entry: &Override) -> String {
    match entry.kind {
        _ if entry.secret => canary(name),
        OverrideType::String => format!("set by {name}"),
        OverrideType::Integer => "24242".to_owned(),
        OverrideType::Boolean => "true".to_owned(),
        OverrideType::List => "first,second".to_owned(),
        OverrideType::Json => r#"{"nested":[1,true,"text"]}"#.to_owned(),
    }
}

fn setting(format: ConfigFormat, name: &str, entry: &Override, text: String) -> Setting {
    let typed = match entry.kind {
        OverrideType::String => json!(text),
        OverrideType::Integer => text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number)),
        OverrideType::Boolean => json!(text == "true"),
        OverrideType::List => json!(text.split(',').map(str::trim).collect::<Vec<_>>()),
        OverrideType::Json => serde_json::from_str(&text).unwrap_or_else(|_| json!(text)),
    };
    // Files of variables hold nothing but text.
    let expected = if format == ConfigFormat::Env { json!(text) } else { typed };
    Setting { variable: name.to_owned(), text, key: entry.key.clone(), expected, secret: entry.secret }
}

/// The variables of settings that are no secrets.
pub(super) fn values(settings: &[Setting]) -> BTreeMap<String, String> {
    settings
        .iter()
        .filter(|setting| !setting.secret)
        .map(|setting| (setting.variable.clone(), setting.text.clone()))
        .collect()
}

/// All secrets but one.
pub(super) fn without(secrets: &BTreeMap<String, String>, name: &str) -> BTreeMap<String, String> {
    secrets.iter().filter(|(other, _)| *other != name).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What of these settings a configuration does not say, each with a remark.
pub(super) fn missing(format: ConfigFormat, file: &[u8], settings: &[Setting]) -> Vec<String> {
    let document = match parse(format, file) {
        Ok(document) => document,
        Err(error) => return vec![format!("the rendered configuration is not {}: {error}", format.as_str())],
    };
    let wrong = |setting: &Setting| {
        let Setting { variable, key, expected, secret, .. } = setting;
        let name = key.join(".");
        match lookup(&document, key) {
            Some(found) if found == expected => None,
            Some(_) if *secret => Some(format!("{variable} is not what `{name}` says")),
            Some(found) => Some(format!("{variable} should make `{name}` {expected}, it is {found}")),
            None => Some(format!("{variable} should make `{name}` {expected}, it is not there")),
        }
    };
    settings.iter().filter_map(wrong).collect()
}

fn parse(format: ConfigFormat, file: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(file).map_err(|error| error.to_string())?;
    match format {
        ConfigFormat::Json => serde_json::from_str(text).map_err(|error| error.to_string()),
        ConfigFormat::Json5 => json5::from_str(text).map_err(|error| error.to_string()),
        ConfigFormat::Toml => toml::from_str(text).map_err(|error| error.to_string()),
        ConfigFormat::Yaml => serde_yaml_ng::from_str(text).map_err(|error| error.to_string()),
        ConfigFormat::Env => Ok(variables(text)),
    }
}

/// `NAME=value` lines; the last assignment of a name counts.
fn variables(text: &str) -> Value {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let assignments = lines.filter_map(|line| line.trim_start_matches("export ").split_once('='));
    let unquoted = |value: &str| {
        let value = value.trim();
        let quoted = |quote: char| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
        match (quoted('\''), quoted('"')) {
            (Some(literal), _) => literal.to_owned(),
            (_, Some(escaped)) => escaped.replace("\\\"", "\"").replace("\\\\", "\\"),
            (None, None) => value.to_owned(),
        }
    };
    assignments.map(|(name, value)| (name.trim().to_owned(), Value::String(unquoted(value)))).collect()
}

fn lookup<'a>(document: &'a Value, key: &[String]) -> Option<&'a Value> {
    key.iter().try_fold(document, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        value => value.get(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Vec<Setting> {
        let setting = |variable: &str, key: &[&str], expected: Value| Setting {
            variable: variable.to_owned(),
            text: String::new(),
            key: key.iter().map(|name| (*name).to_owned()).collect(),
            expected,
            secret: variable == "TOKEN",
        };
        vec![
            setting("PORT", &["server", "port"], json!(24242)),
            setting("NAMES", &["names"], json!(["first", "second"])),
            setting("SECOND", &["list", "1"], json!("b")),
            setting("TOKEN", &["token"], json!("canary")),
        ]
    }

    #[test]
    fn every_format_is_read() {
        for (format, text) in [
            (
                ConfigFormat::Json,
                r#"{"server":{"port":24242},"names":["first","second"],"list":["a","b"],"token":"canary"}"#,
            ),
            (
                ConfigFormat::Json5,
                "// note\n{server: {port: 24242,}, names: ['first', \"second\"], list: ['a', 'b'], token: 'canary'}",
            ),
            (
                ConfigFormat::Toml,
                "names = [\"first\", \"second\"]\nlist = ['a', 'b']\ntoken = 'canary'\n[server]\nport = 24242 # x\n",
            ),
            (
                ConfigFormat::Yaml,
                "# note\nserver:\n  port: 24242\nnames: [first, second]\nlist:\n- a\n- b\ntoken: canary\n",
            ),
        ] {
            assert_eq!(missing(format, text.as_bytes(), &settings()), [""; 0], "{format:?}");
            let other = text.replace("24242", "\"24242\"").replace("canary", "public");
            let found = missing(format, other.as_bytes(), &settings());
            assert_eq!(found.len(), 2, "types count: {found:?}");
            assert!(!found.concat().contains("public"), "values of secrets are not shown: {found:?}");
        }
        let env = [Setting { key: vec!["A".to_owned()], expected: json!("x y"), ..settings()[0].clone() }];
        assert_eq!(missing(ConfigFormat::Env, b"# c\nA=1\nexport A=\"x y\"\n", &env), [""; 0]);
        assert_eq!(missing(ConfigFormat::Env, b"B=1\n", &env).len(), 1);
        assert_eq!(missing(ConfigFormat::Json, b"{", &settings()).len(), 1);
    }
}
