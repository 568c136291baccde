//! One attempt to close a set of packages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::error::{Chain, Party, ResolveError, UnknownPackage};
use super::pool::{PackageId, Pool, Slot, provides};
use super::request::{Baseline, Request, Wanted};
use crate::LockedPackage;
use crate::index::{MultiArch, Package, Priority};
use crate::relation::{self, Clause, Relation};
use crate::version;

/// A contradiction, and the choices that could be taken back, the likeliest first.
pub(super) struct Failure {
    pub(super) error: Box<ResolveError>,
    pub(super) culprits: Vec<PackageId>,
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        Self { error: Box::new(error), culprits: Vec::new() }
    }
}

/// Why a package is in the set.
#[derive(Clone, Debug)]
enum Reason {
    Wanted,
    Baseline,
    Dependency { of: PackageId, clause: String },
}

/// A dependency still to be satisfied.
struct Task<'a> {
    of: PackageId,
    clause: Clause<'a>,
}

/// A package of the layers below.
struct Below<'a> {
    locked: &'a LockedPackage,
    /// The same package in the pool, or the nearest there is: what it provides and how it relates to architectures.
    known: Option<Package<'a>>,
}

pub(super) struct Solver<'a> {
    pool: Pool<'a>,
    request: &'a Request<'a>,
    barred: &'a BTreeSet<PackageId>,
    chosen: BTreeMap<Slot<'a>, PackageId>,
    reasons: BTreeMap<PackageId, Reason>,
    /// Chosen packages by the virtual names they provide.
    providers: BTreeMap<&'a str, Vec<PackageId>>,
    below: Vec<Below<'a>>,
    /// Names held to be there: those excluded and what they provide.
    excluded: BTreeSet<&'a str>,
    /// Dependencies not looked at yet, and those that leave a choice.
    open: VecDeque<Task<'a>>,
    choices: VecDeque<Task<'a>>,
}

impl<'a> Solver<'a> {
    pub(super) fn new(pool: Pool<'a>, request: &'a Request<'a>, barred: &'a BTreeSet<PackageId>) -> Self {
        let mut excluded = BTreeSet::new();
        for name in &request.exclude {
            excluded.insert(name.as_str());
            if let Some(best) = pool.named(name).first() {
                let field = pool.get(*best).provides();
                excluded.extend(relation::parse(field).unwrap_or_default().iter().flatten().map(|it| it.name));
            }
        }
        let below = request.below.iter().map(|locked| Below { locked, known: known(pool, locked) }).collect();
        Self {
            pool,
            request,
            barred,
            chosen: BTreeMap::new(),
            reasons: BTreeMap::new(),
            providers: BTreeMap::new(),
            below,
            excluded,
            open: VecDeque::new(),
            choices: VecDeque::new(),
        }
    }

    pub(super) fn run(mut self) -> Result<Vec<PackageId>, Failure> {
        let request = self.request;
        for wanted in &request.wanted {
            self.want(wanted)?;
        }
        for name in self.baseline() {
            let wanted = Wanted { name: name.to_owned(), architecture: None, version: None, suite: None };
            if !self.excluded.contains(name) && !self.has_below(&wanted)? && !self.has_slot(name) {
                let id = self.candidates(&wanted).first().copied();
                if let Some(id) = id {
                    self.choose(id, Reason::Baseline)?;
                }
            }
        }
        loop {
            if let Some(task) = self.open.pop_front() {
                self.visit(task, true)?;
            } else if let Some(task) = self.choices.pop_front() {
                self.visit(task, false)?;
            } else {
                break;
            }
        }
        self.check_conflicts()?;
        self.check_architectures()?;
        Ok(self.chosen.into_values().collect())
    }

    fn baseline(&self) -> BTreeSet<&'a str> {
        let (pool, baseline) = (self.pool, self.request.baseline);
        if baseline == Baseline::Nothing {
            return BTreeSet::new();
        }
        let all = pool.suites.iter().flat_map(|suite| &suite.indexes).flat_map(|index| index.iter());
        all.filter(|package| pool.slot(*package).architecture == pool.native)
            .filter(|package| {
                package.essential() || (baseline == Baseline::Required && package.priority() == Priority::Required)
            })
            .map(Package::name)
            .collect()
    }

    /// Takes in a package asked for by name.
    fn want(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        if self.has_below(wanted)? {
            return Ok(());
        }
        let candidates = self.candidates(wanted);
        if let Some(id) = candidates.first() {
            return self.choose(*id, Reason::Wanted);
        }
        let architecture = wanted.architecture.as_deref().unwrap_or(self.pool.native);
        let named: Vec<PackageId> = self.of_architecture(self.pool.named(&wanted.name), architecture);
        if !named.is_empty() {
            let error = ResolveError::Unsatisfiable {
                relation: wanted.to_string(),
                chain: Chain::default(),
                available: named.iter().map(|id| self.describe(*id)).collect(),
            };
            return Err(error.into());
        }
        let providers = self.of_architecture(self.pool.providing(&wanted.name), architecture);
        let names: BTreeSet<&str> = providers.iter().map(|id| self.pool.get(*id).name()).collect();
        match (providers.first(), names.len(), &wanted.version) {
            (Some(only), 1, None) => self.choose(*only, Reason::Wanted),
            _ => Err(self.unknown(&wanted.name, architecture, Chain::default(), names).into()),
        }
    }

    fn of_architecture(&self, mut ids: Vec<PackageId>, architecture: &str) -> Vec<PackageId> {
        ids.retain(|id| self.pool.slot(self.pool.get(*id)).architecture == architecture);
        ids
    }

    /// Packages that are what is wanted, the preferred first.
    fn candidates(&self, wanted: &Wanted) -> Vec<PackageId> {
        let architecture = wanted.architecture.as_deref().unwrap_or(self.pool.native);
        let mut ids = self.of_architecture(self.pool.named(&wanted.name), architecture);
        ids.retain(|id| {
            let right_version = |version: &String| version::compare(version, self.pool.get(*id).version()).is_eq();
            wanted.version.as_ref().is_none_or(right_version)
                && wanted.suite.as_ref().is_none_or(|suite| self.pool.suite(*id).name == *suite)
                && !self.barred.contains(id)
        });
        ids
    }

    fn has_slot(&self, name: &'a str) -> bool {
        self.chosen.contains_key(&Slot { name, architecture: self.pool.native })
    }

    /// Whether the layers below have what is wanted; in another version is an error.
    fn has_below(&self, wanted: &Wanted) -> Result<bool, ResolveError> {
        let native = self.pool.native;
        let architecture = wanted.architecture.as_deref().unwrap_or(native);
        let present = self.below.iter().find(|below| {
            below.locked.name == wanted.name && slot_architecture(&below.locked.architecture, native) == architecture
        });
        let Some(present) = present else { return Ok(false) };
        match &wanted.version {
            Some(version) if version::compare(version, &present.locked.version).is_ne() => {
                Err(ResolveError::Below { wanted: wanted.to_string(), present: present.locked.to_string() })
            }
            _ => Ok(true),
        }
    }

    fn choose(&mut self, id: PackageId, reason: Reason) -> Result<(), Failure> {
        let package = self.pool.get(id);
        if self.chosen.get(&self.pool.slot(package)) == Some(&id) {
            return Ok(());
        }
        if let Some(other) = self.chosen.insert(self.pool.slot(package), id) {
            // Only packages asked for in two ways come here.
            self.reasons.insert(id, reason);
            return Err(self.conflict(id, other, "it is another version of the same package".to_owned()).into());
        }
        self.reasons.insert(id, reason);
        let malformed = |source| ResolveError::Malformed { package: package.name().to_owned(), source };
        for field in [package.pre_depends(), package.depends()] {
            for clause in relation::parse(field).map_err(malformed)? {
                self.open.push_back(Task { of: id, clause });
            }
        }
        for provided in relation::parse(package.provides()).map_err(malformed)?.iter().flatten() {
            self.providers.entry(provided.name).or_default().push(id);
        }
        Ok(())
    }

    /// Satisfies one dependency. One that leaves a choice is put off where `may_wait`.
    fn visit(&mut self, task: Task<'a>, may_wait: bool) -> Result<(), Failure> {
        let asking = self.pool.slot(self.pool.get(task.of)).architecture;
        if task.clause.iter().any(|relation| self.is_satisfied(relation, asking)) {
            return Ok(());
        }
        let options = self.options(&task.clause, asking);
        let Some(first) = options.first().copied() else { return Err(self.unsatisfied(&task, asking)) };
        let name = self.pool.get(first).name();
        if may_wait && options.iter().any(|id| self.pool.get(*id).name() != name) {
            self.choices.push_back(task);
            return Ok(());
        }
        self.choose(first, Reason::Dependency { of: task.of, clause: show(&task.clause) })
    }

    fn is_satisfied(&self, relation: &Relation<'_>, asking: &str) -> bool {
        self.excluded.contains(relation.name)
            || self
                .named_or_providing(relation.name)
                .iter()
                .any(|id| self.pool.satisfies(self.pool.get(*id), relation, asking))
            || self.below.iter().any(|below| below.satisfies(self.pool, relation, asking))
    }

    /// Chosen packages that have this name or provide it.
    fn named_or_providing(&self, name: &str) -> Vec<PackageId> {
        let from = Slot { name, architecture: "" };
        let named = self.chosen.range(from..).take_while(|(slot, _)| slot.name == name).map(|(_, id)| id);
        named.chain(self.providers.get(name).into_iter().flatten()).copied().collect()
    }

    /// Packages that would satisfy a clause and are not ruled out, the preferred first.
    fn options(&self, clause: &Clause<'_>, asking: &str) -> Vec<PackageId> {
        let mut options = Vec::new();
        for relation in clause {
            let known = self.pool.named(relation.name).into_iter().chain(self.pool.providing(relation.name));
            options.extend(known.filter(|id| {
                let package = self.pool.get(*id);
                !self.barred.contains(id)
                    && self.pool.satisfies(package, relation, asking)
                    && !self.chosen.contains_key(&self.pool.slot(package))
                    && !self.is_below(self.pool.slot(package))
            }));
        }
        options
    }

    fn is_below(&self, slot: Slot<'_>) -> bool {
        self.below.iter().any(|below| {
            below.locked.name == slot.name
                && slot_architecture(&below.locked.architecture, self.pool.native) == slot.architecture
        })
    }

    fn unsatisfied(&self, task: &Task<'_>, asking: &str) -> Failure {
        let chain = self.chain_to(task.of, Some(show(&task.clause)));
        let mut known = Vec::new();
        let mut culprits = Vec::new();
        let mut available = Vec::new();
        for relation in &task.clause {
            for below in self.below.iter().filter(|below| below.locked.name == relation.name) {
                available.push(format!("{} in the layer below", below.locked));
            }
            for id in self.pool.named(relation.name).into_iter().chain(self.pool.providing(relation.name)) {
                known.push(id);
                if self.chosen.values().any(|chosen| *chosen == id) {
                    available.push(format!("{}, already chosen", self.describe(id)));
                    culprits.push(id);
                } else {
                    available.push(self.describe(id));
                }
            }
        }
        available.dedup();
        if known.is_empty() && available.is_empty() {
            let name = task.clause.first().map_or("", |relation| relation.name);
            let error = Box::new(self.unknown(name, asking, chain, BTreeSet::new()));
            return Failure { error, culprits: self.without_wanted([task.of]) };
        }
        culprits.push(task.of);
        let error = ResolveError::Unsatisfiable { relation: show(&task.clause), chain, available };
        Failure { error: Box::new(error), culprits: self.without_wanted(culprits) }
    }

    fn unknown(&self, name: &str, architecture: &str, chain: Chain, providers: BTreeSet<&str>) -> ResolveError {
        let names = self.pool.suites.iter().flat_map(|suite| &suite.indexes).flat_map(|index| index.iter());
        ResolveError::Unknown(Box::new(UnknownPackage {
            name: name.to_owned(),
            architecture: architecture.to_owned(),
            chain,
            suites: self.pool.suites.iter().map(|suite| suite.name.clone()).collect(),
            suggestion: diag::did_you_mean(name, names.map(Package::name)).map(str::to_owned),
            providers: providers.into_iter().map(str::to_owned).collect(),
        }))
    }

    /// Every Conflicts and Breaks among the chosen, and between them and those below.
    fn check_conflicts(&self) -> Result<(), Failure> {
        for id in self.chosen.values().copied() {
            let package = self.pool.get(id);
            for (verb, field) in [("conflicts with", package.conflicts()), ("breaks", package.breaks())] {
                let malformed = |source| ResolveError::Malformed { package: package.name().to_owned(), source };
                for relation in relation::parse(field).map_err(malformed)?.iter().flatten() {
                    let hit = self.named_or_providing(relation.name).into_iter().find(|other| {
                        let other = self.pool.get(*other);
                        other.name() != package.name() && self.pool.is_hit(other, relation)
                    });
                    if let Some(other) = hit {
                        return Err(self.exclusion(id, other, format!("it {verb} `{relation}`")));
                    }
                    let hit =
                        self.below.iter().find(|below| below.is_hit(relation) && below.locked.name != package.name());
                    if let Some(below) = hit {
                        let chain = Chain(vec!["it is in the layer below".to_owned()]);
                        return Err(ResolveError::Conflict {
                            one: Box::new(self.party(id)),
                            other: Box::new(Party { package: below.locked.to_string(), chain }),
                            statement: format!("it {verb} `{relation}`"),
                        }
                        .into());
                    }
                }
            }
        }
        Ok(())
    }

    /// Packages of one name and several architectures must allow that and have one version.
    fn check_architectures(&self) -> Result<(), Failure> {
        for ((slot, id), (next_slot, next)) in self.chosen.iter().zip(self.chosen.iter().skip(1)) {
            let (one, other) = (self.pool.get(*id), self.pool.get(*next));
            let together = one.multi_arch() == MultiArch::Same
                && other.multi_arch() == MultiArch::Same
                && one.version() == other.version();
            if slot.name == next_slot.name && !together {
                let statement =
                    "only packages marked `Multi-Arch: same`, in one version, can be there twice".to_owned();
                return Err(self.exclusion(*id, *next, statement));
            }
        }
        Ok(())
    }

    fn exclusion(&self, one: PackageId, other: PackageId, statement: String) -> Failure {
        let error = Box::new(self.conflict(one, other, statement));
        Failure { error, culprits: self.without_wanted([other, one]) }
    }

    fn conflict(&self, one: PackageId, other: PackageId, statement: String) -> ResolveError {
        ResolveError::Conflict { one: Box::new(self.party(one)), other: Box::new(self.party(other)), statement }
    }

    fn party(&self, id: PackageId) -> Party {
        Party { package: self.describe(id), chain: self.chain_to(id, None) }
    }

    /// What the user asked for by name is never taken back.
    fn without_wanted(&self, ids: impl IntoIterator<Item = PackageId>) -> Vec<PackageId> {
        ids.into_iter().filter(|id| !matches!(self.reasons.get(id), None | Some(Reason::Wanted))).collect()
    }

    fn describe(&self, id: PackageId) -> String {
        let package = self.pool.get(id);
        let foreign = self.pool.slot(package).architecture != self.pool.native;
        let architecture = if foreign { format!(":{}", package.architecture()) } else { String::new() };
        format!("{}{architecture} {} ({})", package.name(), package.version(), self.pool.suite(id).name)
    }

    /// How a package came in, and what it asks for itself.
    fn chain_to(&self, id: PackageId, asks: Option<String>) -> Chain {
        let mut lines: Vec<String> = asks.map(|clause| self.depends(id, &clause)).into_iter().collect();
        let mut next = Some(id);
        // Reasons lead back to a request without a circle: a package is chosen before its dependencies.
        while let Some(at) = next.take() {
            match self.reasons.get(&at) {
                Some(Reason::Dependency { of, clause }) => {
                    lines.push(self.depends(*of, clause));
                    next = Some(*of);
                }
                Some(Reason::Baseline) => lines.push(format!("`{}` is part of every system", self.pool.get(at).name())),
                Some(Reason::Wanted) => lines.push(format!("`{}` is asked for", self.pool.get(at).name())),
                None => {}
            }
        }
        lines.reverse();
        Chain(lines)
    }

    fn depends(&self, id: PackageId, clause: &str) -> String {
        let package = self.pool.get(id);
        format!("`{} {}` depends on `{clause}`", package.name(), package.version())
    }
}

impl Below<'_> {
    fn satisfies(&self, pool: Pool<'_>, relation: &Relation<'_>, asking: &str) -> bool {
        let own = slot_architecture(&self.locked.architecture, pool.native);
        let multi_arch = self.known.map_or(MultiArch::No, Package::multi_arch);
        let fits = match relation.qualifier {
            relation::Qualifier::Own => own == asking || multi_arch == MultiArch::Foreign,
            relation::Qualifier::Any => own == asking || matches!(multi_arch, MultiArch::Foreign | MultiArch::Allowed),
            relation::Qualifier::Native => own == pool.native,
            relation::Qualifier::Architecture(wanted) => own == wanted,
        };
        fits && self.is_hit(relation)
    }

    fn is_hit(&self, relation: &Relation<'_>) -> bool {
        (self.locked.name == relation.name && relation.admits(Some(&self.locked.version)))
            || self.known.is_some_and(|known| provides(known.provides(), relation))
    }
}

/// The package of the pool that a locked one is, or the nearest.
fn known<'a>(pool: Pool<'a>, locked: &LockedPackage) -> Option<Package<'a>> {
    let mut same: Vec<Package<'a>> = pool.named(&locked.name).into_iter().map(|id| pool.get(id)).collect();
    same.retain(|package| {
        slot_architecture(package.architecture(), pool.native) == slot_architecture(&locked.architecture, pool.native)
    });
    same.iter().find(|package| package.version() == locked.version).or(same.first()).copied()
}

fn slot_architecture<'a>(architecture: &'a str, native: &'a str) -> &'a str {
    if architecture == "all" { native } else { architecture }
}

fn show(clause: &Clause<'_>) -> String {
    clause.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
}
