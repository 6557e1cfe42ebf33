//! Revisions: positions in the history of a store.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A position in the history of one service in one store.
///
/// Revisions are ordered and may have gaps, since they may also count changes to other services: etcd and the memory
/// store number the changes of the whole store, Redis those of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision(u64);

impl Revision {
    /// Wraps the store's number.
    pub const fn new(revision: u64) -> Self {
        Self(revision)
    }

    /// Returns the store's number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
