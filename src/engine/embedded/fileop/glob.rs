//! Wildcards in the paths of file operations. Spec: Go `path/filepath` `Match`; `*`, `?` and classes never match `/`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags};

use super::error::FileOpError;
use crate::embedded::mount::{Root, is};

/// The paths of a tree that a path with wildcards matches, in the order of a walk; the path itself if it has none.
/// Relative to the root. With `follow` a link at the end of the part without wildcards is followed.
pub(super) fn expand(root: Root<'_>, path: &str, follow: bool) -> Result<Vec<PathBuf>, FileOpError> {
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    let Some(first) = names.iter().position(|name| has_wildcard(name)) else {
        return Ok(vec![PathBuf::from(path)]);
    };
    let (plain, patterns) = names.split_at(first);
    let base: PathBuf = plain.iter().collect();
    let base = if follow { root.resolve(&base) } else { root.resolve_parent(&base) }
        .map_err(FileOpError::io("look for", Path::new(path)))?;
    root.stat(&base).map_err(|_| FileOpError::NotFound(super::error::shown(&base)))?;
    let mut found = Vec::new();
    descend(root, &base, patterns, &mut found)?;
    Ok(found)
}

fn descend(root: Root<'_>, base: &Path, patterns: &[&str], found: &mut Vec<PathBuf>) -> Result<(), FileOpError> {
    let Some((pattern, deeper)) = patterns.split_first() else {
        found.push(base.to_owned());
        return Ok(());
    };
    for name in names(root, base)? {
        if !matches(pattern, &name.to_string_lossy()) {
            continue;
        }
        let path = base.join(&name);
        let stat = root.stat(&path).map_err(FileOpError::io("read", &path))?;
        if deeper.is_empty() || is(&stat, FileType::Directory) {
            descend(root, &path, deeper, found)?;
        }
    }
    Ok(())
}

/// The names in a directory, sorted; none for what is no directory.
fn names(root: Root<'_>, path: &Path) -> Result<Vec<OsString>, FileOpError> {
    let read = || -> std::io::Result<Vec<OsString>> {
        let directory = match root.open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(Vec::new()),
            directory => directory?,
        };
        let mut names = Vec::new();
        for entry in Dir::new(directory)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
            }
        }
        names.sort();
        Ok(names)
    };
    read().map_err(FileOpError::io("list", path))
}

fn has_wildcard(name: &str) -> bool {
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => _ = characters.next(),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// Whether a name matches. A pattern that is not well formed matches nothing, as in BuildKit.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut read) = (0, 0);
    // Where to go on if what follows the last `*` does not match: the `*` then takes one character more.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&'*') {
            at += 1;
            retry = Some((at, read));
            continue;
        }
        if at == pattern.len() && read == name.len() {
            return true;
        }
        if let Some(next) = one(&pattern, at, name.get(read).copied()) {
            (at, read) = (next, read + 1);
            continue;
        }
        match retry {
            Some((after, taken)) if taken < name.len() => {
                retry = Some((after, taken + 1));
                (at, read) = (after, taken + 1);
            }
            Some(_) | None => return false,
        }
    }
}

/// If the character matches what stands at `at`, where the pattern goes on.
fn one(pattern: &[char], at: usize, character: Option<char>) -> Option<usize> {
    let character = character?;
    match *pattern.get(at)? {
        '?' => Some(at + 1),
        '[' => class(pattern, at + 1, character),
        '\\' => (*pattern.get(at + 1)? == character).then_some(at + 2),
        plain => (plain == character).then_some(at + 1),
    }
}

/// If the character is in the class whose `[` stands before `at`, where the pattern goes on behind its `]`.
fn class(pattern: &[char], at: usize, character: char) -> Option<usize> {
    let bound = |at: usize| match *pattern.get(at)? {
        '\\' => Some((*pattern.get(at + 1)?, at + 2)),
        '-' | ']' => None,
        plain => Some((plain, at + 1)),
    };
    let negated = pattern.get(at) == Some(&'^');
    let mut at = at + usize::from(negated);
    let mut inside = false;
    loop {
        let (low, mut next) = bound(at)?;
        let mut high = low;
        if pattern.get(next) == Some(&'-') {
            (high, next) = bound(next + 1)?;
        }
        inside |= (low..=high).contains(&character);
        at = next;
        if pattern.get(at) == Some(&']') {
            return (inside != negated).then_some(at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*b*c*d*e*", "axbxcxdxe", true),
            ("a*b*c*d*e*", "axbxcxdxexxx", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("[\\-x]", "a", false),
            ("[]a]", "]", false),
            ("[-]", "-", false),
            ("[", "a", false),
            ("[^bc", "a", false),
            ("a[", "ab", false),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn knows_wildcards_from_escapes() {
        assert!(has_wildcard("a*") && has_wildcard("[x") && has_wildcard("\\\\?"));
        assert!(!has_wildcard("a\\*\\[") && !has_wildcard("plain") && !has_wildcard("end\\"));
    }
}
