//! The corpus of bad input: every directory of `tests/recipes/bad` is a test of the one message it gives.
//!
//! A directory holds the recipe and whatever belongs to it; `cmd`, a shell script, if `clawbuild ./recipe.toml` is not
//! what is to be run; `needs`, the capabilities the machine must have; and `expected.txt`, everything printed but the
//! progress, and the exit status. `CLAWBUILD_TEST_BLESS=1` writes `expected.txt` anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use support::{Capability, Cli, Output, Suite};

fn main() -> ExitCode {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipes/bad");
    let mut cases: Vec<PathBuf> = fs::read_dir(&corpus)
        .expect("the corpus is part of the sources")
        .map(|entry| entry.expect("the corpus can be listed").path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    cases
        .into_iter()
        .fold(Suite::new(), |suite, case| {
            let name = case.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            let needs = needs(&case);
            suite.test(format!("bad::{name}"), needs, move || check(&case))
        })
        .run()
}

fn needs(case: &Path) -> &'static [Capability] {
    let names = fs::read_to_string(case.join("needs")).unwrap_or_default();
    let capability = |name: &str| {
        Capability::ALL
            .into_iter()
            .find(|capability| capability.name() == name)
            .unwrap_or_else(|| panic!("{}: `{name}` is no capability", case.display()))
    };
    names.split_whitespace().map(capability).collect::<Vec<_>>().leak()
}

fn check(case: &Path) {
    // Scripts name the daemons of the tests by these.
    let services = std::env::vars().filter(|(name, _)| name.starts_with("CLAWBUILD_TEST_"));
    let cli = services.fold(Cli::new(env!("CARGO_BIN_EXE_clawbuild")).with_shared_store(), |cli, (name, value)| {
        cli.with_variable(name, value)
    });
    copy(case, cli.directory());
    let script = fs::read_to_string(case.join("cmd")).unwrap_or_else(|_| "clawbuild ./recipe.toml\n".to_owned());
    let actual = transcript(&cli, &cli.shell(&script));
    let expected = case.join("expected.txt");
    if std::env::var_os("CLAWBUILD_TEST_BLESS").is_some() {
        fs::write(&expected, actual).expect("the corpus can be written");
        return;
    }
    let wanted = fs::read_to_string(&expected)
        .unwrap_or_else(|error| panic!("{}: {error}; CLAWBUILD_TEST_BLESS=1 writes it", expected.display()));
    assert!(
        actual == wanted,
        "{} is not what was printed; read this, then set CLAWBUILD_TEST_BLESS=1 to accept it:\n{}",
        expected.display(),
        difference(&wanted, &actual)
    );
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the case can be listed") {
        let entry = entry.expect("the case can be listed");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("the working directory is writable");
            copy(&entry.path(), &target);
        } else if !["cmd", "needs", "expected.txt"].iter().any(|name| entry.file_name() == *name) {
            fs::copy(entry.path(), target).expect("the working directory is writable");
        }
    }
}

/// What was printed, with what differs from run to run replaced.
fn transcript(cli: &Cli, output: &Output) -> String {
    let status = output.status.map_or("killed".to_owned(), |status| status.to_string());
    let mut text = String::new();
    for (title, stream) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        if !stream.is_empty() {
            text.push_str(&format!("--- {title}\n{stream}"));
            if !stream.ends_with('\n') {
                text.push('\n');
            }
        }
    }
    text.push_str(&format!("--- exit status {status}\n"));
    for (path, name) in [(cli.directory(), "[DIR]"), (cli.store(), "[STORE]"), (&*cli.home(), "[HOME]")] {
        text = text.replace(&path.display().to_string(), name);
    }
    text = text.replace(&cli.scratch().display().to_string(), "[SCRATCH]");
    text.lines().filter(|line| !is_progress(line)).map(|line| times(line) + "\n").collect()
}

/// Lines of plain progress, `#3 …`, and what was locked on the way.
fn is_progress(line: &str) -> bool {
    let word = line.split(' ').next().unwrap_or_default();
    let numbered = word.strip_prefix('#').is_some_and(|number| number.parse::<u32>().is_ok());
    numbered || word == "locked"
}

/// Replaces every number of seconds (`0.512`, `1.2s`) that stands alone as a word.
fn times(line: &str) -> String {
    let is_time = |word: &str| {
        let number = word.strip_suffix('s').unwrap_or(word);
        let parts = number.split_once('.');
        parts.is_some_and(|(whole, part)| {
            [whole, part].iter().all(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        })
    };
    let words: Vec<&str> = line.split(' ').map(|word| if is_time(word) { "[TIME]" } else { word }).collect();
    words.join(" ")
}

fn difference(wanted: &str, actual: &str) -> String {
    let (wanted, actual): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), actual.lines().collect());
    let same_start = wanted.iter().zip(&actual).take_while(|(a, b)| a == b).count();
    let rest = (&wanted[same_start..], &actual[same_start..]);
    let same_end = rest.0.iter().rev().zip(rest.1.iter().rev()).take_while(|(a, b)| a == b).count();
    let lines = |sign: &str, lines: &[&str]| {
        lines[..lines.len() - same_end].iter().map(|line| format!("{sign}{line}\n")).collect::<String>()
    };
    let context = wanted[..same_start].iter().map(|line| format!(" {line}\n")).collect::<String>();
    context + &lines("-", rest.0) + &lines("+", rest.1)
}
