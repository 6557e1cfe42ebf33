//! The view that a caller of a service holds.

mod labelled;
mod options;

pub(crate) use self::labelled::Labelled;
pub use self::options::ViewOptions;

use crate::balance::{PickOptions, Picker};
use crate::store::{Reader, Snapshot, StateRef, Updates};
use crate::{Pick, Result, ServiceName, ServiceState, ViewStatus};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A local, lock-free copy of one service that is updated in the background and picks an instance for each call.
///
/// It is created by [`Client::discover`](crate::Client::discover). A clone is another handle to the same copy and the
/// same statistics of its instances; dropping the last handle closes the watch. Reading takes no lock, no allocation
/// and no request.
///
/// ```
/// use service_registry::{Instance, connect};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> service_registry::Result<()> {
/// let client = connect("mem://").await?;
/// let mut users = client.discover("user.rpc")?;
/// users.ready(Duration::from_secs(5)).await?;
/// assert!(users.pick().is_err()); // no instance is registered
///
/// let registration = client.register(Instance::new("user.rpc", ([10, 0, 0, 1], 80).into())?).await?;
/// users.changed().await?;
/// assert_eq!(users.pick()?.address().to_string(), "10.0.0.1:80");
/// # registration.stop().await
/// # }
/// ```
#[derive(Clone)]
pub struct View {
    view: registry_engine::View,
    picker: Arc<Picker>,
}

impl View {
    pub(crate) fn new(view: registry_engine::View, picker: Picker) -> Self {
        Self { view, picker: Arc::new(picker) }
    }

    /// Returns the name of the service.
    pub fn service(&self) -> &ServiceName {
        self.view.service()
    }

    /// Waits until the store has confirmed the state, for at most `within`. Returns `Ok` also if the service has no
    /// instance: to wait for one, use [`wait_for`](Self::wait_for).
    ///
    /// Returns `Ok` as well if the state comes from a snapshot file and was not confirmed in time; the
    /// [status](Self::status) tells.
    ///
    /// # Errors
    ///
    /// `Denied` or `Invalid`, at once, if the store refuses the first load. `Unavailable` after `within` if there is no
    /// state; its source is the last error, and the view keeps retrying. `Closed` if the runtime of the view was shut
    /// down.
    pub async fn ready(&self, within: Duration) -> Result<()> {
        self.view.ready(within).await
    }

    /// Returns the current state. Wait-free. Do not keep it: call again for a newer state.
    ///
    /// ```
    /// # async fn show(users: service_registry::View) {
    /// let state = users.state();
    /// for instance in state.available() {
    ///     println!("{}", instance.address());
    /// }
    /// # }
    /// ```
    #[inline]
    pub fn state(&self) -> StateRef {
        self.view.state()
    }

    /// Returns a reader for a hot loop. It caches the last state and only checks whether that is still current.
    pub fn reader(&self) -> Reader {
        self.view.reader()
    }

    /// Returns how fresh the state is.
    pub fn status(&self) -> ViewStatus {
        self.view.status()
    }

    /// Returns for how long the store has not confirmed the state: zero while the view is live.
    pub fn staleness(&self) -> Duration {
        self.view.staleness()
    }

    /// Returns the store's last answer, without retained instances. `None` before the first answer.
    pub fn store_snapshot(&self) -> Option<Snapshot> {
        self.view.store_snapshot()
    }

    /// Waits for a newer state: other instances, or another [status](ViewStatus). Newer means newer than at the last
    /// return of this method or of [`ready`](Self::ready), or else than when the handle was created. Several changes are
    /// reported as one.
    ///
    /// # Errors
    ///
    /// `Closed` after the last state: the runtime of the view was shut down.
    pub async fn changed(&mut self) -> Result<()> {
        self.view.changed().await
    }

    /// Waits until `condition` holds for the state, and returns that state.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio::time::timeout;
    ///
    /// # async fn start(users: service_registry::View) -> Result<(), Box<dyn std::error::Error>> {
    /// let some = users.wait_for(|state| state.available().next().is_some());
    /// timeout(Duration::from_secs(30), some).await??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Closed` after the last state: the runtime of the view was shut down.
    pub async fn wait_for(
        &self,
        mut condition: impl FnMut(&ServiceState) -> bool,
    ) -> Result<StateRef> {
        let mut view = self.view.clone(); // created before the first check, so that no change is missed
        loop {
            let state = view.state();
            if condition(&state) {
                return Ok(state);
            }
            drop(state);
            view.changed().await?;
        }
    }

    /// Returns a stream of the current state, and then of every [`Update`](crate::Update).
    pub fn updates(&self) -> Updates {
        self.view.updates()
    }

    /// Picks the instance for the next call: one of those that are available, by weight. It never picks a draining
    /// instance, and picks an ejected one only if all are ejected. Takes no lock and does not allocate; the first pick
    /// after a change takes time linear in the instances.
    ///
    /// Two instances are drawn by weight, and the one with the lower latency and fewer calls in flight wins. Report the
    /// outcome with [`Pick::observe`]: without a report the balancer learns nothing, and the call counts as in flight
    /// until the pick is dropped.
    ///
    /// # Errors
    ///
    /// `NoInstance` if no instance is available. The message names the service, the store and the reason.
    pub fn pick(&self) -> Result<Pick> {
        const ANY: &PickOptions = &PickOptions { exclude: Vec::new(), hash: None };
        self.pick_with(ANY)
    }

    /// Picks an instance as [`pick`](Self::pick) does, with `options`: to exclude instances that have just failed, for
    /// example.
    ///
    /// ```
    /// use service_registry::balance::PickOptions;
    ///
    /// # fn retry(users: service_registry::View, failed: service_registry::Pick) -> service_registry::Result<()> {
    /// let another = users.pick_with(&PickOptions::default().with_exclude([failed.id().clone()]))?;
    /// let same_each_time = users.pick_with(&PickOptions::default().with_hash(7))?; // a hash of the customer, for example
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `NoInstance` if no available instance is allowed by the options.
    #[inline]
    pub fn pick_with(&self, options: &PickOptions) -> Result<Pick> {
        self.picker.pick(options).map(|call| Pick::new(call, self.picker.clone()))
    }

    /// Returns the engine's view, which gRPC channels need, and the zone of the caller.
    #[cfg(feature = "grpc")]
    pub(crate) fn parts(&self) -> (&registry_engine::View, Option<&str>) {
        (&self.view, self.picker.zone())
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)
    }
}
