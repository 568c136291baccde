//! What was found about each point, and what the recipe says to that.

use std::collections::BTreeMap;
use std::time::Duration;

use recipe::{Contract, ContractPoint};
use serde_json::{Value, json};

/// What was seen of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It holds; how that was seen.
    Holds(String),
    /// It does not; what was seen instead.
    Broken(String),
    /// There is nothing it could apply to.
    NotApplicable(String),
    /// It could not be looked at, because another point does not hold.
    Unseen(ContractPoint),
}

/// What is said about a point in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed(String),
    /// It does not.
    Failed(String),
    /// It does not, for a reason the recipe gives.
    Waived(String),
    /// The recipe says it cannot hold, but it does.
    Needless(String),
    /// There is nothing it could apply to.
    NotApplicable(String),
    /// It could not be looked at, because another point does not hold.
    Unseen(ContractPoint),
}

impl Outcome {
    fn of(finding: Finding, waived: Option<&String>) -> Self {
        match (finding, waived) {
            (Finding::Holds(how), None) => Self::Passed(how),
            (Finding::Holds(how), Some(_)) => Self::Needless(how),
            (Finding::Broken(why), None) => Self::Failed(why),
            (Finding::Broken(_) | Finding::Unseen(_) | Finding::NotApplicable(_), Some(reason)) => {
                Self::Waived(reason.clone())
            }
            (Finding::NotApplicable(why), None) => Self::NotApplicable(why),
            (Finding::Unseen(because), None) => Self::Unseen(because),
        }
    }

    /// One word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Passed(_) => "passed",
            Self::Failed(_) => "failed",
            Self::Waived(_) => "waived",
            Self::Needless(_) => "passed",
            Self::NotApplicable(_) => "not applicable",
            Self::Unseen(_) => "not seen",
        }
    }

    /// What else there is to say.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Passed(text) | Self::Failed(text) | Self::Waived(text) | Self::NotApplicable(text) => text.clone(),
            Self::Needless(text) => format!("{text}; the recipe need not waive it"),
            Self::Unseen(because) => format!("`{because}` does not hold"),
        }
    }
}

/// What is said about one point, and how long it took to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The point.
    pub point: ContractPoint,
    /// What is said about it.
    pub outcome: Outcome,
    /// How long it took to see.
    pub took: Duration,
}

/// What came of testing one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the image is called.
    pub name: String,
    /// Its platform.
    pub platform: oci::Platform,
    /// Its manifest.
    pub digest: oci::Digest,
    /// What ran it.
    pub runner: String,
    /// Every point, in order.
    pub verdicts: Vec<Verdict>,
    /// The last lines of the container in which something did not hold.
    pub log: Vec<String>,
}

impl Report {
    /// The points that do not hold, though nobody says they cannot.
    pub fn broken(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| matches!(verdict.outcome, Outcome::Failed(_)))
    }

    /// As JSON, for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let verdict = |verdict: &Verdict| {
            json!({
                "point": verdict.point.as_str(),
                "outcome": verdict.outcome.word(),
                "detail": verdict.outcome.detail(),
                "needless_waiver": matches!(verdict.outcome, Outcome::Needless(_)),
                "seconds": (verdict.took.as_secs_f64() * 1000.0).round() / 1000.0,
            })
        };
        json!({
            "image": self.name,
            "platform": self.platform.to_string(),
            "digest": self.digest.to_string(),
            "engine": self.runner,
            "passed": self.broken().next().is_none(),
            "points": self.verdicts.iter().map(verdict).collect::<Vec<_>>(),
            "log": self.log,
        })
    }
}

/// What was found, point by point.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings(BTreeMap<ContractPoint, (Finding, Duration)>);

impl Findings {
    /// Notes what was found. What was found first about a point stays.
    pub(super) fn note(&mut self, point: ContractPoint, finding: Finding, took: Duration) {
        self.0.entry(point).or_insert((finding, took));
    }

    /// Notes what was found, whatever was found before.
    pub(super) fn overrule(&mut self, point: ContractPoint, finding: Finding, took: Duration) {
        self.0.insert(point, (finding, took));
    }

    /// Notes that so many overrides are rendered.
    pub(super) fn rendered(&mut self, number: usize, took: Duration) {
        let how = match number {
            1 => "the one override is rendered".to_owned(),
            number => format!("all {number} overrides are rendered"),
        };
        self.note(ContractPoint::Overrides, Finding::Holds(how), took);
    }

    /// Notes what else was seen of a point that holds.
    pub(super) fn also(&mut self, point: ContractPoint, seen: &str) {
        if let Some((Finding::Holds(how), _)) = self.0.get_mut(&point) {
            how.push_str("; ");
            how.push_str(seen);
        }
    }

    /// Whether a point was found not to hold.
    pub(super) fn is_broken(&self, point: ContractPoint) -> bool {
        matches!(self.0.get(&point), Some((Finding::Broken(_), _)))
    }

    /// What is said about every point. Those nobody looked at wait for `because`.
    pub(super) fn verdicts(mut self, contract: &Contract, because: ContractPoint) -> Vec<Verdict> {
        let verdict = |point| {
            let (finding, took) = self.0.remove(&point).unwrap_or((Finding::Unseen(because), Duration::ZERO));
            let waived = contract.waived.get(&point).map(|reason| &reason.value);
            Verdict { point, outcome: Outcome::of(finding, waived), took }
        };
        ContractPoint::ALL.map(verdict).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waivers_excuse_what_is_broken_and_nothing_else() {
        let reason = "upstream has none".to_owned();
        let of = |finding: Finding, waived: bool| Outcome::of(finding, waived.then_some(&reason));
        let text = || "seen".to_owned();
        assert_eq!(of(Finding::Broken(text()), false), Outcome::Failed(text()));
        assert_eq!(of(Finding::Broken(text()), true), Outcome::Waived(reason.clone()));
        assert_eq!(of(Finding::Holds(text()), true), Outcome::Needless(text()));
        assert_eq!(of(Finding::NotApplicable(text()), false), Outcome::NotApplicable(text()));
        assert_eq!(of(Finding::Unseen(ContractPoint::Health), true), Outcome::Waived(reason.clone()));
        let mut findings = Findings::default();
        findings.note(ContractPoint::Health, Finding::Broken(text()), Duration::ZERO);
        findings.note(ContractPoint::Health, Finding::Holds(text()), Duration::ZERO);
        assert!(findings.is_broken(ContractPoint::Health), "the first word counts");
        let verdicts = findings.verdicts(&Contract::default(), ContractPoint::Health);
        assert_eq!(verdicts.len(), ContractPoint::ALL.len());
        assert_eq!(verdicts[8].outcome, Outcome::Unseen(ContractPoint::Health));
    }
}
