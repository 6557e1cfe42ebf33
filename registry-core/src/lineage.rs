//! The lineage of a store: the history that an answer belongs to.

use std::fmt;
use std::sync::Arc;

/// An identifier of the history that a store answered from.
///
/// If two answers have the same lineage, the store noticed no failover, election, restart or rollback between them. If
/// their lineages differ, such an event happened, even if cursors remained valid. A lineage is opaque and unordered,
/// and must not be stored across restarts of the process.
///
/// | store | lineage |
/// | --- | --- |
/// | memory | the branch: a rollback begins a new one |
/// | etcd | the cluster id and the raft term |
/// | Redis | the run id of the server and the seed of the shard's digest |
///
/// A store that cannot detect such events gives every answer the default lineage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lineage(Option<Arc<str>>);

impl Lineage {
    /// Returns the lineage with this name. For authors of stores.
    pub fn new(name: impl fmt::Display) -> Self {
        Self(Some(name.to_string().into()))
    }
}
