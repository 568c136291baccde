//! Hostile texts: damaged in every way, they are read or refused, and what is set in them is seen by others too.

use super::*;
use crate::json;
use crate::manifest::Manifest;
use crate::value::Kind;

/// Documents of every kind, to damage.
const SEEDS: [&str; 12] = [
    "{ a: [1, .5e3, 0x1f, -Infinity, 'x\\u00e9\\\n'], /* c */ \"b\": { c: null, }, 'd': +1. } // é\n",
    "{\"a\": [1, -0.5e+3, true], \"b\": {\"c\": null, \"\\ud83d\\ude00\": \"\\\\\\\"\"}, \"a\": 2}\n",
    "# head\r\na = 1\r\n[t.u]\r\nk = \"\\u00e9\\t\" # c\r\n",
    "a.b = 1979-05-27 07:32:00Z\n\"q k\" = '''\nx''' \n[[t]]\nn = [ 1, { x = 1, y.z = 0x_f }, # c\n]\n[[t]]\n[t.s]\ninf = -inf\n",
    "# h\n---\na: 1 # c\nb:\n- x: 'it''s'\n  y: |+\n    text # no\n\n- [1, {a: b}]\n-\n  - z\nc: &n !t\n  d: *n\n? e\n",
    "a:\n  b: {x: 1, y: [2, \"#\"]} # c\n  'k': \"\\u00e9\"\nempty:\nlist:\n    - ~\n    - 1:30\n...\n",
    "%YAML 1.2\n--- \nk: >-\n  folded\n  text\nlast: end\r\n",
    "# c\nexport A = \"x\\n\\\"y\" # z\nB='it # s'\nC=plain#no #yes\nD=\n",
    r#"{"version": 1, "user": {"uid": 1, "gid": 2, "home": "/h"}, "volumes": [{"path": "/v", "uid": 1, "mode": "0750"}],
        "config": [{"default": "/d", "path": "/p", "format": "toml", "mode": "0644", "overrides": [{"env": "A", "key": ["a", "0"], "type": "json"}]}],
        "command": ["a", "-b"], "stop_signal": "SIGRTMIN+3", "health": {"http": {"port": 80, "path": "/h"}}}"#,
    r#"{"version": 1, "env": {"A": "b"}, "processes": [{"name": "m", "command": ["a"], "after": ["s"], "restart": "always"},
        {"name": "s", "command": ["b"], "ready": {"unix": "/s", "within_ms": 9}, "max_restarts": 3, "cwd": "/", "main": false}]}"#,
    "[[[[{{{{((((\"\"\"\"''''\\\\\\\\####::::----",
    "\u{feff}\u{2028}\u{85}é😀\0\t\r\n",
];

/// What is put into them.
const PIECES: [&str; 40] = [
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "\\",
    "\\u",
    "\\ud83d",
    "\\U0001f600",
    "\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "  ",
    "#",
    " # ",
    "//",
    "/*",
    "*/",
    "{",
    "}",
    "[",
    "]",
    "[[",
    "]]",
    ",",
    ":",
    ": ",
    "- ",
    "---\n",
    "...\n",
    "=",
    ".",
    "null",
    "~",
    "0",
    "1e999",
    "&a ",
    "*a",
    "\u{e9}",
];

#[derive(Clone, Debug)]
enum Damage {
    Remove { at: usize, length: usize },
    Insert { at: usize, piece: &'static str },
    InsertChar { at: usize, char: char },
    Repeat { at: usize, length: usize, times: usize },
    Move { from: usize, length: usize, to: usize },
    Cut { at: usize },
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = || 0_usize..600;
    let length = || 1_usize..24;
    prop_oneof![
        2 => (at(), length()).prop_map(|(at, length)| Damage::Remove { at, length }),
        4 => (at(), proptest::sample::select(&PIECES[..])).prop_map(|(at, piece)| Damage::Insert { at, piece }),
        1 => (at(), any::<char>()).prop_map(|(at, char)| Damage::InsertChar { at, char }),
        1 => (at(), length(), 1_usize..4).prop_map(|(at, length, times)| Damage::Repeat { at, length, times }),
        2 => (at(), length(), at()).prop_map(|(from, length, to)| Damage::Move { from, length, to }),
        1 => at().prop_map(|at| Damage::Cut { at }),
    ]
}

fn damaged(seed: &str, damages: &[Damage]) -> String {
    let mut chars: Vec<char> = seed.chars().collect();
    for damage in damages {
        let place = |at: usize, length: usize| {
            let at = at % (chars.len() + 1);
            at..(at + length).min(chars.len())
        };
        match *damage {
            Damage::Remove { at, length } => drop(chars.drain(place(at, length))),
            Damage::Insert { at, piece } => {
                let at = place(at, 0).start;
                chars.splice(at..at, piece.chars());
            }
            Damage::InsertChar { at, char } => chars.insert(place(at, 0).start, char),
            Damage::Repeat { at, length, times } => {
                let range = place(at, length);
                let part = chars[range.clone()].repeat(times);
                chars.splice(range.start..range.start, part);
            }
            Damage::Move { from, length, to } => {
                let part: Vec<char> = chars.drain(place(from, length)).collect();
                let to = to % (chars.len() + 1);
                chars.splice(to..to, part);
            }
            Damage::Cut { at } => chars.truncate(place(at, 0).start),
        }
    }
    chars.into_iter().collect()
}

fn hostile() -> impl Strategy<Value = String> {
    let seed = proptest::sample::select(&SEEDS[..]);
    let damaged = (seed, proptest::collection::vec(damage(), 0..6)).prop_map(|(seed, damages)| damaged(seed, &damages));
    let pieces =
        proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..24).prop_map(|pieces| pieces.concat());
    prop_oneof![8 => damaged, 2 => pieces, 1 => ".{0,40}".prop_map(String::from)]
}

const FORMATS: [Format; 5] = [Format::Json, Format::Json5, Format::Toml, Format::Yaml, Format::Env];

proptest! {
    /// Whatever is set, if both readers took the document, the other one sees it, and all else as before.
    #[test]
    fn hostile_documents_do_no_harm(
        text in hostile(),
        format in proptest::sample::select(&FORMATS[..]),
        env_text in super::env_text(),
        (key, new, steps) in (proptest::collection::vec(model::name(), 1..4), model::tree(), proptest::collection::vec(any::<u8>(), 0..5)),
    ) {
        let new = if format == Format::Env { Value::Text(env_text) } else { new };
        let ours = check(format, &text);
        let theirs = read(format, &text);
        // What is behind a block scalar decides whether its last line has an end.
        let has_open_end = format == Format::Yaml && !text.ends_with('\n') && text.contains(['|', '>']);
        if let (Ok(theirs), false) = (&theirs, has_open_end) {
            let model = from_other(theirs);
            let key = lead(&model, &key, &steps);
            if let (false, Ok(changed)) = (key.is_empty(), set(format, &text, &key, &new)) {
                // Not every reader goes as deep, or takes every character.
                let expected = apply(&model, &key, &new).map(|expected| normal(&expected));
                prop_assert_eq!(read(format, &changed).ok(), expected, "{:?}: {:?}\n{}\n---\n{}", format, key, text, changed);
            }
        } else if ours.is_ok() {
            if let Ok(changed) = set(format, &text, &key, &new) {
                prop_assert!(check(format, &changed).is_ok(), "{:?}: {:?}\n{}\n---\n{}", format, key, text, changed);
            }
        }
    }

    /// Strict JSON is what others take for JSON.
    #[test]
    fn hostile_json_is_taken_as_others_take_it(text in hostile()) {
        let ours = json::parse(&text, Dialect::Json);
        match read(Format::Json, &text) {
            Ok(theirs) => prop_assert_eq!(ours.map(|node| normal(&json::to_value(&node, &text))), Ok(theirs)),
            // What stands for no character is read as U+FFFD here; numbers may have any size.
            Err(error) if error.contains("surrogate") || error.contains("out of range") || error.contains("escape") => {}
            Err(error) => prop_assert!(ours.is_err(), "{error}"),
        }
    }

    #[test]
    fn hostile_toml_that_others_take_is_taken(text in hostile()) {
        if read(Format::Toml, &text).is_ok() {
            prop_assert_eq!(check(Format::Toml, &text), Ok(()));
        }
    }

    #[test]
    fn hostile_manifests_and_values_do_no_harm(text in hostile()) {
        if let Ok(manifest) = Manifest::parse(&text) {
            prop_assert_eq!(manifest.processes.iter().filter(|process| process.is_main).count(), 1);
        }
        for kind in [Kind::String, Kind::Integer, Kind::Number, Kind::Boolean, Kind::List, Kind::Json] {
            if let Some(value) = kind.read(&text) {
                let mut written = String::new();
                json::write(&value, &mut written);
                prop_assert!(json::parse(&written, Dialect::Json).is_ok(), "{written}");
            }
        }
    }

    /// Variables and secrets are any bytes.
    #[test]
    fn hostile_environments_do_no_harm(
        variables in proptest::collection::vec((proptest::sample::select(&["A", "A_FILE", "HOME", "PATH", "", "CLAW_UID"][..]), proptest::collection::vec(any::<u8>(), 0..12)), 0..6),
    ) {
        let manifest = r#"{"version": 1, "command": ["a"], "user": {"uid": 1}, "secrets_dir": "/no/such", "config": [{"path": "/p", "format": "env", "overrides": [{"env": "A", "key": ["A"], "secret": true}]}]}"#;
        let manifest = Manifest::parse(manifest).unwrap();
        let given = variables.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.clone()));
        let gathered = crate::environment::Environment::of(given).gather(&manifest);
        if let Ok(environment) = gathered {
            let rendered = crate::config::render(&manifest.config[0], &environment);
            prop_assert_eq!(rendered.is_ok(), environment.text("A").is_ok());
        }
    }
}
