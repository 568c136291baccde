//! What patterns leave out of a copy, worked out here for a daemon that cannot.

use std::collections::{BTreeMap, BTreeSet};

use bollard_buildkit_proto::pb;
use engine::context::{Inherited, Patterns};
use llb::CopyAction;

use super::tree::{PathKey, split};

/// No mode, no time.
const NONE: i64 = -1;
const NO_MODE: i32 = -1;

/// The patterns of a copy, and what they are about.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    copy: CopyAction,
    /// What is copied, or the directory in which a wildcard finds it.
    directory: String,
    include: Option<Patterns>,
    exclude: Option<Patterns>,
}

impl Filter {
    /// `None` for a copy that cannot be done in two: from directories that a wildcard finds.
    pub(super) fn of(copy: &CopyAction) -> Option<Self> {
        let path = clean(&copy.src);
        let directory = match copy.allow_wildcard {
            true => path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned(),
            false => path,
        };
        if copy.allow_wildcard && directory.contains(['*', '?', '[', '\\']) {
            return None;
        }
        let patterns = |lines: &[String]| {
            let patterns = Patterns::parse(lines.iter().map(String::as_str)).ok()?;
            Some((!patterns.is_empty()).then_some(patterns))
        };
        let (include, exclude) = (patterns(&copy.include)?, patterns(&copy.exclude)?);
        Some(Self { copy: copy.clone(), directory, include, exclude })
    }

    /// Everything that tells what is left out.
    pub(super) fn identity(&self) -> String {
        let CopyAction { include, exclude, allow_wildcard, .. } = &self.copy;
        format!("{:?} {allow_wildcard} {include:?} {exclude:?}", self.directory)
    }

    /// The copy of everything, to the same place in an empty tree.
    pub(super) fn whole(&self) -> pb::FileActionCopy {
        let CopyAction { src, follow_symlink, allow_wildcard, allow_empty_wildcard, .. } = self.copy.clone();
        let slash = if allow_wildcard { "/" } else { "" };
        pb::FileActionCopy {
            src,
            dest: format!("/{}{slash}", self.directory).replace("//", "/"),
            mode: NO_MODE,
            timestamp: NONE,
            follow_symlink,
            allow_wildcard,
            allow_empty_wildcard,
            create_dest_path: true,
            dir_copy_contents: !allow_wildcard,
            ..pb::FileActionCopy::default()
        }
    }

    /// The path relative to what is copied, which patterns are about; `None` for what lies above it.
    fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let inside = match self.directory.as_str() {
            "" => path,
            directory => match path.strip_prefix(directory)? {
                "" => "",
                rest => rest.strip_prefix('/')?,
            },
        };
        match (self.copy.allow_wildcard, inside) {
            (true, "") => None,
            (true, inside) => Some(inside.split_once('/').map_or("", |(_, rest)| rest)),
            (false, inside) => Some(inside),
        }
    }
}

/// What a directory means for what is in it.
#[derive(Clone, Default)]
struct Matched {
    include: Inherited,
    exclude: Inherited,
}

/// What has to be removed from a copy of everything, as few removals as can be. `paths` are all there are, with
/// whether each is a directory.
pub(super) fn removals(filter: &Filter, paths: &[(Vec<u8>, bool)]) -> Vec<pb::FileActionRm> {
    let paths: BTreeMap<PathKey, bool> =
        paths.iter().map(|(path, is_directory)| (PathKey::of(path), *is_directory)).collect();
    let kept = kept(filter, &paths);
    let mut removed: Vec<&PathKey> = Vec::new();
    for key in paths.keys().filter(|key| !kept.contains(*key)) {
        if !removed.last().is_some_and(|last| key.is_below(last)) {
            removed.push(key);
        }
    }
    grouped(&paths, &removed)
}

/// What stays. The rules are those of fsutil's copy; [`engine`]'s own has them too.
fn kept(filter: &Filter, paths: &BTreeMap<PathKey, bool>) -> BTreeSet<PathKey> {
    let mut kept = BTreeSet::new();
    // The directories around, outermost first. What is in one that is left out is left out with it.
    let mut around: Vec<(PathKey, Option<Matched>)> = Vec::new();
    for (key, is_directory) in paths {
        while around.last().is_some_and(|(directory, _)| !key.is_below(directory)) {
            around.pop();
        }
        let above = match around.last() {
            Some((_, None)) => continue,
            Some((_, Some(matched))) => matched.clone(),
            None => Matched::default(),
        };
        let path = String::from_utf8_lossy(&key.path()).into_owned();
        let (is_included, matched) = match filter.below(&path) {
            None | Some("") => (true, Some(Matched::default())),
            Some(below) => judge(filter, below, &above),
        };
        if is_included {
            kept.insert(key.clone());
            // A directory that is not included itself is there once something in it is.
            kept.extend(around.iter().map(|(directory, _)| directory.clone()));
        }
        if *is_directory {
            around.push((key.clone(), matched));
        }
    }
    kept
}

/// Whether a path is included, and what it hands down; nothing where all below it is left out.
fn judge(filter: &Filter, below: &str, above: &Matched) -> (bool, Option<Matched>) {
    let mut matched = Matched::default();
    let mut included = true;
    if let Some(patterns) = &filter.include {
        (included, matched.include) = patterns.matches(below, &above.include);
    }
    if let Some(patterns) = &filter.exclude {
        let (excluded, inherited) = patterns.matches(below, &above.exclude);
        matched.exclude = inherited;
        if excluded && !patterns.can_unmatch_below(below) {
            return (false, None);
        }
        included &= !excluded;
    }
    if !included && filter.include.as_ref().is_some_and(|include| !include.can_match_below(below)) {
        return (false, None);
    }
    (included, Some(matched))
}

/// Removals by ending where all of a directory that end so are to go: each costs the daemon a mount.
fn grouped(paths: &BTreeMap<PathKey, bool>, removed: &[&PathKey]) -> Vec<pb::FileActionRm> {
    let mut by_directory: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for key in removed {
        let path = key.path();
        let (parent, name) = split(&path);
        by_directory.entry(parent.to_vec()).or_default().insert(name.to_vec());
    }
    let mut staying: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for key in paths.keys() {
        let path = key.path();
        let (parent, name) = split(&path);
        if by_directory.get(parent).is_some_and(|names| !names.contains(name)) {
            staying.entry(parent.to_vec()).or_default().push(name.to_vec());
        }
    }
    let mut removals = Vec::new();
    for (parent, mut names) in by_directory {
        let staying = staying.get(&parent).map_or(&[][..], Vec::as_slice);
        while let Some(name) = names.pop_first() {
            let ending = endings(&name).find(|ending| {
                names.iter().any(|other| other.ends_with(ending)) && !staying.iter().any(|name| name.ends_with(ending))
            });
            let ending = ending.map(<[u8]>::to_vec);
            let (text, is_pattern) = match &ending {
                Some(ending) => (format!("*{}", escaped(ending)), true),
                None if std::str::from_utf8(&name).is_ok() => (String::from_utf8_lossy(&name).into_owned(), false),
                None => (escaped(&name), true),
            };
            if let Some(ending) = &ending {
                names.retain(|name| !name.ends_with(ending));
            }
            let directory = match is_pattern {
                true => escaped(&parent),
                false => String::from_utf8_lossy(&parent).into_owned(),
            };
            let path = if directory.is_empty() { format!("/{text}") } else { format!("/{directory}/{text}") };
            removals.push(pb::FileActionRm { path, allow_not_found: false, allow_wildcard: is_pattern });
        }
    }
    removals
}

/// Endings of a name from a dot on, the longest first.
fn endings(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let dots = name.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
    dots.map(|at| &name[at..])
}

/// A text as a pattern that it alone matches. Bytes that are no UTF-8 match any one.
fn escaped(text: &[u8]) -> String {
    let mut pattern = String::new();
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern.extend(std::iter::repeat_n('?', chunk.invalid().len()));
    }
    pattern
}

/// The path without what means nothing, relative to the root.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(copy: &CopyAction, paths: &[&str]) -> Vec<String> {
        let paths: Vec<_> =
            paths.iter().map(|path| (path.trim_end_matches('/').as_bytes().to_vec(), path.ends_with('/'))).collect();
        let filter = Filter::of(copy).expect("a filter");
        removals(&filter, &paths).into_iter().map(|removal| removal.path).collect()
    }

    fn without(src: &str, exclude: &[&str]) -> CopyAction {
        let exclude = exclude.iter().map(|pattern| (*pattern).to_owned()).collect();
        CopyAction { exclude, dir_copy_contents: true, ..CopyAction::new(src, "/out") }
    }

    #[test]
    fn what_is_excluded_goes_and_its_directory_with_it() {
        let paths =
            ["opt/", "opt/m/", "opt/m/a.js", "opt/m/a.map", "opt/m/t/", "opt/m/t/x", "opt/m/v/", "opt/m/v/b.map"];
        assert_eq!(
            removed(&without("/opt/m", &["**/*.map", "t"]), &paths),
            ["/opt/m/a.map", "/opt/m/t", "/opt/m/v/b.map"]
        );
        assert_eq!(removed(&without("/opt", &["m"]), &paths), ["/opt/m"]);
        assert!(removed(&without("/opt/m", &["opt"]), &paths).is_empty(), "patterns are about what is copied");
        // Exceptions.
        let kept = without("/opt/m", &["**/*.map", "t", "!v/**"]);
        assert_eq!(removed(&kept, &paths), ["/opt/m/a.map", "/opt/m/t"]);
    }

    #[test]
    fn what_is_not_included_goes() {
        let copy = CopyAction { include: vec!["v/*".to_owned(), "a.js".to_owned()], ..CopyAction::new("/m", "/out") };
        let paths = ["m/", "m/a.js", "m/b.js", "m/t/", "m/t/x", "m/v/", "m/v/b"];
        assert_eq!(removed(&copy, &paths), ["/m/b.js", "/m/t"]);
    }

    #[test]
    fn endings_are_taken_together_where_nothing_else_has_them() {
        let copy = without("/", &["*.d.ts", "*.map"]);
        assert_eq!(
            removed(&copy, &["a.d.ts", "b.d.ts", "c.ts", "x.js.map", "y.js.map", "z.map", "z.js"]),
            ["/*.d.ts", "/*.js.map", "/z.map"]
        );
        assert_eq!(removed(&without("/", &["a*"]), &["a[1].x", "a[2].x", "b.x"]), ["/a[1].x", "/a[2].x"]);
    }

    #[test]
    fn wildcards_are_about_each_that_is_found() {
        let copy = CopyAction { allow_wildcard: true, ..without("/opt/*", &["x"]) };
        assert_eq!(removed(&copy, &["opt/", "opt/a/", "opt/a/x", "opt/a/y", "opt/x"]), ["/opt/a/x"]);
        let whole = Filter::of(&copy).expect("a filter").whole();
        assert_eq!((whole.src.as_str(), whole.dest.as_str()), ("/opt/*", "/opt/"));
        assert!(Filter::of(&CopyAction { allow_wildcard: true, ..without("/*/m", &["x"]) }).is_none());
    }
}
