//! `WWW-Authenticate`. Spec: RFC 9110 §11.6.1; distribution's "Token Authentication Specification".

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use url::Url;

/// How a registry wants to be told who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from another server.
    Bearer(Bearer),
}

/// Where tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) realm: Url,
    pub(super) service: Option<String>,
    /// What the token must allow, where the registry says so.
    pub(super) scope: Option<String>,
    /// Whether a token was there and did not allow enough.
    pub(super) insufficient: bool,
}

/// The challenge in these headers that is answered best: a token rather than a password.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()) {
        for (scheme, parameters) in schemes(value) {
            let parameter = |name: &str| {
                parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = parameter("realm").and_then(|realm| Url::parse(&realm).ok()) {
                    return Some(Challenge::Bearer(Bearer {
                        realm,
                        service: parameter("service"),
                        scope: parameter("scope").filter(|scope| !scope.is_empty()),
                        insufficient: parameter("error").is_some_and(|error| error == "insufficient_scope"),
                    }));
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

type Parameters = Vec<(String, String)>;

/// Takes a header value apart: scheme after scheme, each with its parameters.
fn schemes(value: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        match (after.trim_start().strip_prefix('='), found.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let (value, after) = parameter_value(value.trim_start());
                parameters.push((word.to_owned(), value));
                rest = after;
            }
            // A parameter before any scheme: not a challenge.
            (Some(_), None) => return found,
            (None, _) => {
                found.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().expect("a header value"));
        }
        challenge(&headers)
    }

    #[test]
    fn a_token_is_preferred_however_it_is_written() {
        let bearer = |scope: Option<&str>, insufficient| {
            Some(Challenge::Bearer(Bearer {
                realm: Url::parse("https://auth.docker.io/token").expect("url"),
                service: Some("registry.docker.io".to_owned()),
                scope: scope.map(str::to_owned),
                insufficient,
            }))
        };
        let plain = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#;
        assert_eq!(parsed(&[plain]), bearer(None, false));
        assert_eq!(parsed(&["Basic realm=\"x, y=z\"", plain]), bearer(None, false));
        let scoped = r#"Basic realm=x, bearer service="registry.docker.io" , realm = "https://auth.docker.io/token",scope="repository:a/b:pull,push",error="insufficient_scope""#;
        assert_eq!(parsed(&[scoped]), bearer(Some("repository:a/b:pull,push"), true));
        assert_eq!(parsed(&[r#"Basic realm="a \"quoted\" word""#]), Some(Challenge::Basic));
        for none in ["", "Negotiate", "realm=\"x\"", "Bearer realm=\"not a url\"", "Bearer realm=\"unclosed"] {
            assert_eq!(parsed(&[none]), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_survived(text in "[ -~]{0,80}") {
            let _ = schemes(&text);
        }
    }
}
