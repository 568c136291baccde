//! The transfers of one task: how much of what, and how fast.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The rate shown is the mean over this long.
const WINDOW: Duration = Duration::from_secs(3);
/// Samples are at least this far apart.
const SAMPLE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) done: u64,
    pub(super) total: Option<u64>,
}

impl Transfer {
    fn is_whole(self) -> bool {
        Some(self.done) == self.total
    }
}

#[derive(Debug, Default)]
pub(super) struct Transfers {
    items: BTreeMap<String, Transfer>,
    /// Items in the order they began.
    order: Vec<String>,
    done: u64,
    known_total: u64,
    without_total: usize,
    whole: usize,
    samples: VecDeque<(Duration, u64)>,
}

impl Transfers {
    pub(super) fn update(&mut self, at: Duration, item: String, transfer: Transfer) {
        if self.items.is_empty() {
            self.samples.push_back((at, 0));
        }
        match self.items.get_mut(&item) {
            Some(known) => {
                let before = std::mem::replace(known, transfer);
                self.count(before, false);
            }
            None => {
                self.order.push(item.clone());
                self.items.insert(item, transfer);
            }
        }
        self.count(transfer, true);
        if self.samples.back().is_none_or(|(last, _)| at.saturating_sub(*last) >= SAMPLE) {
            self.samples.push_back((at, self.done));
        }
        while self.samples.len() > 2 && at.saturating_sub(self.samples[1].0) >= WINDOW {
            self.samples.pop_front();
        }
    }

    fn count(&mut self, transfer: Transfer, add: bool) {
        let change = |sum: u64, by: u64| if add { sum.saturating_add(by) } else { sum.saturating_sub(by) };
        let change_count = |sum: usize, by: bool| if add { sum + usize::from(by) } else { sum - usize::from(by) };
        self.done = change(self.done, transfer.done);
        self.known_total = change(self.known_total, transfer.total.unwrap_or(0));
        self.without_total = change_count(self.without_total, transfer.total.is_none());
        self.whole = change_count(self.whole, transfer.is_whole());
    }

    /// Items in the order they began.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Transfer)> {
        self.order.iter().map(|item| (item.as_str(), self.items[item]))
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many items are there whole.
    pub(super) fn whole(&self) -> usize {
        self.whole
    }

    /// All items as one; the total is known when each one's is.
    pub(super) fn sum(&self) -> Transfer {
        Transfer { done: self.done, total: (self.without_total == 0).then_some(self.known_total) }
    }

    /// Bytes each second lately; nothing before there is something to measure.
    pub(super) fn rate(&self, now: Duration) -> Option<u64> {
        let (since, before) = *self.samples.front()?;
        let elapsed = now.saturating_sub(since);
        if elapsed < SAMPLE {
            return None;
        }
        let bytes = u128::from(self.done.saturating_sub(before));
        u64::try_from(bytes * 1000 / elapsed.as_millis().max(1)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_follow_each_item() {
        let mut transfers = Transfers::default();
        let mut update = |millis, item: &str, done, total| {
            transfers.update(Duration::from_millis(millis), item.to_owned(), Transfer { done, total });
            (transfers.sum().done, transfers.sum().total, transfers.whole())
        };
        assert_eq!(update(0, "a", 0, Some(100)), (0, Some(100), 0));
        assert_eq!(update(50, "b", 10, None), (10, None, 0));
        assert_eq!(update(60, "a", 100, Some(100)), (110, None, 1));
        assert_eq!(update(70, "b", 20, Some(20)), (120, Some(120), 2));
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut transfers = Transfers::default();
        for second in 0..10 {
            let done = if second < 5 { second * 1000 } else { 4000 + (second - 4) * 10 };
            let transfer = Transfer { done, total: Some(9999) };
            transfers.update(Duration::from_secs(second), "a".to_owned(), transfer);
        }
        assert_eq!(transfers.rate(Duration::from_secs(9)), Some(10));
        assert_eq!(Transfers::default().rate(Duration::from_secs(9)), None);
    }
}
