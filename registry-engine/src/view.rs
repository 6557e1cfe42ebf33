//! Views: local, lock-free copies of a service.

mod broadcast;
mod options;
pub(crate) mod report;
mod retention;
pub(crate) mod shared;
pub(crate) mod snapshot_file;
mod state;
mod updates;
pub(crate) mod watcher;

pub use self::broadcast::Update;
pub use self::options::DiscoveryOptions;
pub use self::report::Failure;
pub use self::retention::Retained;
pub use self::state::{ServiceState, StateRef, ViewStatus};
pub use self::updates::Updates;

use self::broadcast::{Broadcaster, Waiter};
use self::report::Refusal;
use self::shared::SharedView;
use arc_swap::{ArcSwap, Cache};
use registry_core::{Error, ErrorKind, InstanceId, LeaseId, Result, ServiceName, Snapshot};
use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A handle to a local copy of one service. A task that all handles share keeps the copy up to date.
///
/// [`Discovery::view`](crate::Discovery::view) creates it. The watch is closed when the last clone is dropped, together
/// with all streams and readers made from them. Reading is wait-free and allocates nothing.
///
/// ```
/// use registry_core::Instance;
/// use registry_engine::{Discovery, DiscoveryOptions, Registration, RegistrationOptions};
/// use registry_mem::MemRegistry;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> registry_core::Result<()> {
/// let registry = Arc::new(MemRegistry::new());
/// let discovery = Discovery::new(registry.clone(), DiscoveryOptions::default());
/// let mut view = discovery.view(&"user.rpc".parse()?);
/// view.ready(Duration::from_secs(5)).await?;
/// assert!(view.state().records().is_empty());
///
/// let node = Instance::from_parts("user.rpc".parse()?, "node-1".parse()?, "10.0.0.1:8080".parse()?);
/// let registration = Registration::start(registry, node, RegistrationOptions::default()).await?;
/// view.changed().await?;
/// assert_eq!(view.state().records()[0].instance().address().to_string(), "10.0.0.1:8080");
/// # registration.stop().await
/// # }
/// ```
pub struct View {
    shared: Arc<SharedView>,
    /// The version of the state that [`changed`](Self::changed) last reported.
    seen: AtomicU64,
    /// The waiter of [`changed`](Self::changed), created at its first call.
    waiter: Option<Waiter>,
}

impl View {
    pub(crate) fn new(shared: Arc<SharedView>) -> Self {
        let seen = shared.broadcaster.state().version.into();
        Self { shared, seen, waiter: None }
    }

    /// Returns the name of the service.
    pub fn service(&self) -> &ServiceName {
        &self.shared.service
    }

    /// Returns the current state. Wait-free. Do not keep the reference: call again for a newer state.
    #[inline]
    pub fn state(&self) -> StateRef {
        StateRef::new(self.shared.broadcaster.state())
    }

    /// Returns the version of the state, which grows with each published state. It is cheaper to read than the state:
    /// use it to check whether values derived from a state are outdated.
    #[inline]
    pub fn version(&self) -> u64 {
        self.shared.broadcaster.version()
    }

    /// Returns a reader for a hot loop. It caches the last state and only checks whether it is still current.
    pub fn reader(&self) -> Reader {
        let cache = Cache::new(StateCell(self.shared.broadcaster.clone()));
        Reader { cache, _view: self.clone() }
    }

    /// Returns the status: the freshness of the state.
    pub fn status(&self) -> ViewStatus {
        self.state().status.clone()
    }

    /// Returns how long the store has not confirmed the state. It is zero while the view is live.
    pub fn staleness(&self) -> Duration {
        self.state().status.staleness()
    }

    /// Returns the store's last answer, without retained instances. `None` before the first answer.
    pub fn store_snapshot(&self) -> Option<Snapshot> {
        self.state().store_snapshot.clone()
    }

    /// Waits until the store has confirmed the state, for at most `within`.
    ///
    /// If the store does not answer in time, a state from a snapshot file also returns `Ok`. It is usable, and the
    /// [status](Self::status) tells how fresh it is.
    ///
    /// # Errors
    ///
    /// * `Denied` or `Invalid`, at once, if the store refuses the load and has never answered this view, even if there
    ///   is a state from a file.
    /// * `Unavailable` after `within` if there is no state, with the last error as its source.
    /// * `Closed`, at once, if the runtime of the view was shut down.
    ///
    /// The view keeps retrying, except after `Closed`.
    pub async fn ready(&self, within: Duration) -> Result<()> {
        let waiter = self.shared.broadcaster.waiter();
        let settled = |state: &ServiceState| match &state.status {
            ViewStatus::Live => Some(Ok(state.version)),
            ViewStatus::Stale { why, .. } if state.is_closed => Some(Err(why.clone())),
            status => {
                let refusal =
                    status.error().filter(|why| !is_retryable(why) && !state.is_confirmed);
                refusal.map(|why| {
                    let error = Error::new(why.kind(), "cannot load the service");
                    Err(error.with_source(why.clone()))
                })
            }
        };
        let settled = poll_fn(|cx| waiter.poll(cx, settled));
        if let Ok(settled) = timeout(within, settled).await {
            self.seen.store(settled?, Ordering::Relaxed);
            return Ok(());
        }
        let state = self.state();
        if state.store_snapshot.is_some() {
            self.seen.store(state.version, Ordering::Relaxed);
            return Ok(());
        }
        let message = format!(
            "the service could not be loaded in time, service=`{}`, timeout=`{within:?}`",
            self.service()
        );
        let error = Error::new(ErrorKind::Unavailable, message);
        Err(match state.status.error() {
            Some(why) => error.with_source(why.clone()),
            None => error,
        })
    }

    /// Waits until the state is newer than the last one that this handle has seen: its instances or its
    /// [status](ViewStatus) have changed.
    ///
    /// A handle has seen the state for which this method or [`ready`](Self::ready) last returned; at first, the state
    /// that was current when the handle was created. A clone starts with what the original has seen. Several changes in
    /// between are reported as one.
    ///
    /// # Errors
    ///
    /// `Closed` after the last state, if the runtime of the view was shut down.
    pub async fn changed(&mut self) -> Result<()> {
        let Self { shared, seen, waiter } = self;
        let waiter = waiter.get_or_insert_with(|| shared.broadcaster.waiter());
        let seen = seen.get_mut();
        let newer = |state: &ServiceState| match &state.status {
            _ if state.version != *seen => Some(Ok(state.version)),
            ViewStatus::Stale { why, .. } if state.is_closed => Some(Err(why.clone())),
            _ => None,
        };
        *seen = poll_fn(|cx| waiter.poll(cx, newer)).await?;
        Ok(())
    }

    /// Returns a stream of the current state, followed by every later change in the store.
    pub fn updates(&self) -> Updates {
        Updates::new(self.shared.clone())
    }
}

impl View {
    /// Reports a failed call to the instance `id`. `incarnation` is the [lease](registry_core::Record::lease) of the
    /// record that was called.
    ///
    /// A [retained](ServiceState::retained) instance that refuses a connection is gone, so the view stops retaining it.
    /// A report about an instance that the store lists, or about another incarnation, changes nothing.
    ///
    /// ```
    /// # use registry_engine::{Failure, View};
    /// # async fn is_refused(address: &registry_core::Address) -> bool { true }
    /// # async fn check(view: View) {
    /// let retained = view.state().retained().to_vec();
    /// for record in retained.iter().map(|retained| &retained.record) {
    ///     if is_refused(record.instance().address()).await {
    ///         view.report(record.id(), record.lease(), Failure::Refused);
    ///     }
    /// }
    /// # }
    /// ```
    pub fn report(&self, id: &InstanceId, incarnation: Option<LeaseId>, failure: Failure) {
        let Failure::Refused = failure;
        if self.state().find_retained(id).is_some_and(|one| one.record.lease() == incarnation) {
            let refusal = Refusal { id: id.clone(), incarnation, at: Instant::now() };
            // A report may be lost if the queue is full, since the next connection attempt will be refused too.
            drop(self.shared.refusals.try_send(refusal));
        }
    }

    /// Counts in the [metrics](crate::metrics) that a balancer has ejected an instance of this view.
    pub fn count_ejection(&self) {
        crate::metrics::ejected(self.service());
    }
}

impl Clone for View {
    fn clone(&self) -> Self {
        let seen = self.seen.load(Ordering::Relaxed).into();
        Self { shared: self.shared.clone(), seen, waiter: None }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("View")
            .field("service", self.service())
            .field("instances", &state.records.len())
            .field("status", &state.status)
            .finish_non_exhaustive()
    }
}

/// A reader of a view for hot loops. Create one for each task. It keeps the view open.
pub struct Reader {
    cache: Cache<StateCell, Arc<ServiceState>>,
    _view: View,
}

impl Reader {
    /// Returns the current state. Wait-free, and does not write to memory that other readers share.
    #[inline]
    pub fn state(&mut self) -> &ServiceState {
        self.cache.load()
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// The cell that a [`Reader`] caches.
struct StateCell(Arc<Broadcaster>);

impl Deref for StateCell {
    type Target = ArcSwap<ServiceState>;

    #[inline]
    fn deref(&self) -> &ArcSwap<ServiceState> {
        self.0.state_cell()
    }
}

/// Returns whether a retry may succeed.
fn is_retryable(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Denied | ErrorKind::Invalid)
}
