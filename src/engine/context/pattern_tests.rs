//! Patterns against a table of Docker's cases and against regular expressions.

use proptest::prelude::*;
use regex::Regex;

use super::ignore_file::parse_ignore_file;
use super::pattern::{Pattern, PatternError};
use super::patterns::{Inherited, Patterns};

/// Whether a file would be left out: its directories are met first, as on a walk.
fn matches(patterns: &[&str], path: &str) -> bool {
    walked(&Patterns::parse(patterns.iter().copied()).expect("patterns"), path)
}

fn walked(patterns: &Patterns, path: &str) -> bool {
    let mut inherited = Inherited::default();
    let mut is_match = false;
    for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
        (is_match, inherited) = patterns.matches(&path[..end], &inherited);
    }
    is_match
}

#[test]
fn one_pattern() {
    for (pattern, hits, misses) in [
        ("docs", &["docs", "docs/a", "docs/a/b"][..], &["doc", "docsx", "a/docs"][..]),
        ("docs/", &["docs", "docs/a"], &["a/docs"]),
        ("./docs", &["docs"], &["a/docs"]),
        ("a/../docs", &["docs"], &["a/docs"]),
        ("*", &["a", "a/b", ".x"], &[]),
        ("*.go", &["x.go", ".go", "x.go/y"], &["a/x.go", "x.god"]),
        ("*/temp*", &["a/temp", "a/temporary", "a/temp/x"], &["temp", "a/b/temp"]),
        ("*/*/temp*", &["a/b/temp.txt"], &["a/temp", "a/b/c/temp"]),
        ("temp?", &["tempa", "tempé"], &["temp", "tempaa", "temp/"]),
        ("**", &["a", "a/b/c", ".x"], &[]),
        ("**/", &["a", "a/b"], &[]),
        ("**/**", &["a", "a/b"], &[]),
        ("**/*.go", &["x.go", "a/x.go", "a/b/x.go"], &["x.god", "a/go"]),
        ("**/.git", &[".git", "a/.git", "a/b/.git/x"], &["x.git", "a/x.git"]),
        // Docker compares plain text behind `**` with the end of the path, in the middle of a name too.
        ("**file", &["file", "afile", "a/file", "a/xfile"], &["filex"]),
        ("**/foo/bar", &["foo/bar", "a/foo/bar", "a/b/foo/bar/c"], &["xfoo/bar", "foo"]),
        ("a/**", &["a/b", "a/b/c"], &["a", "ab"]),
        ("a**", &["a", "ab", "ab/c"], &["b"]),
        ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a/xb", "ab"]),
        ("a**/*.txt", &["a/f.txt", "a/b/f.txt", "ab/f.txt", "a.txt"], &["f.txt", "b/a.txt"]),
        ("a/*.txt**", &["a/f.txt", "a/f.txtx", "a/f.txt/b/c"], &["a/b/f.txt"]),
        ("a[b-d]e", &["abe", "ade"], &["ae", "aae", "a[b-d]e"]),
        ("a[^b-d]e", &["aae", "aze"], &["abe", "ae"]),
        // As in Docker a negated class also matches a slash, unlike in `filepath.Match`.
        ("a[^b]c", &["axc", "a/c"], &["abc"]),
        ("[*?]", &["*", "?"], &["a"]),
        ("[a-ζ]*", &["α", "b"], &["A"]),
        ("a\\*b", &["a*b"], &["ab", "axb"]),
        ("a\\\\", &["a\\"], &["a"]),
        ("a.b", &["a.b"], &["axb"]),
        ("a(b)+{c}|$", &["a(b)+{c}|$"], &["ab"]),
        ("a^b*", &["a^bc"], &["ab"]),
        // Nothing of a context is above it, is its root, or has an absolute path.
        ("../a", &[], &["a"]),
        (".", &[], &["a"]),
        ("/a", &[], &["a"]),
    ] {
        for path in hits {
            assert!(matches(&[pattern], path), "`{pattern}` should match `{path}`");
        }
        for path in misses {
            assert!(!matches(&[pattern], path), "`{pattern}` should not match `{path}`");
        }
    }
}

#[test]
fn several_patterns() {
    for (patterns, path, expected) in [
        (&["*.md", "!README.md"][..], "README.md", false),
        (&["*.md", "!README.md"], "CHANGES.md", true),
        (&["*.md", "!README*.md", "README-secret.md"], "README-secret.md", true),
        (&["*.md", "README-secret.md", "!README*.md"], "README-secret.md", false),
        (&["!a.go", "*.go"], "a.go", true),
        (&["docs", "!docs/README.md"], "docs/README.md", false),
        (&["docs", "!docs/README.md"], "docs/other", true),
        (&["docs/", "!docs/README.md"], "docs/README.md", false),
        (&["docs/*", "!docs/README.md"], "docs/README.md", false),
        (&["**", "!util/docker/web"], "util/docker/web/foo", false),
        (&["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", true),
        (&["**", "!util/docker/web"], "util/docker", true),
        (&["*", "!src", "src/*.tmp"], "src/a/b.tmp", false),
        (&["*", "!src", "src/*.tmp"], "src/b.tmp", true),
        // BuildKit does not try `!a` on `a` itself, which no pattern left out, so `a/b` stays out.
        (&["a/b", "!a"], "a/b", true),
    ] {
        assert_eq!(matches(patterns, path), expected, "{patterns:?} and `{path}`");
    }
}

#[test]
fn what_is_no_pattern() {
    assert_eq!(Pattern::parse("!").expect_err("refused"), PatternError::Empty);
    for text in ["[", "[]", "[]a]", "[^]", "[a", "[a-]", "[-a]", "a\\", "[\\", "x[a-\\"] {
        assert_eq!(Pattern::parse(text).expect_err(text), PatternError::Syntax(text.to_owned()));
    }
    for blank in ["", "  ", "\t"] {
        assert!(Pattern::parse(blank).expect("blank").is_none());
    }
}

#[test]
fn ignore_files() {
    let text = "\u{feff}# comment\n/root\n  spaced  \n\n #not a comment\n! /inverted/abs\n!\n./a//b/\n*.o\r\n/\n";
    let patterns = ["root", "spaced", "#not a comment", "!inverted/abs", "!", "a/b", "*.o", "/"];
    assert_eq!(parse_ignore_file(text), patterns);
    assert_eq!(parse_ignore_file(""), [""; 0]);
}

/// The regular expression that Docker's documentation amounts to, for patterns without classes and escapes of odd
/// kinds.
fn regex(pattern: &str) -> Regex {
    let mut regex = String::from("^");
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let (taken, meaning) = match c {
            '*' if rest == "**" => ("**", ".*".to_owned()),
            '*' if rest == "**/" => ("**/", ".*".to_owned()),
            '*' if rest.starts_with("**/") => ("**/", "(.*/)?".to_owned()),
            '*' if rest.starts_with("**") => ("**", "(.*/)?".to_owned()),
            '*' => ("*", "[^/]*".to_owned()),
            '?' => ("?", "[^/]".to_owned()),
            '[' => {
                let end = rest.find(']').expect("classes end") + 1;
                (&rest[..end], rest[..end].to_owned())
            }
            '\\' => (&rest[..2], regex::escape(&rest[1..2])),
            c => (&rest[..c.len_utf8()], regex::escape(&rest[..c.len_utf8()])),
        };
        regex.push_str(&meaning);
        rest = &rest[taken.len()..];
    }
    Regex::new(&(regex + "$")).expect("a regular expression")
}

fn naive(pattern: &str, path: &str) -> bool {
    match pattern.strip_prefix("**") {
        Some(plain) if !plain.contains(['*', '?', '[', '\\']) => {
            path.ends_with(plain) || plain.strip_prefix('/') == Some(path)
        }
        Some(_) | None => regex(pattern).is_match(path),
    }
}

fn pattern() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[ab.]{1,2}",
        1 => Just("*".to_owned()),
        1 => Just("**".to_owned()),
        1 => Just("?".to_owned()),
        1 => Just("[ab]".to_owned()),
        1 => Just("[^a]".to_owned()),
        1 => Just("\\*".to_owned()),
        3 => Just("/".to_owned()),
    ];
    proptest::collection::vec(part, 1..6).prop_map(|parts| parts.concat())
}

fn file() -> impl Strategy<Value = String> {
    "[ab.*é]{1,3}(/[ab.]{1,2}){0,3}"
        .prop_filter("clean", |path| super::path::clean(path) == *path && !path.starts_with(".."))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn agrees_with_regular_expressions(text in pattern(), path in file()) {
        if let Some(pattern) = Pattern::parse(&text).expect("a pattern") {
            prop_assert_eq!(pattern.matches(&path), naive(pattern.text(), &path), "`{}` and `{}`", pattern.text(), path);
        }
    }

    #[test]
    fn lists_agree_with_their_definition(
        list in proptest::collection::vec((any::<bool>(), pattern()), 0..5),
        path in file(),
    ) {
        let lines: Vec<String> =
            list.iter().map(|(negated, text)| format!("{}{text}", if *negated { "!" } else { "" })).collect();
        let Ok(patterns) = Patterns::parse(lines.iter().map(String::as_str)) else {
            return Ok(());
        };
        let compiled: Vec<Pattern> = lines.iter().filter_map(|line| Pattern::parse(line).expect("a pattern")).collect();
        // Level by level: a pattern holds if it held for the directory or, where it matters, matches itself.
        let mut held = vec![false; compiled.len()];
        let mut is_match = false;
        for depth in 1..=path.split('/').count() {
            let prefix = path.split('/').take(depth).collect::<Vec<_>>().join("/");
            is_match = false;
            for (pattern, held) in compiled.iter().zip(&mut held) {
                let matters = pattern.is_negated() == is_match;
                *held = *held || (matters && naive(pattern.text(), &prefix));
                if *held {
                    is_match = !pattern.is_negated();
                }
            }
        }
        prop_assert_eq!(walked(&patterns, &path), is_match, "{:?} and `{}`", lines, path);
        if compiled.iter().all(|pattern| !pattern.is_negated()) {
            let prefixes: Vec<_> = (1..=path.split('/').count())
                .map(|depth| path.split('/').take(depth).collect::<Vec<_>>().join("/"))
                .collect();
            let any = prefixes.iter().any(|prefix| compiled.iter().any(|pattern| naive(pattern.text(), prefix)));
            prop_assert_eq!(is_match, any);
        }
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error(text in any::<String>(), path in any::<String>()) {
        if let Ok(Some(pattern)) = Pattern::parse(&text) {
            pattern.matches(&path);
        }
    }
}

#[test]
fn no_pattern_takes_exponential_time() {
    let pattern = Pattern::parse(&"*a**b".repeat(30)).expect("a pattern").expect("not blank");
    assert!(!pattern.matches(&"ab/".repeat(300)));
}
