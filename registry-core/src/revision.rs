//! Positions in the history of a store.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A point in the history of one service of one store.
///
/// Ordered; gaps are normal; there is no arithmetic. It may count more than this service's changes:
/// etcd and the memory store number the whole store, Redis a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision(u64);

impl Revision {
    /// Wraps a store's own number.
    pub const fn new(revision: u64) -> Self {
        Self(revision)
    }

    /// The store's own number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
