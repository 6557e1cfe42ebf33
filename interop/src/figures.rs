//! The figures of one caller.

use crate::event::{Event, What};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The times of the events in a fleet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// The time from which calls count.
    pub(crate) began: u64,
    /// The time until which calls count.
    pub(crate) ended: u64,
    /// The servers that were terminated or killed.
    pub(crate) stops: Vec<(String, u64)>,
    /// The times before and after each kill.
    pub(crate) kills: Vec<(u64, u64)>,
    /// The started servers, and the times of their events `Serving`.
    pub(crate) starts: Vec<(String, u64)>,
    /// How long each deleted key was missing, in microseconds.
    pub(crate) absences: Vec<u64>,
    pub(crate) problems: Vec<String>,
}

/// The figures of one caller. Times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)] // `--resume` reads results with fewer figures
pub(crate) struct Figures {
    pub(crate) calls: u64,
    /// The number of failed calls.
    pub(crate) lost: u64,
    /// The number of calls in flight when a server was killed.
    pub(crate) under_way: u64,
    /// The longest time without a successful call.
    pub(crate) gap_ms: u64,
    /// The longest time that a stopped server was still called.
    pub(crate) gone_ms: Option<u64>,
    /// The longest time until a started server was called.
    pub(crate) found_ms: Option<u64>,
    /// The longest time that a deleted key was missing.
    pub(crate) back_ms: Option<u64>,
    pub(crate) p99_micros: u64,
    /// The errors of failed calls, with their counts.
    pub(crate) errors: BTreeMap<String, u64>,
}

struct Call<'a> {
    start: u64,
    end: u64,
    address: &'a str,
    error: &'a str,
}

impl Figures {
    /// Evaluates the events of a caller.
    pub(crate) fn evaluate(events: &[Event], marks: &Marks) -> Self {
        let mut calls: Vec<Call<'_>> = events.iter().filter_map(Call::from_event).collect();
        calls.retain(|call| (marks.began..marks.ended).contains(&call.start));
        let lost: Vec<&Call<'_>> = calls.iter().filter(|call| call.is_lost()).collect();
        let mut errors = BTreeMap::new();
        for call in &lost {
            *errors.entry(call.error.to_owned()).or_default() += 1;
        }
        let is_under_way = |call: &&Call<'_>| {
            marks.kills.iter().any(|(before, after)| call.start <= *after && call.end >= *before)
        };
        let gone = marks.stops.iter().map(|(address, stopped)| {
            // A failed call counts for the server that stopped last.
            let next = marks.stops.iter().map(|(_, at)| *at).filter(|at| at > stopped).min();
            let is_for_it = |call: &&Call<'_>| {
                let is_lost = call.is_lost() && next.is_none_or(|next| call.start < next);
                call.start >= *stopped && (is_lost || call.address == address)
            };
            calls.iter().filter(is_for_it).map(|call| call.start - stopped).max().unwrap_or(0)
        });
        let found = marks.starts.iter().map(|(address, started)| {
            let responses = calls.iter().filter(|call| call.address == address);
            let first = responses.map(|call| call.end).min().unwrap_or(marks.ended);
            first.saturating_sub(*started)
        });
        let mut took: Vec<u64> = calls.iter().map(|call| call.end - call.start).collect();
        took.sort_unstable();
        Self {
            calls: calls.len() as u64,
            lost: lost.len() as u64,
            under_way: calls.iter().filter(is_under_way).count() as u64,
            gap_ms: longest_gap(&calls, marks) / 1_000,
            gone_ms: gone.max().map(|micros| micros / 1_000),
            found_ms: found.max().map(|micros| micros / 1_000),
            back_ms: marks.absences.iter().max().map(|micros| micros / 1_000),
            p99_micros: took.get(took.len() * 99 / 100).copied().unwrap_or_default(),
            errors,
        }
    }
}

impl<'a> Call<'a> {
    fn from_event(event: &'a Event) -> Option<Self> {
        match &event.what {
            What::Call { micros, address, error } => {
                Some(Self { start: event.at, end: event.at + micros, address, error })
            }
            _ => None,
        }
    }

    fn is_lost(&self) -> bool {
        !self.error.is_empty()
    }
}

/// Returns the longest time between two responses.
fn longest_gap(calls: &[Call<'_>], marks: &Marks) -> u64 {
    let mut responses: Vec<u64> =
        calls.iter().filter(|call| !call.is_lost()).map(|call| call.end).collect();
    responses.extend([marks.began, marks.ended]);
    responses.sort_unstable();
    responses.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(at: u64, micros: u64, address: &str, error: &str) -> Event {
        let (address, error) = (address.to_owned(), error.to_owned());
        Event { at, what: What::Call { micros, address, error } }
    }

    #[test]
    fn calls_before_and_after_the_schedule_do_not_count() {
        let events = [call(5, 1, "a", ""), call(10, 1, "a", ""), call(20, 1, "", "refused")];
        let marks = Marks { began: 10, ended: 20, ..Marks::default() };
        let figures = Figures::evaluate(&events, &marks);
        assert_eq!((figures.calls, figures.lost), (1, 0));
    }

    #[test]
    fn a_killed_server_is_called_until_the_last_failed_call() {
        let ms = 1_000;
        let events = [
            call(10 * ms, 5 * ms, "a", ""),
            call(28 * ms, 3 * ms, "", "reset"),
            call(40 * ms, 5 * ms, "b", ""),
            call(60 * ms, ms, "", "refused"),
            call(90 * ms, 5 * ms, "b", ""),
        ];
        let marks = Marks {
            began: 0,
            ended: 100 * ms,
            stops: vec![("a".to_owned(), 30 * ms)],
            kills: vec![(30 * ms, 32 * ms)],
            ..Marks::default()
        };
        let figures = Figures::evaluate(&events, &marks);
        assert_eq!((figures.lost, figures.under_way), (2, 1));
        assert_eq!(figures.gone_ms, Some(30), "from the kill to the call at 60 ms");
        assert_eq!(figures.gap_ms, 50, "from the response at 45 ms to that at 95 ms");
        assert_eq!(figures.found_ms, None);
    }

    #[test]
    fn a_server_that_is_never_called_counts_until_the_end() {
        let starts = vec![("b".to_owned(), 20_000)];
        let marks = Marks { ended: 100_000, starts, ..Marks::default() };
        let figures = Figures::evaluate(&[call(30_000, 5_000, "b", "")], &marks);
        assert_eq!(figures.found_ms, Some(15));
        assert_eq!(Figures::evaluate(&[], &marks).found_ms, Some(80));
    }
}
