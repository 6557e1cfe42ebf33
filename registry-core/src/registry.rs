//! The contract that every store keeps.

use crate::{
    CallOptions, Claim, Cursor, Error, ErrorKind, Holder, Instance, Lease, Result, ServiceName,
    Snapshot, Watch,
};
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A registry of service instances, with the same contract over etcd, Redis and memory.
///
/// A service registers an instance with a lease and renews it. A caller loads a service and watches it from the loaded
/// cursor. The watch is a versioned stream of changes that can be resumed, and that reports lost history.
///
/// # Laws
///
/// The conformance kit checks each law against every store. `docs/contract.md` describes how each store keeps them, and
/// where a store promises more.
///
/// ## Fold
///
/// A [`load`](Self::load) returns all records of a service as of one cursor. A snapshot, plus the batches of a watch
/// from its cursor up to a revision, equals a load at that revision.
///
/// ## Order
///
/// The revisions of one watch strictly increase. No batch is delivered twice, and the changes of one revision are never
/// split over two batches.
///
/// ## Resume
///
/// From the cursor of any snapshot or batch, [`watch`](Self::watch) delivers exactly the later changes, or fails with
/// `Compacted` or `Diverged`, at once or as its first item. It never skips a change. A watch that has read all changes
/// survives a compaction. `Compacted` means that history was dropped; `Diverged` means that it was rolled back, wiped
/// or replaced. A cursor of another service, or of a store of another kind, is `Invalid`. A cursor of another store of
/// the same kind is `Invalid` on memory and etcd; Redis cannot distinguish it from replaced data and reports
/// `Diverged`. Each store documents the minimum history that it keeps.
///
/// ## Visibility
///
/// Within one lineage, once [`register`](Self::register) has returned, every later load shows the instance until it is
/// withdrawn, or until its ttl has passed since the last successful renewal *was sent*.
///
/// ## Expiry
///
/// An instance that is not renewed is deleted exactly once: not before its ttl, and no later than its ttl plus the
/// store's grace. The deletion takes effect when a client next reads, writes or watches the place where the instance is
/// stored. The grace is zero for memory; 1 s for etcd, plus 1 s for every 1,000 leases that expire at once; and 100 ms
/// plus a round trip for Redis.
///
/// ## Reason
///
/// A deletion in a watch has the reason [`Withdrawn`](crate::DeleteReason::Withdrawn) only if the owner deregistered,
/// and [`Expired`](crate::DeleteReason::Expired) only if the lease expired. A store that does not know the reason gives
/// none: etcd recognises a withdrawal, but cannot distinguish an expired lease from a revoked one. The deletion of a
/// record of an unknown lease, or of one that others deleted or overwrote, has no reason.
///
/// ## Takeover
///
/// One lease holds an id at a time. If another lease claims the id, `register` fails with `Superseded` and names the
/// [`Holder`], unless the claim [names that holder](crate::Takeover::From) itself: the store compares and writes
/// atomically. A claim that names a different holder changes nothing. A record that cannot be decoded, or that has no
/// lease, also holds its id and can be named. The superseded lease gets `LeaseLost` from `keep_alive`, at the latest at
/// its next presence check. Its renewal, deregistration or expiry does not affect its successor.
///
/// [`holder`](Self::holder) names the same holder before a claim is made. It returns `None` if and only if a claim of a
/// new lease would succeed.
///
/// ## Lost write
///
/// `keep_alive` fails with `LeaseLost` if the stored record is not the one last acknowledged to this lease. Memory and
/// Redis detect this in the same call, etcd at the presence check, which it makes once per ttl. After a rollback,
/// another record with the same revision as the acknowledged one counts as different. A call with
/// [`Presence::Proven`](crate::Presence::Proven) may skip the check.
///
/// ## Own record
///
/// A store that offers [`watch_record`](Self::watch_record) reports every change to the record of a lease after its
/// revision, or reports that it cannot. It may combine several changes into the last one.
///
/// ## Isolation
///
/// A service sees its own instances and no others, even if names share a prefix (`user`, `user2`, `user/a`).
///
/// ## Poison
///
/// A record that cannot be decoded is skipped, counted in [`Snapshot::undecodable`] and logged as a warning. It ends no
/// load and no watch. Overwriting a valid record with an undecodable one counts as a deletion. A record is undecodable
/// if it is larger than 64 KiB, is not a JSON object, or has no readable address. In etcd's layout `grpc` a record with
/// an unknown `Op` is also undecodable, in `kratos` one whose id contains a `/`. A `kratos` record without any
/// endpoints is valid but unavailable. A status or a weight that a reader does not understand makes the instance
/// unavailable.
///
/// ## Repeat
///
/// An operation that failed with `Unavailable` may be repeated, with the same result as if it had been made once.
///
/// ## Cancel
///
/// A dropped future leaves at most a record that expires with its ttl, and a dropped [`Watch`] leaves nothing. Neither
/// affects other callers.
///
/// ## Bounded
///
/// A watch that is not read ends with `Unavailable` after [`WATCH_CAPACITY`](crate::WATCH_CAPACITY) batches. It never
/// blocks another watch.
///
/// ## Backlog
///
/// [`Watch::is_caught_up`] returns whether the reader has received all changes that the store had when the watch was
/// opened.
///
/// ## Silence
///
/// A watch whose source stops answering ends with [`Error::silent`](crate::Error::silent) within the store's silence
/// timeout, even if its connection stays open and other sources of the store answer.
///
/// # Errors
///
/// Every method may fail with `Denied`, `Internal` or `Unavailable`. `Unavailable` means that there was no answer
/// within the store's deadline or the caller's [timeout](CallOptions::timeout), so the outcome is unknown. Each method
/// lists its other errors.
///
/// # Implementing
///
/// A method makes one request and returns one answer; a watch is the stream of one connection. A store does not retry,
/// and does not reconnect a watch by itself: the engine above retries and resumes for all stores. Every await has a
/// deadline, except that of an idle watch. Run the conformance kit.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// Registers `instance` until it is withdrawn, or until its lease is not renewed for its ttl.
    ///
    /// The outcome depends on who holds the instance id:
    ///
    /// | the id is | result |
    /// | --- | --- |
    /// | vacant | the record is written |
    /// | held by the claim's lease, with the same record | only the ttl restarts |
    /// | held by the claim's lease, with another record | the record is updated in place, and the ttl restarts |
    /// | held by the holder that the claim takes over from | the record is replaced |
    /// | held by another holder | `Superseded`, which names the holder |
    ///
    /// If a reply is lost, repeat the call with the same claim: it is idempotent. The returned lease replaces the one
    /// that an earlier call returned; the older value then counts as lost.
    ///
    /// # Errors
    ///
    /// `Superseded` as above. `Invalid` if the instance fails its [check](Instance::check), which a store makes first,
    /// or if the lease id is in use with another ttl or for another instance of the service. A store may keep the lease
    /// id of a displaced or superseded claim in use until its ttl has passed. Using one lease id for several services
    /// is undefined: never use a lease id twice.
    async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
        options: &CallOptions,
    ) -> Result<Lease>;

    /// Returns the current holder of the id of `instance`, in one round trip: exactly the holder that
    /// [`register`](Self::register) would name to a new claim. `None` if the id is vacant. Only the service and the id
    /// of the instance matter.
    ///
    /// The read is linearizable: it shows every claim that was acknowledged before it was sent. Like every read, it may
    /// delete records whose lease has expired, and changes nothing else.
    ///
    /// # Errors
    ///
    /// `Invalid` if the store cannot express the instance. A store that does not answer is `Unavailable`, never `None`.
    async fn holder(&self, instance: &Instance, options: &CallOptions) -> Result<Option<Holder>>;

    /// Renews `lease` for its whole ttl, in one round trip. Returns the ttl that the store granted.
    ///
    /// # Errors
    ///
    /// `LeaseLost` if the lease expired, was withdrawn or taken over, or if the stored record is not the one that was
    /// last acknowledged: register again.
    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> Result<Duration>;

    /// Withdraws the record that is registered under the id of `lease`. Returns `Ok` if there is none.
    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> Result<()>;

    /// Reads all records of `service` as of one cursor. A service without records gives an empty snapshot.
    async fn load(&self, service: &ServiceName, options: &CallOptions) -> Result<Snapshot>;

    /// Streams every change to `service` after the cursor of a snapshot, a batch or an earlier watch.
    ///
    /// # Errors
    ///
    /// From this method or as the last item of the stream:
    ///
    /// * `Compacted` or `Diverged` if history was lost: load again.
    /// * `Invalid` if `after` is a cursor of another store or service.
    /// * `Unavailable` if the stream was cut or the reader lagged: watch again after [`Watch::cursor`].
    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> Result<Watch>;

    /// Streams every change to the record of `lease` after its revision: the own-record watch of its owner.
    ///
    /// The watch also reports the owner's own changes: an update by [`register`](Self::register), and a
    /// [`deregister`](Self::deregister). Several changes may be combined into the last one. A batch with a change means
    /// that the record is no longer the one acknowledged to `lease`: it was updated, deleted, expired, overwritten or
    /// taken over. Batches without changes are progress.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the store does not offer it. From this method or as the last item of the stream:
    ///
    /// * `LeaseLost` if the record is already known to be a different one.
    /// * `Compacted` or `Diverged` if the store cannot tell what happened to the record since: renew to find out.
    /// * `Unavailable` if the stream was cut.
    async fn watch_record(&self, lease: &Lease, options: &CallOptions) -> Result<Watch> {
        let _ = (lease, options);
        Err(unsupported("watch_record"))
    }

    /// Returns the names of all services that have at least one record. Undecodable records count too, since no record
    /// is read. The cost grows with the number of services.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the store does not offer it.
    async fn services(&self, options: &CallOptions) -> Result<BTreeSet<ServiceName>> {
        let _ = options;
        Err(unsupported("services"))
    }

    /// Returns the ttl for registrations and views whose options set none: the [`Target::ttl`](crate::Target::ttl) of
    /// the URL of this registry. A decorator must forward it.
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
