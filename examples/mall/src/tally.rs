//! Statistics of the calls.

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
    /// Number of calls by server, since the last call of `take_shares`.
    shares: BTreeMap<String, u64>,
    /// The error of the first failed call.
    failure: Option<String>,
}

/// Totals of all calls.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    /// Lookups of the successful calls, retries included.
    pub(crate) lookups: u64,
    /// How many of these lookups were retries.
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

    /// Returns the number of calls by server since the last call of this function.
    pub(crate) fn take_shares(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.lock().shares)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.lock().total
    }

    /// Returns the error of the first failed call.
    pub(crate) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
