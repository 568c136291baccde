//! Relative paths inside a context.

/// The shortest equal path, as Go's `filepath.Clean` gives it: no `.`, no `a/..`, no doubled or trailing slash. An
/// empty one is `.`; what leads above the start keeps its `..`, unless the path is absolute.
pub(crate) fn clean(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
            ".." if is_absolute => {}
            _ => parts.push(part),
        }
    }
    match (is_absolute, parts.join("/")) {
        (true, rest) => format!("/{rest}"),
        (false, rest) if rest.is_empty() => ".".to_owned(),
        (false, rest) => rest,
    }
}

/// The path inside a tree whose root is where absolute paths start and `..` ends; empty for the root itself.
pub(crate) fn rooted(path: &str) -> String {
    clean(&format!("/{path}"))[1..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_go_does() {
        for (path, cleaned) in [
            ("", "."),
            (".", "."),
            ("./", "."),
            ("a/", "a"),
            ("/", "/"),
            ("/..", "/"),
            ("a/..", "."),
            ("../a/../..", "../.."),
            ("/a//b/./c", "/a/b/c"),
            ("!a/../b", "b"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
        assert_eq!(rooted("../../etc/./x/"), "etc/x");
        assert_eq!(rooted("/"), "");
    }
}
