//! What an observer missed of what was written.

use crate::harness::{Change, Event, Values};
use serde::Serialize;
use std::collections::BTreeMap;

/// How an observer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Score {
    /// Changes that were written.
    pub written: usize,
    /// Of these, the changes that it never saw, neither as a change nor in a full read.
    pub missed: usize,
    /// Of the missed, those that nothing reported as missed.
    pub undetected: usize,
    /// Full reads because the observer cannot detect missed changes.
    pub rereads: usize,
    /// Full reads because the store reported missed changes.
    pub resyncs: usize,
    /// Records whose value differs from that in the store at the end.
    pub stale_at_end: usize,
}

/// Scores an observer by the events it saw of `written`. No value is written twice.
pub fn score(written: &[Change], events: &[Event]) -> Score {
    let mut histories: BTreeMap<u8, History> = BTreeMap::new();
    for change in written {
        histories.entry(change.id).or_default().states.push(change.value);
    }
    let mut score = Score { written: written.len(), ..Score::default() };
    for event in events {
        match event {
            Event::Change(change) => {
                let history = histories.get_mut(&change.id);
                let missed = history.and_then(|history| history.advance_to(change.value));
                score.miss(missed.unwrap_or_default(), false);
            }
            Event::Initial(values) => score.miss(advance_all(&mut histories, values), false),
            Event::Reread(values) => {
                score.rereads += 1;
                score.miss(advance_all(&mut histories, values), false);
            }
            Event::Resynced(values) => {
                score.resyncs += 1;
                score.miss(advance_all(&mut histories, values), true);
            }
        }
    }
    for history in histories.values() {
        score.miss(history.states.len() - history.seen, false);
        score.stale_at_end +=
            usize::from(history.current() != history.states.last().copied().flatten());
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

    /// Goes on to the next time that it was `state`, and says how many were passed over. Nothing if it never
    /// was again: what the observer knew before.
    fn advance_to(&mut self, state: Option<u32>) -> Option<usize> {
        let missed = self.states[self.seen..].iter().position(|other| *other == state)?;
        self.seen += missed + 1;
        Some(missed)
    }
}

impl Score {
    fn miss(&mut self, changes: usize, is_detected: bool) {
        self.missed += changes;
        if !is_detected {
            self.undetected += changes;
        }
    }
}

/// Goes on to what is shown, and says how many changes were passed over.
fn advance_all(histories: &mut BTreeMap<u8, History>, values: &Values) -> usize {
    let shown = histories.iter_mut().map(|(id, history)| {
        let state = values.get(id).copied();
        if history.current() == state { 0 } else { history.advance_to(state).unwrap_or_default() }
    });
    shown.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(id: u8, value: u32) -> Change {
        Change { id, value: Some(value) }
    }

    fn gone(id: u8) -> Change {
        Change { id, value: None }
    }

    fn written() -> Vec<Change> {
        vec![put(1, 1), put(2, 2), put(1, 3), gone(1), put(1, 5), put(2, 6)]
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
        let events =
            [Event::Change(put(1, 1)), Event::Change(put(2, 2)), Event::Reread(now.clone())];
        assert_eq!(score(&written(), &events), Score { undetected: 2, rereads: 1, ..missed });
        let events = [Event::Change(put(1, 1)), Event::Change(put(2, 2)), Event::Resynced(now)];
        assert_eq!(
            score(&written(), &events),
            Score { resyncs: 1, ..missed },
            "the store reported it"
        );
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
