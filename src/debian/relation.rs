//! Relations between packages: `Depends: a (>= 1) | b:any, c`.
//!
//! Spec: Debian Policy §7.1; deb-control(5).

use std::cmp::Ordering;
use std::fmt;

use crate::version;

/// How a version must compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

/// Which architecture's package is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qualifier<'a> {
    /// Nothing said: the depending package's own.
    Own,
    /// `:any`
    Any,
    /// `:native`
    Native,
    /// `:arm64`
    Architecture(&'a str),
}

/// One package that would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    /// Its name, possibly a virtual one.
    pub name: &'a str,
    /// Its architecture.
    pub qualifier: Qualifier<'a>,
    /// What its version must be.
    pub version: Option<(Operator, &'a str)>,
}

/// Alternatives, in order of preference: one of them must hold.
pub type Clause<'a> = Vec<Relation<'a>>;

/// A text that is no relation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a package relation")]
pub struct RelationError(pub String);

impl Operator {
    /// Whether a version that compares so with the one written satisfies it.
    #[must_use]
    pub const fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Earlier => order.is_lt(),
            Self::EarlierOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::LaterOrEqual => order.is_ge(),
            Self::Later => order.is_gt(),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        }
    }
}

impl<'a> Relation<'a> {
    /// Whether a package (or a virtual one) of this version satisfies the version written. `None`, a virtual package
    /// without version, satisfies only a relation without one.
    #[must_use]
    pub fn admits(&self, candidate: Option<&str>) -> bool {
        match (self.version, candidate) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some((operator, wanted)), Some(candidate)) => operator.holds(version::compare(candidate, wanted)),
        }
    }

    fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let (head, version) = match text.split_once('(') {
            None => (text, None),
            Some((head, rest)) => (head.trim_end(), Some(parse_version(rest.strip_suffix(')')?)?)),
        };
        let (name, qualifier) = match head.split_once(':') {
            None => (head, Qualifier::Own),
            Some((name, "any")) => (name, Qualifier::Any),
            Some((name, "native")) => (name, Qualifier::Native),
            Some((name, architecture)) if is_name(architecture) => (name, Qualifier::Architecture(architecture)),
            Some(_) => return None,
        };
        is_name(name).then_some(Self { name, qualifier, version })
    }
}

/// Whether `text` can be a package's name: a little wider than the policy, as archives are.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))
}

/// Parses a relation field, clause by clause.
///
/// # Errors
/// [`RelationError`] with the part that is not understood.
pub fn parse(field: &str) -> Result<Vec<Clause<'_>>, RelationError> {
    let clauses = field.split(',').map(str::trim).filter(|clause| !clause.is_empty());
    clauses.map(parse_clause).collect()
}

/// Parses one clause: alternatives between bars.
///
/// # Errors
/// [`RelationError`] with the part that is not understood.
pub fn parse_clause(clause: &str) -> Result<Clause<'_>, RelationError> {
    clause.split('|').map(|text| Relation::parse(text).ok_or_else(|| RelationError(text.trim().to_owned()))).collect()
}

fn parse_version(text: &str) -> Option<(Operator, &str)> {
    let text = text.trim();
    let end = text.find(|c| !matches!(c, '<' | '=' | '>'))?;
    let (operator, version) = text.split_at(end);
    let operator = match operator {
        "<<" => Operator::Earlier,
        // A single `<` or `>` has meant "or equal" since dpkg 1.
        "<=" | "<" => Operator::EarlierOrEqual,
        "=" => Operator::Equal,
        ">=" | ">" => Operator::LaterOrEqual,
        ">>" => Operator::Later,
        _ => return None,
    };
    let version = version.trim();
    (!version.is_empty() && !version.contains(char::is_whitespace)).then_some((operator, version))
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match self.qualifier {
            Qualifier::Own => {}
            Qualifier::Any => f.write_str(":any")?,
            Qualifier::Native => f.write_str(":native")?,
            Qualifier::Architecture(architecture) => write!(f, ":{architecture}")?,
        }
        match self.version {
            Some((operator, version)) => write!(f, " ({} {version})", operator.as_str()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_control_files_write() {
        let clauses = parse("libc6 (>= 2.38), debconf (>= 0.5) | debconf-2.0, perl:any, gcc:arm64 (= 4:14.2.0-1),")
            .expect("well-formed");
        let shown: Vec<String> = clauses
            .iter()
            .map(|clause| clause.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "))
            .collect();
        assert_eq!(
            shown,
            ["libc6 (>= 2.38)", "debconf (>= 0.5) | debconf-2.0", "perl:any", "gcc:arm64 (= 4:14.2.0-1)"]
        );
        assert_eq!(parse("a(<<1)").expect("no spaces needed")[0][0].version, Some((Operator::Earlier, "1")));
        assert!(parse("").expect("empty").is_empty());
        for bad in ["a (1)", "a (>= )", "a (>= 1", "(>= 1)", "a || b", "a:b:c", "a b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_are_held_against_it() {
        let relation = parse("a (>= 1.0)").expect("well-formed")[0][0];
        assert!(relation.admits(Some("1.0-0")) && relation.admits(Some("1:0")));
        assert!(!relation.admits(Some("1.0~rc1")) && !relation.admits(None));
    }
}
