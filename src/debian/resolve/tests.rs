use diag::{Code, Reported, codes};

use super::{Baseline, Request, ResolveError, Suite, resolve};
use crate::{Compression, LockedPackage, PackageIndex};

/// An index from `name version [field: value]…` lines; `name:arch` for other architectures than amd64.
fn index(lines: &[&str]) -> PackageIndex {
    let mut text = String::new();
    for line in lines {
        let mut parts = line.split("; ");
        let (name, version) = parts.next().and_then(|head| head.split_once(' ')).expect("name and version");
        let (name, architecture) = name.split_once(':').unwrap_or((name, "amd64"));
        text += &format!("Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n");
        text += &format!("Filename: pool/{name}_{version}_{architecture}.deb\nSize: 1\nSHA256: {}\n", "0".repeat(64));
        parts.for_each(|field| text += &format!("{field}\n"));
        text += "\n";
    }
    PackageIndex::read(text.as_bytes(), Compression::Plain).expect("well-formed")
}

fn suite(name: &str, priority: i32, lines: &[&str]) -> Suite {
    Suite { name: name.to_owned(), priority, indexes: vec![index(lines)] }
}

fn request<'a>(wanted: &[&str]) -> Request<'a> {
    Request {
        architecture: "amd64",
        wanted: wanted.iter().map(|text| text.parse().expect("well-formed")).collect(),
        baseline: Baseline::Nothing,
        exclude: Vec::new(),
        below: &[],
    }
}

fn names(result: Result<Vec<LockedPackage>, ResolveError>) -> String {
    let shown = |package: &LockedPackage| match package.architecture.as_str() {
        "amd64" | "all" => format!("{}={}", package.name, package.version),
        other => format!("{}:{other}={}", package.name, package.version),
    };
    result.expect("it resolves").iter().map(shown).collect::<Vec<_>>().join(" ")
}

fn solve(lines: &[&str], wanted: &[&str]) -> Result<Vec<LockedPackage>, ResolveError> {
    resolve(&[suite("main", 500, lines)], &request(wanted))
}

fn code(result: Result<Vec<LockedPackage>, ResolveError>) -> Code {
    result.expect_err("it must not resolve").diagnostic().code
}

#[test]
fn dependencies_close_over_versions_and_circles() {
    let lines = ["a 1; Depends: b (>= 2), c", "b 1", "b 2; Pre-Depends: a", "c:all 1", "d 1"];
    assert_eq!(names(solve(&lines, &["a"])), "a=1 b=2 c=1");
}

#[test]
fn alternatives_prefer_what_is_chosen_then_the_first() {
    let lines = ["a 1; Depends: x | y", "b 1; Depends: y", "x 1", "y 1"];
    assert_eq!(names(solve(&lines, &["a"])), "a=1 x=1");
    assert_eq!(names(solve(&lines, &["a", "b"])), "a=1 b=1 y=1", "whatever comes first in the request");
    assert_eq!(names(solve(&["a 1; Depends: gone | y (>= 2) | x", "x 1", "y 1"], &["a"])), "a=1 x=1");
}

#[test]
fn virtual_packages_go_to_the_most_needed_provider_and_carry_versions() {
    let awk =
        ["a 1; Depends: awk", "gawk 1; Provides: awk; Priority: optional", "mawk 1; Provides: awk; Priority: required"];
    assert_eq!(names(solve(&awk, &["a"])), "a=1 mawk=1");
    let versioned = ["a 1; Depends: v (>= 2)", "p 1; Provides: v (= 1)", "q 1; Provides: v (= 2)", "r 1; Provides: v"];
    assert_eq!(names(solve(&versioned, &["a"])), "a=1 q=1");
}

#[test]
fn the_newest_of_equal_suites_wins_and_a_lower_one_helps_out() {
    let suites = [
        suite("stable", 500, &["a 1", "b 1", "c 1; Depends: a (>= 3)"]),
        suite("security", 500, &["a 2"]),
        suite("backports", 100, &["a 3", "b 3"]),
    ];
    assert_eq!(names(resolve(&suites, &request(&["a", "b"]))), "a=2 b=1");
    assert_eq!(names(resolve(&suites, &request(&["c"]))), "a=3 c=1");
    assert_eq!(names(resolve(&suites, &request(&["b/backports", "a=1"]))), "a=1 b=3");
}

#[test]
fn a_choice_that_fails_is_taken_back() {
    let lines = ["a 1; Depends: x | y, z", "x 1", "y 1", "z 1; Conflicts: x"];
    assert_eq!(names(solve(&lines, &["a"])), "a=1 y=1 z=1");
    let versions = ["a 1; Depends: l, m", "l 2", "l 1", "m 1; Depends: l (<< 2)"];
    assert_eq!(names(solve(&versions, &["a"])), "a=1 l=1 m=1");
}

#[test]
fn conflicts_are_told_with_both_chains() {
    let error = solve(&["a 1; Depends: b", "b 1; Breaks: c (<< 2)", "c 1"], &["a", "c"]).expect_err("b breaks c");
    let diagnostic = error.diagnostic();
    assert_eq!(diagnostic.code, codes::debian::CONFLICT);
    assert_eq!(diagnostic.message, "`b 1 (main)` cannot be installed together with `c 1 (main)`: it breaks `c (<< 2)`");
    assert_eq!(diagnostic.related[0].lines, ["`a` is asked for", "`a 1` depends on `b`"]);
    assert_eq!(diagnostic.related[1].lines, ["`c` is asked for"]);
    let own = ["a 1; Provides: m; Conflicts: m", "b 1; Provides: m; Conflicts: m"];
    assert_eq!(names(solve(&own, &["a"])), "a=1", "a package does not conflict with itself");
    assert_eq!(code(solve(&own, &["a", "b"])), codes::debian::CONFLICT);
}

#[test]
fn unknown_packages_say_who_asked_and_what_was_meant() {
    let diagnostic =
        solve(&["bash 1", "a 1; Depends: b", "b 1; Depends: bsah (>= 1)"], &["a"]).expect_err("bsah").diagnostic();
    assert_eq!(diagnostic.code, codes::debian::UNKNOWN_PACKAGE);
    assert_eq!(diagnostic.causes, ["`a` is asked for", "`a 1` depends on `b`", "`b 1` depends on `bsah (>= 1)`"]);
    assert_eq!(diagnostic.help, ["did you mean `bash`?"]);
    let several = solve(&["p 1; Provides: v", "q 1; Provides: v"], &["v"]).expect_err("which?").diagnostic();
    assert_eq!(several.help, ["it is a virtual package: ask for one of p, q"]);
    assert_eq!(names(solve(&["p 1; Provides: v"], &["v"])), "p=1");
}

#[test]
fn unsatisfiable_versions_say_what_there_is() {
    let diagnostic = solve(&["a 1; Depends: b (>= 2)", "b 1"], &["a"]).expect_err("too old").diagnostic();
    assert_eq!(diagnostic.code, codes::debian::UNSATISFIABLE);
    assert_eq!(diagnostic.help, ["there is b 1 (main)"]);
    assert_eq!(code(solve(&["a 1"], &["a=2"])), codes::debian::UNSATISFIABLE);
    assert_eq!(code(solve(&["a 1"], &["a:arm64"])), codes::debian::UNKNOWN_PACKAGE);
    for bad in ["", "A b", "a=", "a/", "a:b:c", "a=1 2"] {
        assert!(bad.parse::<super::Wanted>().is_err(), "{bad}");
    }
}

#[test]
fn excluded_packages_count_as_there() {
    let lines = [
        "tzdata:all 1; Depends: debconf (>= 0.5) | debconf-2.0",
        "debconf:all 1; Depends: perl; Provides: debconf-2.0",
        "perl 1",
        "base 1; Essential: yes; Pre-Depends: awk",
        "mawk 1; Provides: awk",
    ];
    let mut request = request(&["tzdata"]);
    request.baseline = Baseline::Essential;
    request.exclude = vec!["debconf".to_owned(), "mawk".to_owned()];
    assert_eq!(names(resolve(&[suite("main", 500, &lines)], &request)), "base=1 tzdata=1");
    request.exclude = vec!["debconf-2.0".to_owned()];
    assert_eq!(names(resolve(&[suite("main", 500, &lines)], &request)), "base=1 mawk=1 tzdata=1");
}

#[test]
fn other_architectures_come_along_where_asked() {
    let suites = [Suite {
        name: "main".to_owned(),
        priority: 500,
        indexes: vec![
            index(&["libc 1; Multi-Arch: same", "tool 1; Multi-Arch: foreign", "lone 1", "py 1; Multi-Arch: allowed"]),
            index(&[
                "libc:arm64 1; Multi-Arch: same",
                "tool:arm64 1; Multi-Arch: foreign",
                "std:arm64 1; Depends: libc, tool, py:any",
                "lone:arm64 1",
                "py:arm64 1; Multi-Arch: allowed",
                "strict:arm64 1; Depends: py",
            ]),
        ],
    }];
    assert_eq!(
        names(resolve(&suites, &request(&["libc", "std:arm64"]))),
        "libc=1 libc:arm64=1 py=1 std:arm64=1 tool=1"
    );
    assert_eq!(names(resolve(&suites, &request(&["strict:arm64"]))), "py:arm64=1 strict:arm64=1");
    assert_eq!(code(resolve(&suites, &request(&["lone", "lone:arm64"]))), codes::debian::CONFLICT);
}

#[test]
fn packages_below_are_there_and_stay_as_they_are() {
    let suites = [suite(
        "main",
        500,
        &["a 1; Depends: l, v", "b 1; Depends: l (>= 2)", "l 1; Provides: v", "l 2", "c 1; Conflicts: l"],
    )];
    let below = resolve(&suites, &request(&["l=1"])).expect("it resolves");
    let on_top = |wanted: &[&str]| resolve(&suites, &Request { below: &below, ..request(wanted) });
    assert_eq!(names(on_top(&["a", "l"])), "a=1");
    assert_eq!(code(on_top(&["b"])), codes::debian::UNSATISFIABLE);
    assert_eq!(code(on_top(&["l=2"])), codes::debian::BELOW);
    assert_eq!(code(on_top(&["c"])), codes::debian::CONFLICT);
}
