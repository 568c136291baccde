//! What is asked of the solver.

use std::fmt;
use std::str::FromStr;

use super::ResolveError;
use crate::{LockedPackage, relation, version};

/// What a set of packages must hold.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The architecture the packages are for, by Debian's name.
    pub architecture: &'a str,
    /// Packages asked for by name.
    pub wanted: Vec<Wanted>,
    /// What is taken in besides.
    pub baseline: Baseline,
    /// Packages held to be there: a dependency on one of them, or on what it provides, is satisfied.
    pub exclude: Vec<String>,
    /// Packages that are there, in the layers below.
    pub below: &'a [LockedPackage],
}

/// Packages a set has without anybody asking for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Baseline {
    /// None.
    #[default]
    Nothing,
    /// Those marked `Essential: yes`.
    Essential,
    /// Those, and those of priority `required`: what debootstrap calls minbase, without apt.
    Required,
}

/// One package asked for: `name[:arch][=version][/suite]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its architecture, where not the native one.
    pub architecture: Option<String>,
    /// Exactly this version.
    pub version: Option<String>,
    /// From this suite.
    pub suite: Option<String>,
}

impl FromStr for Wanted {
    type Err = ResolveError;

    fn from_str(text: &str) -> Result<Self, ResolveError> {
        let (rest, suite) = match text.split_once('/') {
            Some((rest, suite)) => (rest, Some(suite)),
            None => (text, None),
        };
        let (rest, version) = match rest.split_once('=') {
            Some((rest, version)) => (rest, Some(version)),
            None => (rest, None),
        };
        let (name, architecture) = match rest.split_once(':') {
            Some((name, architecture)) => (name, Some(architecture)),
            None => (rest, None),
        };
        let good = relation::is_name(name)
            && architecture.is_none_or(relation::is_name)
            && version.is_none_or(version::is_version)
            && suite.is_none_or(|suite| !suite.is_empty());
        if !good {
            return Err(ResolveError::Request(text.to_owned()));
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Ok(Self {
            name: name.to_owned(),
            architecture: owned(architecture),
            version: owned(version),
            suite: owned(suite),
        })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (mark, part) in [(':', &self.architecture), ('=', &self.version), ('/', &self.suite)] {
            if let Some(part) = part {
                write!(f, "{mark}{part}")?;
            }
        }
        Ok(())
    }
}
