//! The contract every store keeps.

use crate::{Claim, Cursor, Instance, Lease, Result, ServiceName, Snapshot, Watch};
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A registry of service instances: etcd, Redis, or memory, to the same contract.
///
/// Services register under a name with a lease and renew it; callers load a name and watch it from
/// there as a versioned stream of changes that can be resumed, and that says so when history is gone.
///
/// # Laws
///
/// Each is checked against every store by the conformance kit. What each store does to keep them, and
/// where it promises more, is in `docs/contract.md`.
///
/// ## Fold
///
/// A [`load`](Self::load) is all of a service as of one cursor. A snapshot, plus the batches of a
/// watch after its cursor up to a revision, is what a load at that revision would give.
///
/// ## Order
///
/// The revisions of one watch strictly increase. No batch comes twice, and the changes of one
/// revision are never split over two batches.
///
/// ## Resume
///
/// From any cursor that a snapshot or a batch gave, [`watch`](Self::watch) gives exactly the rest, or
/// says `Compacted` or `Diverged`, at once or as its first item. It never skips. A watch that has read
/// all there is survives a compaction. `Compacted` is said only where history was dropped, `Diverged`
/// only where it was rolled back, wiped or replaced; a cursor of another store or service is `Invalid`.
///
/// ## Visibility
///
/// Within one lineage: once [`register`](Self::register) returned, every later load shows the
/// instance, until it is withdrawn or its ttl has passed since the last successful renewal *was sent*.
///
/// ## Expiry
///
/// An instance that is not renewed is gone with exactly one deletion; not before its ttl, and no later
/// than its ttl and the store's grace, observed when anyone next reads, writes or watches where it
/// lies. The grace is none for memory, 1 s for etcd (and 1 s more for every 1,000 leases that die at
/// once), and for Redis 100 ms and a round trip.
///
/// ## Takeover
///
/// One lease holds an id at a time. To another lease that claims it, `register` says `Superseded`
/// unless the claim takes over; then the last claim wins. The superseded lease gets `LeaseLost` from
/// `keep_alive` at the latest at its next presence check, and its renewal, deregistration or expiry
/// changes nothing of its successor.
///
/// ## Lost write
///
/// `keep_alive` says `LeaseLost` when what is stored is not the record last acknowledged to this
/// lease: in the same call on memory and Redis; on etcd at the presence check, made once per ttl.
///
/// ## Isolation
///
/// A service sees its own instances and no others, whatever the names share (`user`, `user2`,
/// `user/a`).
///
/// ## Poison
///
/// A record that cannot be decoded is skipped, counted in [`Snapshot::undecodable`] and reported as a
/// warning. It ends no load and no watch. Over a record that could be decoded it is a deletion.
///
/// ## Repeat
///
/// An operation that failed `Unavailable` may be repeated, and ends as if it had been made once.
///
/// ## Cancel
///
/// A dropped future leaves at most what its ttl removes, and a dropped [`Watch`] leaves nothing.
/// Neither breaks anything for others.
///
/// ## Bounded
///
/// A watch that nobody reads ends with `Unavailable` after [`WATCH_CAPACITY`](crate::WATCH_CAPACITY)
/// batches. It never blocks another.
///
/// # Errors
///
/// Every method may fail `Unavailable` (no answer within the store's deadline: the outcome is
/// unknown), `Denied`, or `Internal`. What else it may say stands with it.
///
/// # Implementing
///
/// One method is one request and one answer, one watch is one connection's stream. A store neither
/// retries nor reconnects a watch in secret: patience is for the callers above, once for all stores.
/// Every await has a deadline, but for a watch with nothing to say. Run the conformance kit.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// Registers `instance` until its lease is withdrawn or not renewed for its ttl.
    ///
    /// The claim's lease id decides what that means:
    ///
    /// | the id in the store is | then |
    /// | --- | --- |
    /// | vacant | it is put |
    /// | held by this lease, with this record | nothing changes but the ttl, which starts anew |
    /// | held by this lease, with another record | it is updated in place |
    /// | held by another lease | the claim takes over, or gets `Superseded` |
    ///
    /// So a lost reply is repeated with the same claim, and does no harm. The lease returned replaces
    /// the one that an earlier call returned: the older value then counts as lost.
    ///
    /// # Errors
    ///
    /// `Superseded` as above. `Invalid` if the lease id is in use with another ttl or for another
    /// instance of the service. (Across services that is undefined: no lease id is ever used twice.)
    async fn register(&self, instance: &Instance, claim: &Claim) -> Result<Lease>;

    /// Renews `lease` for its whole ttl, in one round trip.
    ///
    /// # Errors
    ///
    /// `LeaseLost` if it expired, was withdrawn or taken over, or if what is stored is not what was
    /// last acknowledged: register again.
    async fn keep_alive(&self, lease: &Lease) -> Result<()>;

    /// Withdraws what is registered under the id of `lease`. If that is nothing, it is `Ok`.
    async fn deregister(&self, lease: &Lease) -> Result<()>;

    /// Reads all instances of `service` as of one cursor. None at all is an empty snapshot.
    async fn load(&self, service: &ServiceName) -> Result<Snapshot>;

    /// Streams every change to `service` after the cursor of a snapshot, a batch or an earlier watch.
    ///
    /// # Errors
    ///
    /// Here or as the last item of the stream: `Compacted` or `Diverged`: load again; `Invalid` if
    /// `after` is a cursor of another store or service; `Unavailable` if the stream was cut or lagged:
    /// watch again after [`Watch::cursor`].
    async fn watch(&self, service: &ServiceName, after: &Cursor) -> Result<Watch>;

    /// The names with at least one live instance. It costs more the more there are.
    async fn services(&self) -> Result<BTreeSet<ServiceName>>;

    /// Returns the ttl for registrations and views whose options state none: [`Target::ttl`](crate::Target::ttl)
    /// of the URL that this registry was connected by. A decorator forwards it.
    fn default_ttl(&self) -> Option<Duration> {
        None
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<R: Registry + ?Sized> Registry for Arc<R> {
    async fn register(&self, instance: &Instance, claim: &Claim) -> Result<Lease> {
        (**self).register(instance, claim).await
    }

    async fn keep_alive(&self, lease: &Lease) -> Result<()> {
        (**self).keep_alive(lease).await
    }

    async fn deregister(&self, lease: &Lease) -> Result<()> {
        (**self).deregister(lease).await
    }

    async fn load(&self, service: &ServiceName) -> Result<Snapshot> {
        (**self).load(service).await
    }

    async fn watch(&self, service: &ServiceName, after: &Cursor) -> Result<Watch> {
        (**self).watch(service, after).await
    }

    async fn services(&self) -> Result<BTreeSet<ServiceName>> {
        (**self).services().await
    }

    fn default_ttl(&self) -> Option<Duration> {
        (**self).default_ttl()
    }
}
