//! The own-record watch of a registration: if the record is deleted or overwritten, it is registered again at once.
//!
//! The first registrations of a service in a process each watch only their own record, so that one instance of a large
//! service costs no more than one of a small service. All further registrations of the service share one watch of the
//! whole service.

mod loss;
mod service;

use self::loss::lost_by;
use self::service::{Membership, OPEN_TIMEOUT, ServiceRecords, SingleWatcher};
use super::limiter::RequestLimiter;
use crate::Backoff;
use crate::bounds::retry_backoff;
use crate::call::{call, contained, within};
use futures_util::StreamExt;
use registry_core::{Error, ErrorKind, Holder, Instance, Lease, Presence, Registry, Result, Watch};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::sleep;

/// The watch of the record of one registration.
#[derive(Debug)]
pub(super) struct OwnRecord {
    registry: Arc<dyn Registry>,
    records: Arc<ServiceRecords>,
    limiter: RequestLimiter,
    sharing: Sharing,
    /// Whether a watch of this record alone is open and has reported no change.
    is_unchanged: AtomicBool,
}

/// How a registration watches its record.
#[derive(Debug)]
enum Sharing {
    /// With a watch of its own.
    Alone(#[expect(dead_code, reason = "held for its drop")] SingleWatcher),
    /// Through the shared watch of the service.
    Shared(Membership),
}

impl OwnRecord {
    /// Returns the own-record watch of `instance`. It opens nothing yet.
    pub(super) fn new(registry: &Arc<dyn Registry>, instance: &Instance) -> Arc<Self> {
        let records = ServiceRecords::of(registry, instance.service());
        let sharing = match records.single_watcher() {
            Some(single) => Sharing::Alone(single),
            None => Sharing::Shared(records.join(instance.id())),
        };
        let is_unchanged = AtomicBool::new(false);
        let limiter = RequestLimiter::of(registry);
        Arc::new(Self { registry: registry.clone(), records, limiter, sharing, is_unchanged })
    }

    /// Returns [`Presence::Proven`] while an open watch shows that the record is the one acknowledged to `lease`.
    pub(super) fn presence(&self, lease: &Lease) -> Presence {
        let is_proven = self.is_unchanged.load(Ordering::Relaxed)
            || matches!(&self.sharing, Sharing::Shared(membership) if membership.is_held_by(lease));
        if is_proven { Presence::Proven } else { Presence::Check }
    }

    /// Returns the request limiter of the registry.
    pub(super) fn limiter(&self) -> &RequestLimiter {
        &self.limiter
    }

    /// Waits until the store reports that the record is no longer the one acknowledged to `lease`. Returns `LeaseLost`.
    ///
    /// If the store refuses one kind of watch, the other kind is used. If it refuses both, both are tried again after a
    /// ttl.
    pub(super) async fn lost(&self, lease: &Lease) -> Error {
        loop {
            let lost = match &self.sharing {
                Sharing::Alone(_) => match self.lost_alone(lease).await {
                    None => self.records.join(lease.instance().id()).lost(lease).await,
                    lost => lost,
                },
                Sharing::Shared(membership) => match membership.lost(lease).await {
                    None => tokio::select! {
                        lost = self.lost_alone(lease) => lost,
                        () = membership.readmitted() => continue,
                    },
                    lost => lost,
                },
            };
            match lost {
                Some(error) => return error,
                None => sleep(lease.ttl()).await,
            }
        }
    }

    /// Waits until `holder` no longer holds the id of `instance`; forever if the store refuses the watch of the
    /// service.
    pub(super) async fn released(&self, instance: &Instance, holder: &Holder) {
        let is_released = match &self.sharing {
            Sharing::Alone(_) => self.records.join(instance.id()).released(holder).await,
            Sharing::Shared(membership) => membership.released(holder).await,
        };
        if is_released.is_none() {
            pending::<()>().await;
        }
    }

    /// Waits as [`lost`](Self::lost) does, with a watch of this record alone. Returns `None` if the store refuses that
    /// watch.
    async fn lost_alone(&self, lease: &Lease) -> Option<Error> {
        let backoff = retry_backoff(Backoff::default(), lease.ttl(), 0);
        for failures in 1.. {
            let error = match self.watch_record(lease).await {
                Ok(watch) => self.first_change(watch).await,
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::LeaseLost => return Some(error),
                ErrorKind::Unsupported | ErrorKind::Denied | ErrorKind::Invalid => return None,
                _ => sleep(backoff.delay(failures)).await,
            }
        }
        None
    }

    async fn watch_record(&self, lease: &Lease) -> Result<Watch> {
        let _permit = self.limiter.watch(OPEN_TIMEOUT).await;
        let watch = async { self.registry.watch_record(lease, &within(OPEN_TIMEOUT)).await };
        call("watch_record", OPEN_TIMEOUT, watch).await
    }

    /// Waits for the first change, and returns `LeaseLost`, or the error that ended the watch.
    async fn first_change(&self, mut watch: Watch) -> Error {
        let _unchanged = Raised::new(&self.is_unchanged);
        loop {
            let next = async { watch.next().await.unwrap_or_else(|| Err(watch_ended())) };
            match contained("watch_record", next).await {
                Ok(batch) if batch.is_progress() => {}
                Ok(batch) => return lost_by(&batch),
                Err(error) => return error,
            }
        }
    }
}

/// A guard that sets a flag, and clears it when it is dropped.
struct Raised<'a>(&'a AtomicBool);

impl<'a> Raised<'a> {
    fn new(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::Relaxed);
        Self(flag)
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn watch_ended() -> Error {
    Error::new(ErrorKind::Unavailable, "the own-record watch ended without an error")
}
