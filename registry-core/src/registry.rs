//! The contract every store keeps.

use crate::{
    CallOptions, Claim, Cursor, Error, ErrorKind, Holder, Instance, Lease, Result, ServiceName,
    Snapshot, Watch,
};
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
/// only where it was rolled back, wiped or replaced. A cursor of another service, or of a store of another
/// kind, is `Invalid`. So is one of another store of the same kind, if the store can tell: memory and etcd
/// can, and Redis cannot tell it from data that was replaced, so it says `Diverged`. A store states how
/// much history it keeps at least.
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
/// ## Reason
///
/// A deletion that a watch reports has the reason [`Withdrawn`](crate::DeleteReason::Withdrawn) only if the
/// owner deregistered, and [`Expired`](crate::DeleteReason::Expired) only if the lease ran out. A store that
/// does not know gives none: etcd knows a withdrawal, and does not tell an expiry from a revoked lease. A
/// record of an unknown lease, and one that was deleted or overwritten by others, has no reason.
///
/// ## Takeover
///
/// One lease holds an id at a time. To another lease that claims it, `register` says `Superseded` and names
/// the [`Holder`], unless the claim [names that holder](crate::Takeover::From) itself: the
/// store compares and writes in one step. A claim that names another holder changes nothing. A record that
/// cannot be decoded, or that has no lease, holds its id all the same, and can be named. The superseded
/// lease gets `LeaseLost` from `keep_alive` at the latest at its next presence check, and its renewal,
/// deregistration or expiry changes nothing of its successor.
///
/// [`holder`](Self::holder) names the same holder before a claim is made: `None` if and only if a claim of a new
/// lease would register.
///
/// ## Lost write
///
/// `keep_alive` says `LeaseLost` when what is stored is not the record last acknowledged to this
/// lease: in the same call on memory and Redis; on etcd at the presence check, made once per ttl. A record
/// that has the same revision as the acknowledged one, after a rollback, is another record. A call with
/// [`Presence::Proven`](crate::Presence::Proven) may leave the check out.
///
/// ## Own record
///
/// A store that offers [`watch_record`](Self::watch_record) reports every change to the record of a lease after its
/// revision, or says that it cannot. It may report several changes as the last of them.
///
/// ## Isolation
///
/// A service sees its own instances and no others, whatever the names share (`user`, `user2`,
/// `user/a`).
///
/// ## Poison
///
/// A record that cannot be decoded is skipped, counted in [`Snapshot::undecodable`] and reported as a
/// warning. It ends no load and no watch. If it overwrites a record that could be decoded, that counts as a
/// deletion. A record is undecodable if it is larger than 64 KiB, is not a JSON object, or has no readable
/// address; in the layout `grpc` of etcd, also if its `Op` is unknown; in `kratos`, also if its id has a `/`, but not if it has no
/// endpoints at all: then it is unavailable. A status or a weight that a reader does
/// not understand makes the instance unavailable.
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
/// ## Backlog
///
/// A watch says by [`Watch::is_caught_up`] when its reader has all changes that the store had when the watch was
/// opened: then the state is that of the store.
///
/// ## Silence
///
/// A watch whose source stops answering ends with [`Error::silent`](crate::Error::silent) within the store's silence
/// timeout, also while its connection stays open and other sources of the store answer.
///
/// # Errors
///
/// Every method may fail `Unavailable` (no answer within the store's deadline or the caller's
/// [timeout](CallOptions::timeout): the outcome is unknown), `Denied`, or `Internal`. What else it may say
/// stands with it.
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
    /// | held by this lease, with another record | it is updated in place, and the ttl starts anew |
    /// | held by the holder that the claim takes over from | it is replaced |
    /// | held by another one | `Superseded`, which names the holder |
    ///
    /// So a lost reply is repeated with the same claim, and does no harm. The lease returned replaces
    /// the one that an earlier call returned: the older value then counts as lost.
    ///
    /// # Errors
    ///
    /// `Superseded` as above. `Invalid` if the instance fails its [check](Instance::check), which a store makes first, or
    /// if the lease id is in use with another ttl or for another
    /// instance of the service. A store may keep the lease id of a displaced or superseded claim in use until its
    /// ttl has passed. (Across services that is undefined: no lease id is ever used twice.)
    async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
        options: &CallOptions,
    ) -> Result<Lease>;

    /// Returns who holds the id of `instance` now, in one round trip: exactly the holder that
    /// [`register`](Self::register) would name to a new claim. `None` if the id is vacant. Of the instance only
    /// service and id matter.
    ///
    /// The read is linearizable: it shows every claim that was acknowledged before it was sent. It changes nothing but what
    /// every read changes: leases that have expired are deleted.
    ///
    /// # Errors
    ///
    /// `Invalid` if the store cannot express the instance. A store that does not answer is `Unavailable`, never `None`.
    async fn holder(&self, instance: &Instance, options: &CallOptions) -> Result<Option<Holder>>;

    /// Renews `lease` for its whole ttl, in one round trip. Returns the ttl that the store granted.
    ///
    /// # Errors
    ///
    /// `LeaseLost` if it expired, was withdrawn or taken over, or if what is stored is not what was
    /// last acknowledged: register again.
    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> Result<Duration>;

    /// Withdraws what is registered under the id of `lease`. If that is nothing, it is `Ok`.
    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> Result<()>;

    /// Reads all records of `service` as of one cursor. None at all is an empty snapshot.
    async fn load(&self, service: &ServiceName, options: &CallOptions) -> Result<Snapshot>;

    /// Streams every change to `service` after the cursor of a snapshot, a batch or an earlier watch.
    ///
    /// # Errors
    ///
    /// Here or as the last item of the stream: `Compacted` or `Diverged`: load again; `Invalid` if
    /// `after` is a cursor of another store or service; `Unavailable` if the stream was cut or lagged:
    /// watch again after [`Watch::cursor`].
    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> Result<Watch>;

    /// Streams every change to the record of `lease` after its revision: its owner's watch.
    ///
    /// The watch reports the owner's own changes, too: an update by [`register`](Self::register), and a
    /// [`deregister`](Self::deregister). Several changes may be reported as the last of them. A batch with a change means
    /// that the record is no longer the one that `lease` was acknowledged: it was updated, deleted, expired, overwritten
    /// or taken over. Other batches are progress.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the store does not offer it. Here or as the last item of the stream: `LeaseLost` if the
    /// record is known to be another one by now; `Compacted` or `Diverged` if the store cannot tell what
    /// happened to it since: renew to find out; `Unavailable` if the stream was cut.
    async fn watch_record(&self, lease: &Lease, options: &CallOptions) -> Result<Watch> {
        let _ = (lease, options);
        Err(unsupported("watch_record"))
    }

    /// Returns the names that have at least one record. One that cannot be decoded counts, since no record is
    /// read for it. It costs more the more names there are.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the store does not offer it.
    async fn services(&self, options: &CallOptions) -> Result<BTreeSet<ServiceName>> {
        let _ = options;
        Err(unsupported("services"))
    }

    /// Returns the ttl for registrations and views whose options state none: [`Target::ttl`](crate::Target::ttl)
    /// of the URL that this registry was connected by. A decorator forwards it.
    fn default_ttl(&self) -> Option<Duration> {
        None
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<R: Registry + ?Sized> Registry for Arc<R> {
    async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
        options: &CallOptions,
    ) -> Result<Lease> {
        (**self).register(instance, claim, options).await
    }

    async fn holder(&self, instance: &Instance, options: &CallOptions) -> Result<Option<Holder>> {
        (**self).holder(instance, options).await
    }

    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> Result<Duration> {
        (**self).keep_alive(lease, options).await
    }

    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> Result<()> {
        (**self).deregister(lease, options).await
    }

    async fn load(&self, service: &ServiceName, options: &CallOptions) -> Result<Snapshot> {
        (**self).load(service, options).await
    }

    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> Result<Watch> {
        (**self).watch(service, after, options).await
    }

    async fn watch_record(&self, lease: &Lease, options: &CallOptions) -> Result<Watch> {
        (**self).watch_record(lease, options).await
    }

    async fn services(&self, options: &CallOptions) -> Result<BTreeSet<ServiceName>> {
        (**self).services(options).await
    }

    fn default_ttl(&self) -> Option<Duration> {
        (**self).default_ttl()
    }
}

fn unsupported(operation: &str) -> Error {
    let message = format!("the store does not offer this operation, operation=`{operation}`");
    Error::new(ErrorKind::Unsupported, message)
}
