use super::*;

fn json5(text: &str) -> Value {
    to_value(&parse(text, Dialect::Json5).unwrap_or_else(|error| panic!("{text:?}: {error}")), text)
}

fn refused(text: &str, dialect: Dialect) -> SyntaxError {
    parse(text, dialect).expect_err(text)
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn number(value: &str) -> Value {
    Value::Number(value.to_owned())
}

#[test]
fn every_spelling_of_json5_is_read() {
    let document =
        "\u{feff}// head\n{ a: 1, 'b': .5, \"c\": +0xFf, d\\u0061: Infinity, $_é: -NaN, /* x */ list: [1, 2,], }\n";
    let expected = Value::Map(vec![
        ("a".into(), number("1")),
        ("b".into(), number(".5")),
        ("c".into(), number("+0xFf")),
        ("da".into(), number("Infinity")),
        ("$_é".into(), number("-NaN")),
        ("list".into(), Value::List(vec![number("1"), number("2")])),
    ]);
    assert_eq!(json5(document), expected);
    assert_eq!(json5("'it\\'s \\x41\\v\\0 a\\\nb \\u00e9 \\ud83d\\ude00 \\q'"), text("it's A\x0b\0 ab é 😀 q"));
    assert_eq!(json5("\"\\ud83d x\""), text("\u{fffd} x"));
}

#[test]
fn json_takes_only_json() {
    for bad in [
        "",
        "{a: 1}",
        "{'a': 1}",
        "[1,]",
        "{\"a\": 1,}",
        "// x\n1",
        "'x'",
        "+1",
        ".5",
        "5.",
        "01",
        "0x1",
        "NaN",
        "Infinity",
        "1 2",
        "\"\\x41\"",
        "\"a\tb\"",
        "\"\n\"",
        "[1 2]",
        "{\"a\" 1}",
        "tru",
        "truex",
        "nulll",
        "-",
        "1e",
        "1e+",
        "\"",
        "\"\\",
        "\"\\u12",
        "{",
        "[",
    ] {
        refused(bad, Dialect::Json);
    }
    for good in ["0", "-0", "1.50e+10", "\"\\u00e9\\/\"", "[]", "{}", " {\"a\": [null, true, false]} \n", "1e999"] {
        parse(good, Dialect::Json).unwrap_or_else(|error| panic!("{good:?}: {error}"));
    }
}

#[test]
fn errors_say_where() {
    assert_eq!(
        refused("{\n  é: 1\n  b: 2\n}", Dialect::Json5),
        SyntaxError { line: 3, column: 3, problem: "expected `,` or `}`" }
    );
}

#[test]
fn hostile_texts_are_refused_without_harm() {
    for open in ["[", "{a:", "[{a:"] {
        let problem = refused(&open.repeat(1_000_000), Dialect::Json5).problem;
        assert_eq!(problem, "values are nested too deep");
    }
    let digits = "9".repeat(1_000_000);
    assert_eq!(json5(&digits), number(&digits));
    refused("/*", Dialect::Json5);
    refused("/", Dialect::Json5);
    refused("{\\u0000", Dialect::Json5);
}

/// A generator of numbers that are the same at every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn string(&mut self) -> String {
        const ALPHABET: [char; 12] = ['a', 'Z', '0', ' ', '"', '\\', '\n', '\0', '\x7f', 'é', '\u{2028}', '😀'];
        (0..self.below(8)).map(|_| ALPHABET[self.below(ALPHABET.len())]).collect()
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 4 } else { 6 }) {
            0 => Value::Null,
            1 => Value::Boolean(self.below(2) == 0),
            2 => number(&self.below(1 << 30).to_string()),
            3 => Value::Text(self.string()),
            4 => Value::List((0..self.below(4)).map(|_| self.value(depth - 1)).collect()),
            _ => Value::Map((0..self.below(4)).map(|_| (self.string(), self.value(depth - 1))).collect()),
        }
    }
}

#[test]
fn what_is_written_reads_back_in_both_languages() {
    let mut random = Random(1);
    for _ in 0..2_000 {
        let value = random.value(4);
        let mut written = String::new();
        write(&value, &mut written);
        for dialect in [Dialect::Json, Dialect::Json5] {
            assert_eq!(to_value(&parse(&written, dialect).unwrap(), &written), value, "{written}");
        }
    }
}

#[test]
fn no_damage_to_a_text_makes_the_reader_fail_otherwise_than_by_an_error() {
    let sample = "{ a: [1, .5e3, 0x1f, 'x\\u00e9\\\n'], /* c */ \"b\": { c: null, }, } // é\n".to_owned();
    let mut random = Random(2);
    for _ in 0..20_000 {
        let mut chars: Vec<char> = sample.chars().collect();
        for _ in 0..=random.below(3) {
            if chars.is_empty() {
                break;
            }
            let at = random.below(chars.len());
            match random.below(3) {
                0 => drop(chars.remove(at)),
                1 => chars.insert(at, chars[random.below(chars.len())]),
                _ => chars.truncate(at),
            }
        }
        let text: String = chars.into_iter().collect();
        if let Ok(node) = parse(&text, Dialect::Json5) {
            assert!(text.get(node.span.clone()).is_some());
        }
    }
}
