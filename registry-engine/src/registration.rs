//! An instance that stays registered.

use super::Backoff;
use super::keeper::{Keeper, not_withdrawn};
use super::orders::Orders;
use futures_util::{FutureExt, Stream, stream};
use registry_core::{Claim, Error, ErrorKind, Instance, LeaseId, Registry, Result, Status, Target};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

/// How to keep a registration.
#[derive(Clone, Debug)]
pub struct RegistrationOptions {
    /// How long the instance stays listed when this process dies: 10 s unless set. It is renewed every
    /// third of it.
    ///
    /// Shorter, and the dead go sooner; but below three times the slowest round trip the living go
    /// too. A store may grant more than is asked (etcd at least 2 s).
    pub ttl: Duration,
    /// Whether to displace another registration that holds the id. `true` unless set, so that a
    /// process that was restarted under its old id does not wait for its own ttl.
    ///
    /// It counts for the start alone: displaced itself later, a registration displaces nobody.
    pub takeover: bool,
    /// The lease id to register under: drawn unless set. No two registrations may share one.
    ///
    /// To set it is for those who name the instance after it, as is the custom of go-zero:
    ///
    /// ```
    /// use registry_core::{Instance, LeaseId};
    /// use registry_engine::RegistrationOptions;
    ///
    /// # fn main() -> registry_core::Result<()> {
    /// let lease = LeaseId::random();
    /// let id = lease.to_string().parse()?;
    /// let node = Instance::new("user.rpc".parse()?, id, "10.0.0.1:8080".parse()?);
    /// let options = RegistrationOptions { lease: Some(lease), ..RegistrationOptions::default() };
    /// # Ok(())
    /// # }
    /// ```
    pub lease: Option<LeaseId>,
    /// Whether `start` waits for the store.
    pub start: Start,
    /// How long to wait between tries while the store does not answer.
    pub backoff: Backoff,
    /// How long the store may take for one answer: 5 s unless set, and never more than a third of the
    /// ttl for a renewal. A store that needs longer is as good as away.
    pub timeout: Duration,
    /// How long `stop` waits for the store: 5 s unless set. What is not withdrawn by then is listed
    /// until its ttl has passed.
    pub stop_timeout: Duration,
}

/// Whether [`Registration::start`] waits for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// It waits until the instance is registered, and fails after so long.
    Within(Duration),
    /// It returns at once, and registers in the background as soon as the store is there.
    InBackground,
}

impl RegistrationOptions {
    /// The defaults, with the ttl of a store's URL if that states one.
    pub fn of(target: &Target) -> Self {
        let default = Self::default();
        Self { ttl: target.ttl().unwrap_or(default.ttl), ..default }
    }
}

impl Default for RegistrationOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            takeover: true,
            lease: None,
            start: Start::Within(Duration::from_secs(10)),
            backoff: Backoff::default(),
            timeout: Duration::from_secs(5),
            stop_timeout: Duration::from_secs(5),
        }
    }
}

/// Whether others can find an instance, as far as its owner can tell.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RegistrationState {
    /// It is registered: the last renewal that the store acknowledged was sent less than a ttl ago.
    Active,
    /// It may not be listed any more. It is being registered, for as long as that takes.
    Retrying {
        /// Since when.
        since: Instant,
        /// What went wrong last.
        why: Error,
    },
    /// Another incarnation holds its id. It is registered again once that is gone: asked once per ttl.
    Superseded,
    /// It was stopped.
    Stopped,
}

impl RegistrationState {
    /// Whether the instance is registered.
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Active)
    }
}

/// Keeps an instance registered until it is stopped or dropped, whatever happens to the store.
///
/// It renews the lease, registers anew what was lost, and never gives up. Register only what already
/// listens: callers come at once.
///
/// ```
/// use registry_core::{Instance, Registry};
/// use registry_engine::{Registration, RegistrationOptions};
/// use registry_mem::MemRegistry;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> registry_core::Result<()> {
/// let registry = Arc::new(MemRegistry::new());
/// let node = Instance::new("user.rpc".parse()?, "node-1".parse()?, "10.0.0.1:8080".parse()?);
/// let registration =
///     Registration::start(registry.clone(), node, RegistrationOptions::default()).await?;
///
/// tokio::time::sleep(Duration::from_secs(3600)).await;
/// assert_eq!(registry.load(&"user.rpc".parse()?).await?.instances().len(), 1);
///
/// registration.drain(Duration::from_secs(5)).await?; // callers learn of it, then it is gone
/// assert!(registry.load(&"user.rpc".parse()?).await?.instances().is_empty());
/// # Ok(())
/// # }
/// ```
///
/// A dropped registration is withdrawn in the background, if the runtime lives long enough: prefer
/// [`stop`](Self::stop), which says whether that worked.
pub struct Registration {
    orders: Arc<Orders>,
    state: watch::Receiver<RegistrationState>,
    stop_timeout: Duration,
}

impl Registration {
    /// Registers `instance` in `registry`, and keeps it registered.
    ///
    /// # Errors
    ///
    /// `Invalid` if the ttl is out of range. With [`Start::Within`] also what the store refuses the
    /// instance with (`Invalid`, `Denied`; `Superseded` without leave to take over), at once; and
    /// `Unavailable` when it does not answer in time. Nothing is kept registered then.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn start(
        registry: Arc<dyn Registry>,
        instance: Instance,
        options: RegistrationOptions,
    ) -> Result<Self> {
        let mut claim = Claim::new(options.ttl)?.with_takeover(options.takeover);
        if let Some(lease) = options.lease {
            claim = claim.with_lease(lease);
        }
        let (start, stop_timeout) = (options.start, options.stop_timeout);
        let (registered, first) = oneshot::channel();
        let keeper = Keeper::new(registry, instance, claim, options, registered);
        let (orders, state) = (keeper.orders(), keeper.state());
        tokio::spawn(keeper.run());
        let registration = Self { orders, state, stop_timeout };
        match start {
            Start::InBackground => Ok(registration),
            Start::Within(limit) => {
                match timeout(limit, first).await {
                    Ok(answer) => answer.unwrap_or_else(|_| Err(over()))?,
                    Err(_) => return Err(registration.late(limit)),
                }
                Ok(registration)
            }
        }
    }

    /// What is to be registered: as started with, or as last updated.
    pub fn instance(&self) -> Instance {
        self.orders.wanted()
    }

    /// Its state now.
    pub fn state(&self) -> RegistrationState {
        self.state.borrow().clone()
    }

    /// Its state, now and whenever it changes. Who reads slowly sees the last only. It ends with
    /// `Stopped`.
    pub fn states(&self) -> impl Stream<Item = RegistrationState> + Send + Unpin + use<> {
        let mut state = self.state.clone();
        state.mark_changed();
        Box::pin(stream::unfold(state, |mut state| async move {
            state.changed().await.ok()?;
            let now = state.borrow_and_update().clone();
            Some((now, state))
        }))
    }

    /// Registers it with other data: address, weight, status, metadata.
    ///
    /// It waits for the store to acknowledge that, for as long as that takes. To drop the future takes
    /// nothing back: the registration goes on trying. Of several updates under way the last
    /// counts, and what becomes of it is the answer to all.
    ///
    /// # Errors
    ///
    /// `Invalid` if it is of another service or id, or if the store refuses the data, `Denied` if it
    /// refuses the credentials: what was acknowledged last stays. `Superseded` if another incarnation
    /// holds the id: the data counts once that is gone.
    pub async fn update(&self, instance: Instance) -> Result<()> {
        let wanted = self.instance();
        let (service, id) = (wanted.service(), wanted.id());
        if (instance.service(), instance.id()) != (service, id) {
            let message =
                format!("a registration keeps its service and id, service=`{service}`, id=`{id}`");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let (answer, answered) = oneshot::channel();
        self.orders.update(instance, answer);
        answered.await.unwrap_or_else(|_| Err(over()))
    }

    /// Announces that it takes no new work, waits for `grace` in all, and withdraws it.
    ///
    /// # Errors
    ///
    /// As of [`stop`](Self::stop). A store that cannot be told of the draining does not hold it up.
    pub async fn drain(self, grace: Duration) -> Result<()> {
        let start = Instant::now();
        let draining = self.instance().with_status(Status::Draining);
        if let Ok(Err(error)) = timeout(grace, self.update(draining)).await {
            tracing::debug!(error = %error.chain(), "the draining could not be announced");
        }
        sleep(grace.saturating_sub(start.elapsed())).await;
        self.stop().await
    }

    /// Withdraws it, and says whether that worked. A request that is under way is waited for first: one
    /// that arrives later would leave a ghost.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the store did not acknowledge it within the stop timeout: the instance may be
    /// listed until its ttl has passed. Or what the store refuses the withdrawal with.
    pub async fn stop(self) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.orders.stop(answer);
        let stopped = answered.map(|answer| answer.unwrap_or_else(|_| Err(over())));
        let limit = self.stop_timeout;
        timeout(limit, stopped).await.unwrap_or_else(|_| Err(not_withdrawn(limit)))
    }

    fn late(&self, limit: Duration) -> Error {
        let message = format!("the instance could not be registered in time, within=`{limit:?}`");
        let error = Error::new(ErrorKind::Unavailable, message);
        match self.state() {
            RegistrationState::Retrying { why, .. } => error.with_source(why),
            _ => error,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.orders.abandon();
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("instance", &self.instance())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// The task has ended before its handle: the runtime shut down, or the store panicked.
fn over() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the task of the registration has ended: its runtime was shut down, or the store panicked",
    )
}
