//! Debian version numbers and their order.
//!
//! Spec: Debian Policy §5.6.12; deb-version(7).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A well-formed version, `[epoch:]upstream[-revision]`. Equality and order are Debian's: `1.0` equals `1.00-0`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

/// A text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a Debian version")]
pub struct VersionError(pub String);

impl Version {
    /// The version as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if is_version(text) { Ok(Self(text.to_owned())) } else { Err(VersionError(text.to_owned())) }
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        if is_version(&text) { Ok(Self(text)) } else { Err(VersionError(text)) }
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

/// Whether `text` is a well-formed version.
#[must_use]
pub fn is_version(text: &str) -> bool {
    let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
    let allowed = |part: &str, extra: &[u8]| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b".+~".contains(&b) || extra.contains(&b))
    };
    epoch.parse::<u32>().is_ok_and(|_| epoch.bytes().all(|b| b.is_ascii_digit()))
        && allowed(upstream, b"-:")
        && allowed(revision, b"")
}

/// Compares two versions as dpkg does. Total on any text, so that indexes need not be validated first.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a_epoch, a_rest) = a.split_once(':').unwrap_or(("", a));
    let (b_epoch, b_rest) = b.split_once(':').unwrap_or(("", b));
    let (a_upstream, a_revision) = a_rest.rsplit_once('-').unwrap_or((a_rest, ""));
    let (b_upstream, b_revision) = b_rest.rsplit_once('-').unwrap_or((b_rest, ""));
    compare_numbers(a_epoch.as_bytes(), b_epoch.as_bytes())
        .then_with(|| compare_part(a_upstream.as_bytes(), b_upstream.as_bytes()))
        .then_with(|| compare_part(a_revision.as_bytes(), b_revision.as_bytes()))
}

/// Compares an upstream version or a revision: runs of non-digits and of digits in turn.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (a_text, a_rest) = a.split_at(a.iter().position(u8::is_ascii_digit).unwrap_or(a.len()));
        let (b_text, b_rest) = b.split_at(b.iter().position(u8::is_ascii_digit).unwrap_or(b.len()));
        let (a_number, a_next) =
            a_rest.split_at(a_rest.iter().position(|c| !c.is_ascii_digit()).unwrap_or(a_rest.len()));
        let (b_number, b_next) =
            b_rest.split_at(b_rest.iter().position(|c| !c.is_ascii_digit()).unwrap_or(b_rest.len()));
        let order = compare_text(a_text, b_text).then_with(|| compare_numbers(a_number, b_number));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_next, b_next);
    }
    Ordering::Equal
}

/// `~` sorts before the end of the run, the end before letters, letters before everything else.
fn compare_text(a: &[u8], b: &[u8]) -> Ordering {
    let weight = |text: &[u8], at: usize| match text.get(at) {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(other) => i32::from(*other) + 256,
    };
    (0..a.len().max(b.len()))
        .map(|at| weight(a, at).cmp(&weight(b, at)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Digits of any length; none counts as zero.
fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    let significant = |digits: &[u8]| digits.iter().position(|d| *d != b'0').unwrap_or(digits.len());
    let (a, b) = (&a[significant(a)..], &b[significant(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn orders_the_traps() {
        for (low, high) in [
            ("1.0~rc1", "1.0"),
            ("1.0", "1.0a"),
            ("1.0a", "1.0+b"),
            ("1.9", "1.10"),
            ("9", "1:0"),
            ("1.0-1", "1.0-1+b1"),
            ("1.0-1~deb13u1", "1.0-1"),
            ("2.41-12+deb13u3", "2.41-12+deb13u4"),
            ("0", "00000000000000000000000000000000000001"),
        ] {
            assert_eq!(compare(low, high), Ordering::Less, "{low} < {high}");
            assert_eq!(compare(high, low), Ordering::Greater, "{high} > {low}");
        }
        assert_eq!(compare("0:1.00-0", "1.0"), Ordering::Equal);
        assert!("1.0".parse::<Version>().is_ok() && "1:2-3-4".parse::<Version>().is_ok());
        for bad in ["", "1.0-", ":1", "x:1", "1 0", "1.0_2", "-1:2"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_dpkg(a in "([0-2]:)?[0-9][0-9a-cA-B.+~]{0,6}(-[0-9a+~.]{1,4})?", b in "([0-2]:)?[0-9][0-9a-cA-B.+~]{0,6}(-[0-9a+~.]{1,4})?") {
            let ask = |operator| Command::new("dpkg").args(["--compare-versions", &a, operator, &b]).status().expect("dpkg runs").success();
            let expected = if ask("lt") { Ordering::Less } else if ask("eq") { Ordering::Equal } else { Ordering::Greater };
            prop_assert_eq!(compare(&a, &b), expected);
            prop_assert_eq!(compare(&b, &a), expected.reverse());
        }
    }
}
