//! Why a set of packages cannot be had.

use std::fmt;

use diag::{Diagnostic, Reported, codes};

/// A set of packages that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// A wanted package is not written as one.
    #[error("`{0}` is not how a package is asked for")]
    Request(String),
    /// No suite has the package.
    #[error(transparent)]
    Unknown(Box<UnknownPackage>),
    /// No version of the package will do.
    #[error("`{relation}` cannot be satisfied")]
    Unsatisfiable {
        /// What was asked.
        relation: String,
        /// Who asked for it.
        chain: Chain,
        /// What there is instead.
        available: Vec<String>,
    },
    /// Two packages exclude each other.
    #[error("`{}` cannot be installed together with `{}`: {statement}", .one.package, .other.package)]
    Conflict {
        /// The package that says so.
        one: Box<Party>,
        /// The other one.
        other: Box<Party>,
        /// How it says so.
        statement: String,
    },
    /// The layer below has another version.
    #[error("`{wanted}` is asked for, but the layer below has `{present}`")]
    Below {
        /// What was asked.
        wanted: String,
        /// What is there.
        present: String,
    },
    /// A package of the index has a field that is not understood.
    #[error("package `{package}` has a relation that is not understood")]
    Malformed {
        /// The package.
        package: String,
        /// What is wrong with it.
        source: crate::relation::RelationError,
    },
}

/// A package that no suite has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no package `{name}` for `{architecture}` in {}", .suites.join(", "))]
pub struct UnknownPackage {
    /// The name asked for.
    pub name: String,
    /// The architecture.
    pub architecture: String,
    /// Who asked for it.
    pub chain: Chain,
    /// The suites looked at.
    pub suites: Vec<String>,
    /// A name that is nearly the same.
    pub suggestion: Option<String>,
    /// Packages that provide it, where it is a virtual one that several do.
    pub providers: Vec<String>,
}

/// One side of a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// The package.
    pub package: String,
    /// Who asked for it.
    pub chain: Chain,
}

/// How a package came to be needed, the request first. One line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain(pub Vec<String>);

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl Reported for ResolveError {
    fn diagnostic(&self) -> Diagnostic {
        let because = |mut diagnostic: Diagnostic, chain: &Chain| {
            diagnostic.causes.extend(chain.0.iter().cloned());
            diagnostic
        };
        match self {
            Self::Request(_) => Diagnostic::new(codes::debian::REQUEST, self.to_string())
                .help("write `name`, `name=version`, `name/suite`, `name:arch` or `name:arch=version`"),
            Self::Unknown(unknown) => {
                let diagnostic = Diagnostic::new(codes::debian::UNKNOWN_PACKAGE, self.to_string());
                let diagnostic = because(diagnostic, &unknown.chain);
                match (unknown.providers.as_slice(), &unknown.suggestion) {
                    ([], Some(name)) => diagnostic.help(format!("did you mean `{name}`?")),
                    ([], None) => diagnostic.help("check the spelling, and whether another suite or component has it"),
                    (some, _) => {
                        diagnostic.help(format!("it is a virtual package: ask for one of {}", some.join(", ")))
                    }
                }
            }
            Self::Unsatisfiable { chain, available, .. } => {
                let diagnostic = because(Diagnostic::new(codes::debian::UNSATISFIABLE, self.to_string()), chain);
                match available.as_slice() {
                    [] => diagnostic.help("no suite given has a package of that name"),
                    some => diagnostic.help(format!("there is {}", some.join("; "))),
                }
            }
            Self::Conflict { one, other, .. } => Diagnostic::new(codes::debian::CONFLICT, self.to_string())
                .related(format!("why {}", one.package), one.chain.0.clone())
                .related(format!("why {}", other.package), other.chain.0.clone())
                .help("leave one of them out, or ask for versions that go together"),
            Self::Below { .. } => Diagnostic::new(codes::debian::BELOW, self.to_string())
                .help("ask for that version in the set below, or leave it out here"),
            Self::Malformed { .. } => Diagnostic::new(codes::debian::INDEX, self.to_string()).caused_by(self),
        }
    }
}
