//! A member, with what its calls have shown.

use crate::stats::EndpointStats;
use std::sync::Arc;

/// A member, with what its calls have shown.
#[derive(Debug)]
pub(crate) struct Endpoint<K, T> {
    pub(crate) key: K,
    pub(crate) value: T,
    pub(crate) weight: u32,
    /// What picks by hash rank it by.
    pub(crate) hash_key: u64,
    /// Statistics outlive the value: they stay while the key is a member.
    pub(crate) stats: Arc<EndpointStats>,
}
