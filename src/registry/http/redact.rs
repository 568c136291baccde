//! URLs fit to be shown.

use std::fmt;

use url::Url;

/// A URL without what may be secret in it: user information and the values in its query.
///
/// Signed storage URLs carry their authority in the query, and people put tokens in user information, so errors and
/// logs hold only this type.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RedactedUrl(String);

impl RedactedUrl {
    /// The part of `url` that may be shown.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        let mut shown = url.clone();
        shown.set_fragment(None);
        // Neither call fails for URLs with a host, and those without one have no user information.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        if shown.query().is_some() {
            shown.set_query(Some("…"));
        }
        Self(shown.to_string().replace("%E2%80%A6", "…"))
    }
}

impl From<&Url> for RedactedUrl {
    fn from(url: &Url) -> Self {
        Self::new(url)
    }
}

impl fmt::Display for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_left() {
        let url = Url::parse("https://me:hunter2@h.example/a/b?X-Signature=abcdef&x=1#frag").expect("parses");
        assert_eq!(RedactedUrl::new(&url).to_string(), "https://h.example/a/b?…");
        let plain = Url::parse("http://127.0.0.1:5000/v2/").expect("parses");
        assert_eq!(RedactedUrl::new(&plain).to_string(), "http://127.0.0.1:5000/v2/");
    }
}
