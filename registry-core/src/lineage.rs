//! The lineage of a store: which history an answer belongs to.

use std::fmt;
use std::sync::Arc;

/// Identifies the history that a store answered from, as far as the store can tell.
///
/// Two equal lineages mean that no failover, election, restart or rollback happened between two answers
/// that the store would notice; two different ones that something of that kind did, even if cursors
/// remained valid. It is opaque, has no order, and is not kept across restarts of the process.
///
/// | store | it names |
/// | --- | --- |
/// | memory | the branch: a rollback begins a new one |
/// | etcd | the cluster id and the raft term |
/// | Redis | the run id of the server and the seed of the shard's digest |
///
/// A store that cannot tell gives the default to every answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lineage(Option<Arc<str>>);

impl Lineage {
    /// Wraps what a store names its history by. For authors of stores.
    pub fn new(name: impl fmt::Display) -> Self {
        Self(Some(name.to_string().into()))
    }
}
