//! A member and its statistics.

use crate::stats::EndpointStats;
use std::sync::Arc;

/// A member and its statistics.
#[derive(Debug)]
pub(crate) struct Endpoint<K, T> {
    pub(crate) key: K,
    pub(crate) value: T,
    pub(crate) weight: u32,
    /// The hash by which picks by hash rank it.
    pub(crate) hash_key: u64,
    /// Shared with later values of the same key: the statistics stay while the key is a member.
    pub(crate) stats: Arc<EndpointStats>,
}
