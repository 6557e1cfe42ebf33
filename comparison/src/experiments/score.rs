//! The changes that an observer missed.

use crate::harness::{Change, Event};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The score of an observer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Score {
    /// Changes that were written.
    pub written: usize,
    /// Of these, the changes that it never saw, neither as a change nor in a full read.
    pub missed: usize,
    /// Of the missed changes, those that nothing reported as missed.
    pub undetected: usize,
    /// Full reads because the observer cannot detect missed changes.
    pub rereads: usize,
    /// Full reads because the store reported missed changes.
    pub resyncs: usize,
    /// Records whose value differs from that in the store at the end.
    pub stale_at_end: usize,
}

/// Scores an observer by its events. Each value is written once.
pub fn score<'a>(written: &[Change], events: impl IntoIterator<Item = &'a Event>) -> Score {
    let mut histories: BTreeMap<u8, History> = BTreeMap::new();
    for change in written {
        histories.entry(change.id).or_default().states.push(change.value);
    }
    let mut score = Score { written: written.len(), ..Score::default() };
    for event in events {
        let missed = match event {
            Event::Watching => 0,
            Event::Change(Change { id, value }) => {
                histories.get_mut(id).map_or(0, |history| history.advance_to(*value))
            }
            Event::Initial(values) | Event::Reread(values) | Event::Resynced(values) => {
                let histories = histories.iter_mut();
                histories.map(|(id, history)| history.show(values.get(id).copied())).sum()
            }
        };
        let is_resync = matches!(event, Event::Resynced(_));
        score.resyncs += usize::from(is_resync);
        score.rereads += usize::from(matches!(event, Event::Reread(_)));
        score.missed += missed;
        score.undetected += if is_resync { 0 } else { missed };
    }
    for history in histories.values() {
        let unseen = history.states.len() - history.seen;
        score.missed += unseen;
        score.undetected += unseen;
        let last = history.states.last().copied().flatten();
        score.stale_at_end += usize::from(history.current() != last);
    }
    score
}

/// The values of an instance over time, and how many of them the observer has seen.
#[derive(Debug, Default)]
struct History {
    states: Vec<Option<u32>>,
    seen: usize,
}

impl History {
    /// Returns the value as the observer knows it.
    fn current(&self) -> Option<u32> {
        self.seen.checked_sub(1).and_then(|last| self.states[last])
    }

    /// Advances to the next occurrence of `state`, if there is one, and returns how many states were skipped.
    fn advance_to(&mut self, state: Option<u32>) -> usize {
        let skipped = self.states[self.seen..].iter().position(|other| *other == state);
        self.seen += skipped.map_or(0, |skipped| skipped + 1);
        skipped.unwrap_or(0)
    }

    /// Advances to the state of a full read, which is often the current one.
    fn show(&mut self, state: Option<u32>) -> usize {
        if self.current() == state { 0 } else { self.advance_to(state) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Values;

    fn put(id: u8, value: u32) -> Change {
        Change { id, value: Some(value) }
    }

    fn written() -> Vec<Change> {
        let deletion = Change { id: 1, value: None };
        vec![put(1, 1), put(2, 2), put(1, 3), deletion, put(1, 5), put(2, 6)]
    }

    #[test]
    fn an_observer_of_every_change_misses_nothing() {
        let events: Vec<_> = written().into_iter().map(Event::Change).collect();
        assert_eq!(score(&written(), &events), Score { written: 6, ..Score::default() });
    }

    #[test]
    fn a_skipped_change_is_missed_and_leaves_a_stale_value() {
        let events = [put(1, 1), put(2, 2), put(1, 5)].map(Event::Change);
        let expected =
            Score { written: 6, missed: 3, undetected: 3, stale_at_end: 1, ..Score::default() };
        assert_eq!(score(&written(), &events), expected);
    }

    #[test]
    fn a_full_read_repairs_values_but_not_missed_changes() {
        let now = Values::from([(1, 5), (2, 6)]);
        let missed = Score { written: 6, missed: 2, ..Score::default() };
        let of = |read| {
            let [first, second] = [put(1, 1), put(2, 2)].map(Event::Change);
            score(&written(), &[first, second, read])
        };
        assert_eq!(of(Event::Reread(now.clone())), Score { undetected: 2, rereads: 1, ..missed });
        assert_eq!(of(Event::Resynced(now)), Score { resyncs: 1, ..missed }, "it is detected");
    }

    #[test]
    fn duplicate_and_late_events_change_nothing() {
        let mut events: Vec<_> = written().into_iter().map(Event::Change).collect();
        events.insert(3, Event::Change(put(1, 1)));
        events.push(Event::Change(put(2, 6)));
        assert_eq!(score(&written(), &events), Score { written: 6, ..Score::default() });
    }

    #[test]
    fn an_observer_without_events_is_stale_for_every_instance() {
        let score = score(&written(), &[]);
        assert_eq!((score.missed, score.stale_at_end), (6, 2));
    }
}
