//! Sending requests elsewhere: `[mirrors]`.

use std::collections::BTreeMap;

use url::Url;

/// Rewrites of URLs. A whole URL goes before prefixes, of which the longest that fits decides, as with git's `insteadOf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrors {
    prefixes: Vec<(String, String)>,
    whole: BTreeMap<String, Url>,
}

/// A mirror that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// The prefix is not the beginning of an `http` or `https` URL.
    #[error("`{0}` is not the beginning of a URL: it must start with `https://` or `http://`")]
    Prefix(String),
    /// The replacement is neither a URL that can be fetched nor an absolute path.
    #[error("`{0}` cannot stand in for a URL: use `https://`, `http://`, `file://` or an absolute path")]
    Replacement(String),
}

impl Mirrors {
    /// Pairs of prefix and replacement. A replacement may be a `file://` URL or an absolute path, which is the same.
    ///
    /// # Errors
    /// [`MirrorError`] for a prefix or replacement that is no URL.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, MirrorError> {
        let pairs = pairs.into_iter().map(|(prefix, replacement)| {
            if !["https://", "http://"].iter().any(|scheme| prefix.starts_with(scheme)) {
                return Err(MirrorError::Prefix(prefix));
            }
            let replacement = if replacement.starts_with('/') { format!("file://{replacement}") } else { replacement };
            match Url::parse(&replacement) {
                Ok(url) if matches!(url.scheme(), "https" | "http" | "file") => Ok((prefix, replacement)),
                _ => Err(MirrorError::Replacement(replacement)),
            }
        });
        Ok(Self { prefixes: pairs.collect::<Result<_, _>>()?, whole: BTreeMap::new() })
    }

    /// The same, with these whole addresses replaced. An address need not be a URL: git knows others.
    #[must_use]
    pub fn with_whole(self, pairs: impl IntoIterator<Item = (String, Url)>) -> Self {
        Self { whole: pairs.into_iter().collect(), ..self }
    }

    /// Whether nothing is rewritten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.whole.is_empty()
    }

    /// What stands in for an address, if anything does.
    #[must_use]
    pub fn replacement(&self, address: &str) -> Option<Url> {
        let parsed = Url::parse(address);
        let whole = self.whole.get(address).or_else(|| self.whole.get(parsed.as_ref().ok()?.as_str()));
        whole.cloned().or_else(|| {
            let url = parsed.ok()?;
            let text = url.as_str();
            self.prefixes
                .iter()
                .filter_map(|(prefix, to)| Some((prefix.len(), to, text.strip_prefix(prefix.as_str())?)))
                .max_by_key(|(length, ..)| *length)
                .and_then(|(_, replacement, rest)| Url::parse(&format!("{replacement}{rest}")).ok())
        })
    }

    /// Where `url` is to be fetched from: its replacement, or itself.
    #[must_use]
    pub fn rewrite(&self, url: &Url) -> Url {
        self.replacement(url.as_str()).unwrap_or_else(|| url.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrors(pairs: &[(&str, &str)]) -> Mirrors {
        Mirrors::new(pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))).expect("good mirrors")
    }

    fn rewritten(mirrors: &Mirrors, url: &str) -> String {
        mirrors.rewrite(&Url::parse(url).expect("url")).to_string()
    }

    #[test]
    fn the_longest_prefix_decides_and_paths_are_files() {
        let mirrors = mirrors(&[
            ("https://deb.debian.org/", "http://127.0.0.1:9999/deb/"),
            ("https://deb.debian.org/debian-security/", "/srv/security/"),
        ]);
        assert_eq!(
            rewritten(&mirrors, "https://deb.debian.org/debian/a.deb"),
            "http://127.0.0.1:9999/deb/debian/a.deb"
        );
        assert_eq!(rewritten(&mirrors, "https://deb.debian.org/debian-security/b"), "file:///srv/security/b");
        assert_eq!(rewritten(&mirrors, "https://example.org/x?y=1"), "https://example.org/x?y=1");
    }

    #[test]
    fn a_whole_address_goes_before_prefixes_and_need_not_be_a_url() {
        let to = |text: &str| Url::parse(text).expect("url");
        let mirrors = mirrors(&[("https://git.example.org/", "https://mirror.example.org/")]).with_whole([
            ("https://git.example.org/a".to_owned(), to("file:///srv/a")),
            ("git@example.org:b".to_owned(), to("file:///srv/b")),
        ]);
        assert_eq!(rewritten(&mirrors, "https://git.example.org/a"), "file:///srv/a");
        assert_eq!(rewritten(&mirrors, "https://git.example.org/ab"), "https://mirror.example.org/ab");
        assert_eq!(mirrors.replacement("git@example.org:b"), Some(to("file:///srv/b")));
        assert_eq!(mirrors.replacement("git@example.org:c"), None);
    }

    #[test]
    fn nonsense_is_refused() {
        let pair = |a: &str, b: &str| Mirrors::new([(a.to_owned(), b.to_owned())]);
        assert!(matches!(pair("deb.debian.org", "http://x/"), Err(MirrorError::Prefix(_))));
        assert!(matches!(pair("https://a/", "ftp://x/"), Err(MirrorError::Replacement(_))));
        assert!(matches!(pair("https://a/", "relative/path"), Err(MirrorError::Replacement(_))));
    }
}
