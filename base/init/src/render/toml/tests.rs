use super::*;
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
    let expected = write(&Kind::Json.read(value).unwrap()).unwrap();
    assert_eq!(lookup(&changed, key).as_deref(), Some(expected.as_str()), "{changed}");
    changed
}

/// The text of the value at `key`.
fn lookup(document: &str, key: &str) -> Option<String> {
    let parsed = parse(document).unwrap_or_else(|error| panic!("{document}\n{error}"));
    let key = path(key);
    let (mut node, mut depth) = parsed.find(&key).ok()??;
    while depth < key.len() {
        match &node.shape {
            Shape::Plain => return None,
            Shape::List(items) => (node, depth) = (items.get(key[depth].parse::<usize>().ok()?)?, depth + 1),
            Shape::Table(entries) => (node, depth) = find_entry(entries, &key[depth..], depth).ok()??,
        }
    }
    Some(document[node.span.clone()].to_owned())
}

const SAMPLE: &str = r#"# head
schema = 3 # three

[gateway]
  host = "127.0.0.1" # loopback
  port = 42617
tls.cert = 'a'

[gateway.limits] # below
rate = [ 1,
  2, # two
]
when = 1979-05-27 07:32:00Z

[[provider]]
name = "a"
extra = { x = 1, y.z = 2 }

[[provider]]
name = """
multi "quoted" ]
"""
[provider.deep]
"quoted key" = true
"#;

#[test]
fn a_value_is_replaced_and_everything_around_it_stays() {
    for (key, old, new) in [
        ("schema", "3 # three", "4 # three"),
        ("gateway.host", "\"127.0.0.1\"", "\"0.0.0.0\""),
        ("gateway.tls.cert", "'a'", "\"b\""),
        ("gateway.limits.rate.1", "  2, #", "  7, #"),
        ("gateway.limits.when", "1979-05-27 07:32:00Z", "1"),
        ("provider.0.extra.y.z", "y.z = 2", "y.z = 5"),
        ("provider.1.deep.quoted key", "= true", "= false"),
        ("provider.1.name", "\"\"\"\nmulti \"quoted\" ]\n\"\"\"", "\"c\""),
    ] {
        let value = new.trim_start_matches(|char: char| char.is_alphabetic() || " .=".contains(char));
        let value = if new.contains("false") { "false" } else { value.split([' ', ',']).next().unwrap() };
        assert_eq!(set_one(SAMPLE, key, value), SAMPLE.replace(old, new), "{key}");
    }
}

#[test]
fn a_new_key_goes_below_its_table() {
    let added = |line: &str, before: &str| SAMPLE.replacen(before, &format!("{line}{before}"), 1);
    assert_eq!(set_one(SAMPLE, "new", "1"), added("new = 1\n", "\n[gateway]"));
    assert_eq!(set_one(SAMPLE, "gateway.new", "[1, 2]"), added("new = [1, 2]\n", "\n[gateway.limits]"));
    assert_eq!(set_one(SAMPLE, "gateway.tls.key", "\"k\""), added("tls.key = \"k\"\n", "\n[gateway.limits]"));
    assert_eq!(set_one(SAMPLE, "provider.0.deep.key", "1"), added("deep.key = 1\n", "\n[[provider]]\nname = \"\"\""));
    assert_eq!(set_one(SAMPLE, "provider.0.extra.w", "1"), SAMPLE.replace("y.z = 2 }", "y.z = 2, w = 1 }"));
    assert_eq!(set_one(SAMPLE, "gateway.limits.rate.2", "3"), SAMPLE.replace("  2, #", "  2, 3, #"));
}

#[test]
fn a_table_that_is_not_there_is_made() {
    assert_eq!(set_one(SAMPLE, "a.b-c.d", "\"x\""), format!("{SAMPLE}\n[a.b-c]\nd = \"x\"\n"));
    assert_eq!(set_one(SAMPLE, "provider.2.name", "1"), format!("{SAMPLE}\n[[provider]]\nname = 1\n"));
    assert_eq!(set_one("", "a", "1"), "a = 1\n");
    assert_eq!(set_one("", "a.b", "1"), "[a]\nb = 1\n");
    assert_eq!(set_one("a = 1", "b", "2"), "a = 1\nb = 2\n");
    assert_eq!(set_one("# only\n# comments", "b", "2"), "# only\n# comments\nb = 2\n");
    assert_eq!(set_one("# head\n\n[t]\n", "b", "2"), "# head\n\nb = 2\n[t]\n");
    assert_eq!(set_one("# of t\n[t]\n", "b", "2"), "b = 2\n# of t\n[t]\n");
    assert_eq!(set_one("[t]", "t.a", "{\"b\": {}, \"c d\": [true]}"), "[t]\na = { b = {}, \"c d\" = [true] }\n");
    assert_eq!(set_one("a = {}\nb = []", "a.x", "1"), "a = { x = 1 }\nb = []");
    assert_eq!(set_one("a = {}\nb = []", "b.0.x", "1"), "a = {}\nb = [{ x = 1 }]");
}

#[test]
fn comments_in_an_empty_list_stay() {
    assert_eq!(set_one("a = [ # none\n]\n", "a.0", "1"), "a = [ # none\n1]\n");
}

#[test]
fn a_byte_order_mark_stays_in_front() {
    assert_eq!(set_one("\u{feff}[t]\n", "a", "1"), "\u{feff}a = 1\n[t]\n");
}

#[test]
fn what_cannot_be_is_said() {
    for (key, value, expected) in [
        ("schema.x", "1", "`schema.x` cannot be set: `schema` is a plain value"),
        ("gateway", "1", "`gateway` cannot be set: `gateway` is a table"),
        ("gateway.tls", "1", "`gateway.tls` cannot be set: `gateway.tls` is a table"),
        ("provider", "1", "`provider` cannot be set: `provider` is a table"),
        ("provider.x.name", "1", "`provider.x.name` cannot be set: `provider` is a list, which has numbers for keys"),
        ("provider.7.name", "1", "`provider.7.name` cannot be set: `provider` is a list that is shorter"),
        (
            "gateway.limits.rate.9",
            "1",
            "`gateway.limits.rate.9` cannot be set: `gateway.limits.rate` is a list that is shorter",
        ),
        ("schema", "null", "`schema` cannot be set: TOML has no null"),
        ("schema", "18446744073709551615", "`schema` cannot be set: whole numbers of TOML have 64 bits with a sign"),
    ] {
        assert_eq!(try_set(SAMPLE, key, value).unwrap_err(), expected);
    }
}

#[test]
fn what_is_not_toml_is_refused() {
    for bad in [
        "a",
        "a =",
        "= 1",
        "a = b",
        "a = \"x",
        "a = \"x\n\"",
        "a = '''x",
        "a = [1 2]",
        "a = [1",
        "a = { b }",
        "[a",
        "[[a]",
        "[]",
        "a = 1 b = 2",
        "a = \"\\q\"",
        "a = \"\\ud800\"",
        "a.b. = 1",
        "a = tru",
        "a = 1 2",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
    let deep = format!("a = {}", "[".repeat(1_000_000));
    assert_eq!(check(&deep).unwrap_err().problem, "values are nested too deep");
    assert_eq!(
        check("a = 1\nb = \"é\" x\n").unwrap_err(),
        SyntaxError { line: 2, column: 9, problem: "expected the end of the line" }
    );
}

#[test]
fn strings_survive_their_quotes() {
    for text in ["a\"b\\c", "line\nline\ttab", "\u{1}\u{7f}", "é😀"] {
        let changed = set("", &path("k"), &Value::Text(text.to_owned())).unwrap();
        // A quoted key is decoded, so a string can be read back as one.
        let as_key = format!("{} = 1\n", changed.strip_prefix("k = ").unwrap().trim_end());
        assert_eq!(parse(&as_key).unwrap().tables[0].entries[0].key, [text.to_owned()]);
    }
}

/// Damages a document in many ways; whatever can still be read keeps all its values when one is set.
#[test]
fn any_document_takes_any_key_and_keeps_the_rest() {
    let mut state = 3_u64;
    let mut pick = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 40).unwrap() % limit
    };
    let lines: Vec<&str> = SAMPLE.split_inclusive('\n').collect();
    let keys = [
        "schema",
        "gateway.host",
        "gateway.tls.cert",
        "gateway.limits.rate.0",
        "provider.0.name",
        "provider.0.extra.x",
        "x.y",
    ];
    let mut set_count = 0;
    for _ in 0..800 {
        let mut document: String = lines.iter().filter(|_| pick(8) > 0).copied().collect();
        if pick(3) == 0 {
            let mut at = pick(document.len());
            while !document.is_char_boundary(at) {
                at -= 1;
            }
            document.insert_str(at, ["[", "\"", "\n", "a = 1\n", "#", "{", "."][pick(7)]);
        }
        if check(&document).is_err() {
            continue;
        }
        let key = keys[pick(keys.len())];
        let Ok(changed) = try_set(&document, key, "\"new\"") else { continue };
        assert_eq!(lookup(&changed, key).as_deref(), Some("\"new\""), "{document}\n---\n{changed}");
        for other in keys.iter().filter(|other| **other != key) {
            assert_eq!(lookup(&document, other), lookup(&changed, other), "{other}\n{document}\n---\n{changed}");
        }
        set_count += 1;
    }
    assert!(set_count > 250, "{set_count}");
}
