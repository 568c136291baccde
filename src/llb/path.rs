//! Paths inside a tree: absolute, `/`-separated, in the shortest form.

/// `path` made absolute and shortest: no `.`, no `..`, no doubled or trailing slash. What leads above the root ends
/// there, as `path.Clean` of Go has it.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// As [`clean`], but a trailing `/` or `/.` stays: a copy's destination with one is a directory to copy into.
pub(crate) fn clean_destination(path: &str) -> String {
    let mut clean = clean(path);
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    } else if path.ends_with("/.") {
        if clean != "/" {
            clean.push('/');
        }
        clean.push('.');
    }
    clean
}

/// Whether [`clean`] would leave the path alone.
pub(crate) fn is_clean(path: &str) -> bool {
    path == "/"
        || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_go_does() {
        for (path, cleaned) in [
            ("", "/"),
            ("/", "/"),
            ("a", "/a"),
            ("/a//b/./c/..", "/a/b"),
            ("../../x", "/x"),
            ("/a/", "/a"),
            ("/.", "/"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
            assert!(is_clean(&clean(path)));
        }
        assert!(!is_clean("/a/") && !is_clean("a") && !is_clean("") && !is_clean("/a/../b"));
        for (path, cleaned) in [("/a/", "/a/"), ("a/.", "/a/."), ("/", "/"), ("/.", "/."), ("./", "/"), ("/a", "/a")] {
            assert_eq!(clean_destination(path), cleaned, "{path}");
        }
    }
}
