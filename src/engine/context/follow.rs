//! Paths to follow: the files they name and, for symbolic links among them, what those lead to.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::path;
use super::pattern::Pattern;

/// The include patterns that follow paths come down to; `None` if they lead to the root, and so to everything.
///
/// Links are resolved as if the context's root were the root of all files: absolute ones start there, and `..` does
/// not lead out of it.
pub(super) fn follow(root: &OwnedFd, paths: &[String]) -> Option<Vec<String>> {
    let mut resolver = Resolver { root, resolved: BTreeSet::new() };
    for path in paths {
        resolver.add(&path::rooted(path));
    }
    let leads_to_root = resolver.resolved.contains("");
    (!leads_to_root).then(|| resolver.resolved.into_iter().collect())
}

struct Resolver<'a> {
    root: &'a OwnedFd,
    resolved: BTreeSet<String>,
}

impl Resolver<'_> {
    fn add(&mut self, path: &str) {
        let mut current = String::new();
        let mut rest = path;
        loop {
            let (part, after) = rest.split_once('/').unwrap_or((rest, ""));
            current = path::rooted(&format!("{current}/{part}"));
            let targets = self.targets(&current);
            if targets.is_empty() {
                if after.is_empty() {
                    self.resolved.insert(current);
                    return;
                }
                rest = after;
                continue;
            }
            // A link met a second time leads nowhere new; this ends loops.
            if self.resolved.insert(current) {
                for target in targets {
                    self.add(&path::rooted(&format!("{target}/{after}")));
                }
            }
            return;
        }
    }

    /// Where a link leads, or the links a pattern in the last part of the path matches. Nothing for what is no link.
    fn targets(&self, path: &str) -> Vec<String> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        if !has_wildcards(name) {
            return self.target(path).into_iter().collect();
        }
        // In a single name `**` is no more than `*`.
        let mut pattern = name.to_owned();
        while pattern.contains("**") {
            pattern = pattern.replace("**", "*");
        }
        let Ok(Some(pattern)) = Pattern::parse(&pattern) else {
            return Vec::new();
        };
        let mut names = self.names(directory);
        names.retain(|name| pattern.matches(name));
        names.sort_unstable();
        names.iter().filter_map(|name| self.target(&path::rooted(&format!("{directory}/{name}")))).collect()
    }

    fn target(&self, path: &str) -> Option<String> {
        if path.is_empty() {
            return None;
        }
        let stat = rustix::fs::statat(self.root, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return None;
        }
        let target = rustix::fs::readlinkat(self.root, path, Vec::new()).ok()?;
        let target = target.to_str().ok()?;
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        Some(if target.starts_with('/') {
            path::rooted(target)
        } else {
            path::rooted(&format!("{directory}/{target}"))
        })
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let directory = if directory.is_empty() { "." } else { directory };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(directory) = rustix::fs::openat(self.root, directory, flags, Mode::empty()).and_then(Dir::new) else {
            return Vec::new();
        };
        let names = directory.filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned));
        names.filter(|name| !matches!(name.as_str(), "." | "..")).collect()
    }
}

fn has_wildcards(name: &str) -> bool {
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => _ = chars.next(),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}
