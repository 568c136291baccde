//! Which files of packages are left out.

use globset::{Glob, GlobBuilder, GlobMatcher};

/// Rules over paths inside the root, without a leading slash. The last rule that matches decides; what none matches is
/// kept. `*` and `?` stay within a name, `**` crosses directories.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    matcher: GlobMatcher,
    keep: bool,
}

/// A pattern that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a pattern for paths")]
pub struct FilterError {
    /// What was given.
    pub pattern: String,
    /// What is wrong with it.
    pub source: globset::Error,
}

impl Filter {
    /// Leaves out documentation, manual pages and translations, and keeps every copyright file: what Debian's slim
    /// images do.
    #[must_use]
    pub fn slim() -> Self {
        let mut filter = Self::default();
        for pattern in [
            "usr/share/doc/*/**",
            "usr/share/doc-base/**",
            "usr/share/groff/**",
            "usr/share/info/**",
            "usr/share/linda/**",
            "usr/share/lintian/**",
            "usr/share/locale/**",
            "usr/share/man/**",
        ] {
            filter.add(pattern, false).expect("these patterns are well-formed");
        }
        for pattern in ["usr/share/doc/*/copyright", "usr/share/locale/locale.alias"] {
            filter.add(pattern, true).expect("these patterns are well-formed");
        }
        filter
    }

    /// Leaves out what `pattern` matches.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn exclude(&mut self, pattern: &str) -> Result<(), FilterError> {
        self.add(pattern, false)
    }

    /// Keeps what `pattern` matches, whatever earlier rules say.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn keep(&mut self, pattern: &str) -> Result<(), FilterError> {
        self.add(pattern, true)
    }

    fn add(&mut self, pattern: &str, keep: bool) -> Result<(), FilterError> {
        let glob: Result<Glob, _> = GlobBuilder::new(pattern.trim_start_matches('/')).literal_separator(true).build();
        let glob = glob.map_err(|source| FilterError { pattern: pattern.to_owned(), source })?;
        self.rules.push(Rule { matcher: glob.compile_matcher(), keep });
        Ok(())
    }

    /// Whether a file at `path` is kept.
    pub(super) fn keeps(&self, path: &str) -> bool {
        self.rules.iter().rev().find(|rule| rule.matcher.is_match(path)).is_none_or(|rule| rule.keep)
    }
}

#[cfg(test)]
mod tests {
    use super::Filter;

    #[test]
    fn slim_keeps_copyrights_and_links_to_them() {
        let filter = Filter::slim();
        for kept in ["usr/share/doc/a/copyright", "usr/share/doc/a", "usr/bin/man", "etc/x", "usr/share/manuals/x"] {
            assert!(filter.keeps(kept), "{kept}");
        }
        for dropped in [
            "usr/share/doc/a/README.gz",
            "usr/share/doc/a/examples/copyright",
            "usr/share/man/man1/a.1.gz",
            "usr/share/locale/de/LC_MESSAGES/a.mo",
        ] {
            assert!(!filter.keeps(dropped), "{dropped}");
        }
    }

    #[test]
    fn the_last_rule_decides() {
        let mut filter = Filter::default();
        filter.exclude("/usr/lib/**").unwrap();
        filter.keep("usr/lib/*.so").unwrap();
        filter.exclude("usr/lib/b*").unwrap();
        assert!(filter.keeps("usr/lib/a.so") && !filter.keeps("usr/lib/b.so") && !filter.keeps("usr/lib/x/a.so"));
        assert!(filter.exclude("usr/[").is_err());
    }
}
