//! All packages of all suites, as the solver looks at them.

use crate::index::{MultiArch, Package, PackageIndex};
use crate::relation::{self, Qualifier, Relation};
use crate::version;

/// The packages of one suite.
#[derive(Clone, Debug)]
pub struct Suite {
    /// What the caller calls it; locked packages carry it.
    pub name: String,
    /// Higher wins, whatever the versions; among equals the newest version does. As apt's pin priority.
    pub priority: i32,
    /// Its package indexes: one for each component and architecture.
    pub indexes: Vec<PackageIndex>,
}

/// A package of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PackageId {
    suite: u32,
    index: u32,
    at: u32,
}

/// What is unique in an installation: a name and an architecture, `all` counting as the native one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot<'a> {
    pub(super) name: &'a str,
    pub(super) architecture: &'a str,
}

/// The pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool<'a> {
    pub(super) suites: &'a [Suite],
    pub(super) native: &'a str,
}

impl<'a> Pool<'a> {
    pub(super) fn get(self, id: PackageId) -> Package<'a> {
        self.suites[id.suite as usize].indexes[id.index as usize].get(id.at as usize)
    }

    pub(super) fn suite(self, id: PackageId) -> &'a Suite {
        &self.suites[id.suite as usize]
    }

    /// The packages of this name, the preferred first.
    pub(super) fn named(self, name: &str) -> Vec<PackageId> {
        let mut found = self.collect(|index| index.named(name).collect());
        found.sort_by(|a, b| self.prefer(*a, *b));
        found
    }

    /// The packages that provide this name, the preferred first: the more a system needs one, the better.
    pub(super) fn providing(self, name: &str) -> Vec<PackageId> {
        let mut found = self.collect(|index| index.providing(name).collect());
        found.sort_by(|a, b| {
            let (x, y) = (self.get(*a), self.get(*b));
            (y.essential(), x.priority())
                .cmp(&(x.essential(), y.priority()))
                .then_with(|| x.name().cmp(y.name()))
                .then_with(|| self.prefer(*a, *b))
        });
        found
    }

    fn collect(self, find: impl Fn(&PackageIndex) -> Vec<usize>) -> Vec<PackageId> {
        let narrow = |n: usize| u32::try_from(n).expect("indexes hold fewer than 2^32 packages");
        let mut found = Vec::new();
        for (suite, at_suite) in self.suites.iter().zip(0..) {
            for (index, at_index) in suite.indexes.iter().zip(0..) {
                let ids =
                    find(index).into_iter().map(|at| PackageId { suite: at_suite, index: at_index, at: narrow(at) });
                found.extend(ids);
            }
        }
        found
    }

    /// Suite priority, then version, then the suites' order, then the native architecture.
    fn prefer(self, a: PackageId, b: PackageId) -> std::cmp::Ordering {
        let (x, y) = (self.get(a), self.get(b));
        let foreign = |package: Package<'_>| self.slot(package).architecture != self.native;
        (self.suite(b).priority.cmp(&self.suite(a).priority))
            .then_with(|| version::compare(y.version(), x.version()))
            .then_with(|| a.suite.cmp(&b.suite))
            .then_with(|| foreign(x).cmp(&foreign(y)))
            .then_with(|| x.architecture().cmp(y.architecture()))
            .then_with(|| a.cmp(&b))
    }

    pub(super) fn slot(self, package: Package<'a>) -> Slot<'a> {
        let architecture = match package.architecture() {
            "all" => self.native,
            other => other,
        };
        Slot { name: package.name(), architecture }
    }

    /// Whether `candidate` serves a relation of a package of architecture `asking`, by name or by providing it.
    pub(super) fn satisfies(self, candidate: Package<'a>, relation: &Relation<'_>, asking: &str) -> bool {
        let architecture = self.slot(candidate).architecture;
        let fits = match relation.qualifier {
            Qualifier::Own => architecture == asking || candidate.multi_arch() == MultiArch::Foreign,
            Qualifier::Any => {
                architecture == asking || matches!(candidate.multi_arch(), MultiArch::Foreign | MultiArch::Allowed)
            }
            Qualifier::Native => architecture == self.native,
            Qualifier::Architecture(wanted) => architecture == wanted,
        };
        fits && self.is_named(candidate, relation)
    }

    /// Whether `candidate` is what a Conflicts or Breaks relation names. Without qualifier it means any architecture.
    pub(super) fn is_hit(self, candidate: Package<'a>, relation: &Relation<'_>) -> bool {
        let fits = match relation.qualifier {
            Qualifier::Own | Qualifier::Any => true,
            Qualifier::Native => self.slot(candidate).architecture == self.native,
            Qualifier::Architecture(wanted) => self.slot(candidate).architecture == wanted,
        };
        fits && self.is_named(candidate, relation)
    }

    fn is_named(self, candidate: Package<'a>, relation: &Relation<'_>) -> bool {
        (candidate.name() == relation.name && relation.admits(Some(candidate.version())))
            || provides(candidate.provides(), relation)
    }
}

/// Whether a Provides field gives what a relation asks.
pub(super) fn provides(field: &str, relation: &Relation<'_>) -> bool {
    field.contains(relation.name)
        && relation::parse(field).is_ok_and(|clauses| {
            clauses.iter().flatten().any(|provided| {
                provided.name == relation.name && relation.admits(provided.version.map(|(_, version)| version))
            })
        })
}
