//! Lists of patterns, and what they say about paths met on a walk.

use super::pattern::{Pattern, PatternError};

/// Patterns in order; a later one overrules an earlier one, `!` turns a pattern round.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<Pattern>);

/// Which patterns matched a directory. What lies below inherits it.
#[derive(Clone, Debug, Default)]
pub struct Inherited(Vec<bool>);

/// Characters that make a pattern more than a path.
const SPECIAL: [char; 6] = ['*', '[', ']', '?', '^', '\\'];

impl Patterns {
    /// Compiles patterns; blank ones are dropped.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let patterns = lines.into_iter().filter_map(|line| Pattern::parse(line).transpose());
        Ok(Self(patterns.collect::<Result<_, _>>()?))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a path matches, given what its directory handed down ([`Inherited::default`] at the root).
    ///
    /// A pattern that matches a directory matches all below it. As in BuildKit, a pattern that could change nothing
    /// (a plain one when the path already matches, a `!` one when it does not) is not tried, and so not handed down.
    pub fn is_match(&self, path: &str, inherited: &Inherited) -> bool {
        self.judge(path, inherited, |_| ())
    }

    /// As [`Patterns::is_match`], for a directory: also what it hands down.
    pub fn matches(&self, path: &str, inherited: &Inherited) -> (bool, Inherited) {
        let mut hands_down = vec![false; self.0.len()];
        let is_match = self.judge(path, inherited, |position| hands_down[position] = true);
        (is_match, Inherited(hands_down))
    }

    fn judge(&self, path: &str, inherited: &Inherited, mut held: impl FnMut(usize)) -> bool {
        let mut is_match = false;
        for (position, pattern) in self.0.iter().enumerate() {
            let from_parent = inherited.0.get(position).copied().unwrap_or(false);
            let matters = pattern.is_negated() == is_match;
            if from_parent || (matters && pattern.matches(path)) {
                held(position);
                is_match = !pattern.is_negated();
            }
        }
        is_match
    }

    /// Whether something below a directory that does not match can still match: with plain patterns their paths tell,
    /// with wildcards everything is possible.
    pub fn can_match_below(&self, directory: &str) -> bool {
        Self::leads_below(self.0.iter().filter(|pattern| !pattern.is_negated()), directory)
    }

    /// Whether something below a directory that matches can be turned round by a `!` pattern.
    pub fn can_unmatch_below(&self, directory: &str) -> bool {
        Self::leads_below(self.0.iter().filter(|pattern| pattern.is_negated()), directory)
    }

    fn leads_below<'a>(mut patterns: impl Iterator<Item = &'a Pattern>, directory: &str) -> bool {
        patterns.any(|pattern| {
            let text = pattern.text();
            // One of them only: `a/*/**` matches nothing in `a` itself, but everything in the directories there.
            let text = text.strip_suffix("/**").or_else(|| text.strip_suffix("/*")).unwrap_or(text);
            let below = || text.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            text.contains(SPECIAL) || below()
        })
    }
}
