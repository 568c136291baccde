use super::*;
use crate::value::Kind;

fn path(key: &str) -> Vec<String> {
    key.split('.').map(str::to_owned).collect()
}

/// Sets the JSON `value` and checks that exactly it is there afterwards.
fn set5(document: &str, key: &str, value: &str) -> String {
    let value = Kind::Json.read(value).unwrap();
    let changed =
        set(Dialect::Json5, document, &path(key), &value).unwrap_or_else(|error| panic!("{document}: {error:?}"));
    assert_eq!(lookup(&changed, &path(key)), Some(value), "{changed}");
    changed
}

fn lookup(document: &str, key: &[String]) -> Option<Value> {
    let root = json::parse(document, Dialect::Json5).unwrap_or_else(|error| panic!("{document}: {error:?}"));
    let mut value = json::to_value(&root, document);
    for name in key {
        value = match value {
            Value::Map(members) => members.into_iter().rev().find(|(key, _)| key == name)?.1,
            Value::List(items) => items.into_iter().nth(name.parse().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

#[test]
fn a_value_is_replaced_and_everything_around_it_stays() {
    let document =
        "// head\n{\n  gateway: {\n    port: 1, // the port\n    'bind': \"loopback\" /* mode */,\n  },\n}\n";
    assert_eq!(set5(document, "gateway.port", "18789"), document.replace("port: 1", "port: 18789"));
    assert_eq!(set5(document, "gateway.bind", "\"lan\""), document.replace("\"loopback\"", "\"lan\""));
    assert_eq!(set5(document, "gateway", "{\"a\": [1]}"), "// head\n{\n  gateway: {\"a\": [1]},\n}\n",);
}

#[test]
fn a_new_key_is_laid_out_like_its_neighbours() {
    for (document, expected) in [
        ("{}", "{ \"k\": 1 }"),
        ("{ }\n", "{ \"k\": 1 }\n"),
        ("{ a: 1 }", "{ a: 1, k: 1 }"),
        ("{\"a\":1}", "{\"a\":1, \"k\": 1}"),
        ("{ 'a': 1, }", "{ 'a': 1, \"k\": 1, }"),
        ("{ a: 1 /* , */ }", "{ a: 1, k: 1 /* , */ }"),
        ("{\n  a: 1\n}", "{\n  a: 1,\n  k: 1\n}"),
        ("{\r\n\ta: 1\r\n}", "{\r\n\ta: 1,\r\n\tk: 1\r\n}"),
        ("{\n  a: 1, // one, of some\n}", "{\n  a: 1, // one, of some\n  k: 1,\n}"),
        ("{\n  a: 1 // one, of some\n}", "{\n  a: 1, // one, of some\n  k: 1\n}"),
        ("{\n  a: 1 /* x\n y */ // z\n  // last\n}", "{\n  a: 1, /* x\n y */ // z\n  k: 1\n  // last\n}"),
        ("{ a: 1 // c\n}", "{ a: 1, // c\n  k: 1\n}"),
        ("{\n  // nothing yet\n}", "{\n  // nothing yet\n  \"k\": 1\n}"),
        ("{ /* none */ }", "{ /* none */ \"k\": 1 }"),
        ("{\n  a: 1 }", "{\n  a: 1, k: 1 }"),
    ] {
        assert_eq!(set5(document, "k", "1"), expected, "{document}");
    }
}

#[test]
fn objects_on_the_way_are_made() {
    assert_eq!(set5("{\n  a: {},\n}", "a.b.c", "true"), "{\n  a: { b: { c: true } },\n}");
    assert_eq!(set5("{ \"a\": null }", "a.b-c", "[]"), "{ \"a\": { \"b-c\": [] } }");
    assert_eq!(set5("{ a: 1 }", "x y.z", "2"), "{ a: 1, \"x y\": { z: 2 } }");
}

#[test]
fn lists_take_numbers_for_keys() {
    assert_eq!(set5("{a: [1, 2]}", "a.1", "3"), "{a: [1, 3]}");
    assert_eq!(set5("{a: [1, 2]}", "a.2.b", "3"), "{a: [1, 2, { b: 3 }]}");
    assert_eq!(set5("{a: [\n  1,\n]}", "a.1", "2"), "{a: [\n  1,\n  2,\n]}");
    assert_eq!(set5("[]", "0", "2"), "[ 2 ]");
    for key in ["a.5", "a.x"] {
        assert!(set(Dialect::Json5, "{a: [1]}", &path(key), &Value::Null).is_err(), "{key}");
    }
}

#[test]
fn the_last_of_several_members_is_the_one_that_counts() {
    assert_eq!(set5("{a: 1, a: 2}", "a", "3"), "{a: 1, a: 3}");
}

#[test]
fn plain_values_hold_no_keys() {
    let error = set(Dialect::Json, "{\"a\": {\"b\": 1}}", &path("a.b.c"), &Value::Null).unwrap_err();
    assert_eq!(error.describe(&path("a.b.c")), "`a.b.c` cannot be set: `a.b` is a plain value");
}

#[test]
fn json_stays_json() {
    let changed = set(Dialect::Json, "{\n  \"a\": 1\n}\n", &path("b.c"), &Value::Boolean(true)).unwrap();
    assert_eq!(changed, "{\n  \"a\": 1,\n  \"b\": { \"c\": true }\n}\n");
    assert!(set(Dialect::Json, "{a: 1}", &path("b"), &Value::Null).is_err());
}

/// Builds documents of every layout from few pieces, and sets present and absent keys in them.
#[test]
fn any_layout_takes_any_key_and_keeps_the_rest() {
    let spaces = ["", " ", "\n", "\n    ", " // c, }\n", " /* c, } */ ", "\r\n\t"];
    let mut state = 7_u64;
    let mut pick = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 40).unwrap() % limit
    };
    for _ in 0..5_000 {
        let mut document = String::from("{");
        let names = ["a", "'b'", "\"c\""];
        let count = pick(4);
        for (index, name) in names.iter().take(count).enumerate() {
            document.push_str(spaces[pick(spaces.len())]);
            document.push_str(name);
            document.push(':');
            document.push_str(["1", "{}", "{ x: 1 }", "[]", "', // }'"][pick(5)]);
            document.push_str(spaces[pick(spaces.len())]);
            if index + 1 < count || pick(2) == 0 {
                document.push(',');
            }
        }
        document.push_str(spaces[pick(spaces.len())]);
        document.push('}');
        let before: Vec<Option<Value>> = ["a", "b", "c"].iter().map(|name| lookup(&document, &path(name))).collect();
        let comments = |text: &str| (text.matches("// c, }\n").count(), text.matches("/* c, } */").count());
        let changed = set5(&document, "new.key", "\"v\"");
        let after: Vec<Option<Value>> = ["a", "b", "c"].iter().map(|name| lookup(&changed, &path(name))).collect();
        assert_eq!(before, after, "{document}\n{changed}");
        assert_eq!(comments(&document), comments(&changed), "{document}\n{changed}");
        if count > 0 {
            assert_eq!(comments(&document), comments(&set5(&changed, "a", "7")), "{changed}");
        }
    }
}
