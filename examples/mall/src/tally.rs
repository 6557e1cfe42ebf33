//! What became of the calls.

use crate::order::Receipt;
use anyhow::Error;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts the orders that were placed.
#[derive(Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    total: Totals,
    /// Who served how many, since that was last asked.
    shares: BTreeMap<String, u64>,
    /// Why the first of them failed that failed.
    failure: Option<String>,
}

/// What became of all calls.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    /// Lookups that were made for those that did not fail.
    pub(crate) lookups: u64,
    /// How many of them were made again.
    pub(crate) repeated: u64,
}

impl Tally {
    pub(crate) fn count(&self, outcome: Result<Receipt, Error>) {
        let mut counts = self.lock();
        counts.total.calls += 1;
        match outcome {
            Ok(receipt) => {
                counts.total.lookups += u64::from(receipt.lookups);
                counts.total.repeated += u64::from(receipt.lookups.saturating_sub(1));
                *counts.shares.entry(receipt.served_by).or_default() += 1;
            }
            Err(error) => {
                counts.total.failed += 1;
                counts.failure.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }

    /// Who served how many, since the last time.
    pub(crate) fn shares(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.lock().shares)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.lock().total
    }

    /// Why the first call failed that failed.
    pub(crate) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// Held for a few assignments.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
