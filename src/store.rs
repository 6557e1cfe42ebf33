//! The store contract below a [`Client`](crate::Client): for authors of stores and decorators, and for programs that
//! work with leases, snapshots and batches directly.
//!
//! [`Registry`] states the laws that every store keeps.

pub use registry_core::encoding;
pub use registry_core::{
    BacklogEnd, Batch, BoxError, CallOptions, Change, Claim, ConnectOptions, Connected, Connector,
    Consistency, Cursor, DEFAULT_TTL, DEFAULT_WEIGHT, DeleteReason, Deleted, Diagnose, Holder,
    Host, Lease, LeaseId, Lineage, MAX_METADATA_LEN, MAX_NAME_LEN, MAX_TTL, MIN_TTL, Origin, Port,
    Presence, Publisher, Record, Records, Registry, Revision, Secret, Snapshot, Takeover, Target,
    TlsFiles, WATCH_CAPACITY, Watch, silence_timeout,
};
pub use registry_engine::{
    Backoff, Discovery, DiscoveryOptions, FollowEvent, FollowOptions, Reader, Retained, Start,
    Starting, StateRef, TaskHandle, Updates, follow,
};

use crate::{Result, connectors};
use std::sync::Arc;

/// The in-memory store.
#[cfg(feature = "mem")]
pub use registry_mem as mem;

/// The etcd store and its options.
#[cfg(feature = "etcd")]
pub use registry_etcd as etcd;

/// The Redis store and its options.
#[cfg(feature = "redis")]
pub use registry_redis as redis;

/// Connects to a store without a client: the layer below [`connect`](crate::connect).
///
/// # Errors
///
/// Those of [`connect`](crate::connect).
pub async fn connect_target(target: &Target) -> Result<Arc<dyn Registry>> {
    connectors::registry(target).await
}
