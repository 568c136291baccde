use super::*;
use crate::json::Dialect;
use crate::value::Kind;

fn path(key: &str) -> Vec<String> {
    key.split('.').map(str::to_owned).collect()
}

fn try_set(document: &str, key: &str, value: &str) -> Result<String, String> {
    let value = Kind::Json.read(value).unwrap();
    set(document, &path(key), &value).map_err(|error| error.describe(&path(key)))
}

/// Sets the JSON `value` and checks that exactly it is there afterwards.
fn set_one(document: &str, key: &str, value: &str) -> String {
    let changed = try_set(document, key, value).unwrap_or_else(|error| panic!("{document}\n{error}"));
    let expected = write(&Kind::Json.read(value).unwrap());
    assert_eq!(lookup(&changed, key).as_deref(), Some(expected.as_str()), "{changed}");
    changed
}

/// The text of the value at `key`.
fn lookup(document: &str, key: &str) -> Option<String> {
    let root = parse(document).unwrap_or_else(|error| panic!("{document}\n{error}"));
    let mut node = &root;
    let key = path(key);
    for (depth, name) in key.iter().enumerate() {
        node = match &node.shape {
            Shape::Map { entries, .. } => &entries.iter().rev().find(|entry| entry.key == *name)?.value,
            Shape::List { items, .. } => items.get(name.parse::<usize>().ok()?)?,
            Shape::Flow => {
                let text = &document[node.start..node.span.end];
                let flow = json::parse(text, Dialect::Json5).ok()?;
                let mut value = json::to_value(&flow, text);
                for name in &key[depth..] {
                    value = match value {
                        Value::Map(members) => members.into_iter().rev().find(|(key, _)| key == name)?.1,
                        Value::List(items) => items.into_iter().nth(name.parse().ok()?)?,
                        _ => return None,
                    };
                }
                return Some(write(&value));
            }
            _ => return None,
        };
    }
    Some(document[node.start..node.span.end].to_owned())
}

const SAMPLE: &str = r#"# head
---
web_host: 127.0.0.1 # loopback
web_port: 10961
url: "http://x # y" # quoted
empty:
nothing: ~ # null
text: |
  lines # not a comment
    deeper

  last
folded: one
  two
channels:
  telegram:
    enabled: false   # off
    'odd key': x
  # comment between
  web: { enabled: true, tags: [a, "b # ]"] }
models:
- name: first
  keys: ["k1"]
- name: second

  limits:
      rate: 3
list:
  - 1
  - two # 2
  -
    deep: yes
anchored: &a
  x: 1
alias: *a
"#;

#[test]
fn a_value_is_replaced_and_everything_around_it_stays() {
    for (key, value, old, new) in [
        ("web_host", "\"0.0.0.0\"", "127.0.0.1 #", "\"0.0.0.0\" #"),
        ("web_port", "1", "10961", "1"),
        ("url", "\"/x\"", "\"http://x # y\"", "/x"),
        ("empty", "true", "empty:", "empty: true"),
        ("nothing", "\"no\"", "~", "\"no\""),
        ("text", "1", "|\n  lines # not a comment\n    deeper\n\n  last", "1"),
        ("folded", "1", "one\n  two", "1"),
        ("channels.telegram.enabled", "true", "false   #", "true   #"),
        ("channels.telegram.odd key", "[]", "key': x", "key': []"),
        ("models.0.name", "\"a b\"", "first", "\"a b\""),
        ("models.1.limits.rate", "4.5", "rate: 3", "rate: 4.5"),
        ("list.1", "null", "two #", "null #"),
        ("list.2.deep", "\"yes\"", "deep: yes", "deep: \"yes\""),
        ("list.2", "7", "-\n    deep: yes", "- 7"),
        (
            "channels",
            "{\"a\": [1]}",
            &SAMPLE[SAMPLE.find("\n  telegram").unwrap()..SAMPLE.find("\nmodels").unwrap()],
            " {\"a\": [1]}",
        ),
        ("alias", "1", "*a", "1"),
    ] {
        assert_eq!(set_one(SAMPLE, key, value), SAMPLE.replace(old, new), "{key}");
    }
}

#[test]
fn bracketed_values_are_changed_where_they_are_json() {
    assert_eq!(set_one(SAMPLE, "models.0.keys.1", "\"k2\""), SAMPLE.replace("[\"k1\"]", "[\"k1\", \"k2\"]"));
    assert_eq!(
        try_set(SAMPLE, "channels.web.enabled", "false").unwrap_err(),
        "`channels.web.enabled` cannot be set: `channels.web` is in brackets, and can be changed only as a whole"
    );
    let new = "{\"enabled\": false}";
    assert_eq!(set_one(SAMPLE, "channels.web", new), SAMPLE.replace("{ enabled: true, tags: [a, \"b # ]\"] }", new));
    assert_eq!(set_one("a: {b: 1}\n", "a.c", "2"), "a: {b: 1, \"c\": 2}\n");
    assert_eq!(set_one("a: {b: 1}\n", "a.true", "2"), "a: {b: 1, \"true\": 2}\n");
    assert_eq!(set_one("{\"a\": 1}\n", "b", "2"), "{\"a\": 1, \"b\": 2}\n");
    assert_eq!(set_one("a: {\n  b: 1 }\nc: 2\n", "c", "3"), "a: {\n  b: 1 }\nc: 3\n");
}

#[test]
fn a_new_key_goes_below_its_block() {
    let added = |line: &str, before: &str| SAMPLE.replacen(before, &format!("{line}{before}"), 1);
    assert_eq!(set_one(SAMPLE, "new", "1"), format!("{SAMPLE}new: 1\n"));
    assert_eq!(set_one(SAMPLE, "channels.telegram.token", "\"t\""), added("    token: t\n", "  # comment between"));
    assert_eq!(set_one(SAMPLE, "channels.slack.bot.id", "1"), added("  slack:\n    bot:\n      id: 1\n", "models:"));
    assert_eq!(set_one(SAMPLE, "models.0.x", "1"), added("  x: 1\n", "- name: second"));
    assert_eq!(set_one(SAMPLE, "models.1.limits.x", "1"), added("      x: 1\n", "list:"));
    assert_eq!(set_one(SAMPLE, "models.2", "\"third\""), added("- third\n", "list:"));
    assert_eq!(set_one(SAMPLE, "list.3.a", "1"), added("  - {\"a\": 1}\n", "anchored:"));
    assert_eq!(set_one("", "a.b", "1"), "a:\n  b: 1\n");
    assert_eq!(set_one("# only\n", "a", "1"), "# only\na: 1\n");
    assert_eq!(set_one("---\n...\n", "a", "1"), "---\na: 1\n...\n");
    assert_eq!(set_one("a: 1", "b", "\"y\""), "a: 1\nb: \"y\"\n");
    assert_eq!(set_one("a:\n  - 1\r\n", "b", "2"), "a:\n  - 1\r\nb: 2\n");
    assert_eq!(set_one("a: # c\n", "a.b.c", "1"), "a: {\"b\": {\"c\": 1}} # c\n");
}

#[test]
fn comments_below_a_value_are_no_part_of_it() {
    assert_eq!(set_one("a:\n - null\n   # c\n", "a.0.x", "1"), "a:\n - {\"x\": 1}\n   # c\n");
    assert_eq!(set_one("a: one # c\n  # d\nb: 2\n", "a", "1"), "a: 1 # c\n  # d\nb: 2\n");
    assert_eq!(set_one("a: one\n  two # c\n  # d\nb: 2\n", "a", "1"), "a: 1 # c\n  # d\nb: 2\n");
    assert_eq!(set_one("--- # c\na: 1\n... # d\n", "a", "2"), "--- # c\na: 2\n... # d\n");
    assert_eq!(set_one("\u{feff}a: 1\n", "b", "2"), "\u{feff}a: 1\nb: 2\n");
}

#[test]
fn lines_that_a_block_keeps_stay_its_own() {
    assert_eq!(set_one("a: |+\n  x\n\n", "b", "1"), "a: |+\n  x\n\nb: 1\n");
    assert_eq!(set_one("a: |\n  x\n\n", "b", "1"), "a: |\n  x\nb: 1\n\n");
    assert_eq!(set_one("a: |\n  x\n   \n", "b", "1"), "a: |\n  x\n   \nb: 1\n");
    assert_eq!(set_one("a: |+\n  x\n\nc: 2\n", "a", "1"), "a: 1\nc: 2\n");
}

#[test]
fn what_no_reader_prints_is_escaped() {
    assert_eq!(set("", &path("a"), &Value::Text("\u{80}\u{feff}".into())), Ok("a: \"\\u0080\\ufeff\"\n".into()));
}

#[test]
fn what_cannot_be_is_said() {
    for (key, expected) in [
        ("web_port.x", "`web_port.x` cannot be set: `web_port` is a plain value"),
        ("text.x", "`text.x` cannot be set: `text` is a plain value"),
        ("models.x", "`models.x` cannot be set: `models` is a list, which has numbers for keys"),
        ("models.5.a", "`models.5.a` cannot be set: `models` is a list that is shorter"),
        ("anchored", "`anchored` cannot be set: `anchored` is anchored, and others may refer to it"),
        ("anchored.x", "`anchored.x` cannot be set: `anchored` is anchored, and others may refer to it"),
    ] {
        assert_eq!(try_set(SAMPLE, key, "1").unwrap_err(), expected);
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    for bad in [
        "a: 1\n  b: 2\nc",
        "a: 1\n b: 2\n- c\n",
        "a:\n\tb: 1\n",
        "a: \"x\n",
        "a: [1\n",
        "a: 'x' y\n",
        "? a\n: b\n",
        "a: 1\n---\nb: 2\n",
        "a: @x\n",
        "a:\n    b: 1\n  c: 2\n",
        "- a\nb: 1\n",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
    let deep = (0..2_000).map(|level| format!("{:level$}a:\n", "")).collect::<String>();
    assert_eq!(check(&deep).unwrap_err().problem, "blocks are nested too deep");
    assert_eq!(check(&"- ".repeat(100_000)).unwrap_err().problem, "blocks are nested too deep");
    assert!(check(&format!("a: {}", "[".repeat(1_000_000))).is_err());
}

#[test]
fn lines_may_end_in_two_characters() {
    let document = SAMPLE.replace('\n', "\r\n");
    assert_eq!(set_one(&document, "channels.telegram.enabled", "true"), document.replace("false", "true"));
    assert_eq!(set_one(&document, "empty", "1"), document.replace("empty:", "empty: 1"));
    assert_eq!(set_one(&document, "web_host", "\"h\""), document.replace("127.0.0.1 #", "h #"));
}

/// Damages a document in many ways; whatever can still be read keeps all its values when one is set.
#[test]
fn any_document_takes_any_key_and_keeps_the_rest() {
    let mut state = 5_u64;
    let mut pick = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 40).unwrap() % limit
    };
    let lines: Vec<&str> = SAMPLE.split_inclusive('\n').collect();
    let keys = [
        "web_host",
        "empty",
        "text",
        "channels.telegram.enabled",
        "models.0.name",
        "models.1.limits.rate",
        "list.2.deep",
        "x.y",
    ];
    let mut set_count = 0;
    for _ in 0..800 {
        let mut document: String = lines.iter().filter(|_| pick(12) > 0).copied().collect();
        if pick(3) == 0 {
            let at = pick(document.len());
            document.insert_str(at, ["[", "\"", "\n", "  a: 1\n", " #", "- ", ": "][pick(7)]);
        }
        if check(&document).is_err() {
            continue;
        }
        let key = keys[pick(keys.len())];
        let Ok(changed) = try_set(&document, key, "\"new\"") else { continue };
        assert_eq!(lookup(&changed, key).as_deref(), Some("new"), "{document}\n---\n{changed}");
        for other in keys.iter().filter(|other| **other != key) {
            assert_eq!(lookup(&document, other), lookup(&changed, other), "{other}\n{document}\n---\n{changed}");
        }
        set_count += 1;
    }
    assert!(set_count > 250, "{set_count}");
}
