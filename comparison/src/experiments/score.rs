//! What an observer missed, held against what was written.

use crate::observers::{Change, Picture, Seen};
use serde::Serialize;
use std::collections::BTreeMap;

/// How an observer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Score {
    /// Changes that were written.
    pub written: usize,
    /// Of these, those that it never saw, by themselves or as what there is.
    pub missed: usize,
    /// Of the missed, those of which nothing told it that there was something to miss.
    pub unnoticed: usize,
    /// How often it read everything anew because it cannot know whether it missed anything.
    pub rereads: usize,
    /// How often it did because the store said so.
    pub resyncs: usize,
    /// Instances of which it holds something else than the store in the end.
    pub wrong_at_the_end: usize,
}

/// Judges an observer by what it saw of `written`. No value is written twice.
pub fn score(written: &[Change], seen: &[Seen]) -> Score {
    let mut histories: BTreeMap<u8, History> = BTreeMap::new();
    for change in written {
        histories.entry(change.id).or_default().states.push(change.value);
    }
    let mut score = Score { written: written.len(), ..Score::default() };
    for seen in seen {
        match seen {
            Seen::Change(change) => {
                let history = histories.get_mut(&change.id);
                let missed = history.and_then(|history| history.advance_to(change.value));
                score.miss(missed.unwrap_or_default(), false);
            }
            Seen::Began(picture) => score.miss(advance_all(&mut histories, picture), false),
            Seen::Reread(picture) => {
                score.rereads += 1;
                score.miss(advance_all(&mut histories, picture), false);
            }
            Seen::Resynced(picture) => {
                score.resyncs += 1;
                score.miss(advance_all(&mut histories, picture), true);
            }
        }
    }
    for history in histories.values() {
        score.miss(history.states.len() - history.seen, false);
        score.wrong_at_the_end +=
            usize::from(history.held() != history.states.last().copied().flatten());
    }
    score
}

/// What an instance was, and how far the observer has followed.
#[derive(Debug, Default)]
struct History {
    states: Vec<Option<u32>>,
    seen: usize,
}

impl History {
    /// What the observer takes it for.
    fn held(&self) -> Option<u32> {
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
    fn miss(&mut self, changes: usize, was_told: bool) {
        self.missed += changes;
        if !was_told {
            self.unnoticed += changes;
        }
    }
}

/// Goes on to what is shown, and says how many changes were passed over.
fn advance_all(histories: &mut BTreeMap<u8, History>, picture: &Picture) -> usize {
    let shown = histories.iter_mut().map(|(id, history)| {
        let state = picture.get(id).copied();
        if history.held() == state { 0 } else { history.advance_to(state).unwrap_or_default() }
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
    fn who_sees_everything_misses_nothing() {
        let seen: Vec<_> = written().into_iter().map(Seen::Change).collect();
        assert_eq!(score(&written(), &seen), Score { written: 6, ..Score::default() });
    }

    #[test]
    fn what_is_left_out_is_missed_and_what_is_never_mended_is_wrong() {
        let seen = [put(1, 1), put(2, 2), put(1, 5)].map(Seen::Change);
        let expected =
            Score { written: 6, missed: 3, unnoticed: 3, wrong_at_the_end: 1, ..Score::default() };
        assert_eq!(score(&written(), &seen), expected);
    }

    #[test]
    fn to_read_everything_anew_mends_what_is_held_and_not_what_was_missed() {
        let now = Picture::from([(1, 5), (2, 6)]);
        let missed = Score { written: 6, missed: 2, ..Score::default() };
        let seen = [Seen::Change(put(1, 1)), Seen::Change(put(2, 2)), Seen::Reread(now.clone())];
        assert_eq!(score(&written(), &seen), Score { unnoticed: 2, rereads: 1, ..missed });
        let seen = [Seen::Change(put(1, 1)), Seen::Change(put(2, 2)), Seen::Resynced(now)];
        assert_eq!(score(&written(), &seen), Score { resyncs: 1, ..missed }, "it was told");
    }

    #[test]
    fn what_comes_twice_or_late_changes_nothing() {
        let mut seen: Vec<_> = written().into_iter().map(Seen::Change).collect();
        seen.insert(3, Seen::Change(put(1, 1)));
        seen.push(Seen::Change(put(2, 6)));
        assert_eq!(score(&written(), &seen), Score { written: 6, ..Score::default() });
    }

    #[test]
    fn an_observer_that_saw_nothing_is_wrong_about_all_that_is_there() {
        let score = score(&written(), &[]);
        assert_eq!((score.missed, score.wrong_at_the_end), (6, 2));
    }
}
