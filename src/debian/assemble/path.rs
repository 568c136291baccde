//! Paths inside the root: relative, normal, ordered as a walk of the tree meets them.

use std::cmp::Ordering;
use std::fmt;

/// A path inside the root: no leading or trailing slash, no `.`, `..` or empty components. The root is empty.
///
/// Ordered so that a directory comes before what is in it, and that before the directory's later siblings.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct TreePath(String);

impl TreePath {
    /// The root.
    pub(super) const ROOT: Self = Self(String::new());

    /// A path that is known to be normal, as tar readers give them.
    pub(super) fn from_normal(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory it lies in; the root for names in the root.
    pub(super) fn parent(&self) -> Self {
        Self(self.0.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned()))
    }

    /// Its last component.
    pub(super) fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// A name in this directory.
    pub(super) fn join(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}/{name}", self.0)) }
    }

    /// Where a symbolic link in this directory leads, without looking at other links. Like the kernel, it does not go
    /// above the root.
    pub(super) fn follow(&self, target: &str) -> Self {
        let mut path = if target.starts_with('/') { Self::ROOT } else { self.clone() };
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." => path = path.parent(),
                name => path = path.join(name),
            }
        }
        path
    }
}

impl From<&str> for TreePath {
    fn from(path: &str) -> Self {
        Self::ROOT.follow(path)
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A slash sorts before everything else that can be in a name.
        let weight = |byte| if byte == b'/' { 0 } else { byte };
        self.0.bytes().map(weight).cmp(other.0.bytes().map(weight))
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::TreePath;

    #[test]
    fn sorts_like_a_walk() {
        let mut paths: Vec<TreePath> =
            ["usr/lib-a", "usr/lib/b", "usr", "usr/lib", "", "usr.x", "usr/lib.so"].map(TreePath::from).into();
        paths.sort();
        let shown: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["/", "/usr", "/usr/lib", "/usr/lib/b", "/usr/lib-a", "/usr/lib.so", "/usr.x"]);
    }

    #[test]
    fn follows_links_inside_the_root() {
        let directory = TreePath::from("usr/lib");
        assert_eq!(directory.follow("../share/./x"), TreePath::from("usr/share/x"));
        assert_eq!(directory.follow("/etc//alternatives"), TreePath::from("etc/alternatives"));
        assert_eq!(directory.follow("../../../../etc"), TreePath::from("etc"));
        assert_eq!((directory.parent(), directory.name()), (TreePath::from("usr"), "lib"));
    }
}
