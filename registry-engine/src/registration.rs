//! Registrations: instances that stay registered.

mod commands;
mod errors;
mod handle;
mod limiter;
mod machine;
mod options;
mod own_record;
mod renewal;
mod retrying;
mod status;
mod task;

pub use self::handle::TaskHandle;
pub use self::options::{RegistrationOptions, Start};
pub use self::status::RegistrationStatus;

use self::errors::task_ended;
use self::task::RegistrationTask;
use futures_util::{Stream, stream};
use registry_core::{Claim, DEFAULT_TTL, Error, ErrorKind, Instance, Registry, Result};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A registration, which keeps an instance registered until it is stopped or dropped.
///
/// It renews the lease, registers again after the lease is lost, and retries until it succeeds. Register an instance
/// only once its server listens, since callers connect at once.
///
/// ```
/// use registry_core::{CallOptions, Instance, Registry, ServiceName};
/// use registry_engine::{Registration, RegistrationOptions};
/// use registry_mem::MemRegistry;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> registry_core::Result<()> {
/// let registry = Arc::new(MemRegistry::new());
/// let node = Instance::from_parts("user.rpc".parse()?, "node-1".parse()?, "10.0.0.1:8080".parse()?);
/// let registration =
///     Registration::start(registry.clone(), node, RegistrationOptions::default()).await?;
///
/// tokio::time::sleep(Duration::from_secs(3600)).await;
/// let service: ServiceName = "user.rpc".parse()?;
/// assert_eq!(registry.load(&service, &CallOptions::DEFAULT).await?.instances().len(), 1);
///
/// registration.drain(Duration::from_secs(5)).await?; // callers move to other instances, then it is withdrawn
/// assert!(registry.load(&service, &CallOptions::DEFAULT).await?.records().is_empty());
/// # Ok(())
/// # }
/// ```
///
/// A dropped registration is withdrawn in the background, if its runtime lives long enough. Prefer
/// [`stop`](Self::stop), which reports whether the withdrawal succeeded. The compiler warns about a registration that
/// is dropped at once:
///
/// ```compile_fail
/// # #![deny(unused_must_use)]
/// # use registry_core::{Instance, Result};
/// # use registry_engine::{Registration, RegistrationOptions};
/// # use registry_mem::MemRegistry;
/// # use std::sync::Arc;
/// # async fn serve(registry: Arc<MemRegistry>, node: Instance) -> Result<()> {
/// # let options = RegistrationOptions::default();
/// Registration::start(registry, node, options).await?; // unused `Registration` that must be used
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a registration withdraws its instance: hold it while the service runs"]
pub struct Registration {
    handle: TaskHandle,
}

impl Registration {
    /// Registers `instance` in `registry` and keeps it registered.
    ///
    /// # Errors
    ///
    /// `Invalid` if the instance fails its [check](Instance::check) or the ttl is out of range. With [`Start::Within`]
    /// also:
    ///
    /// * `Invalid` or `Denied`, at once, if the store refuses the instance or the credentials.
    /// * `Superseded`, at once, if another registration holds the id and takeover is off, or if it took the id during
    ///   the start.
    /// * `Unavailable` if the store does not answer in time.
    /// * `Closed` if the runtime was shut down, or if a [handle](Starting::handle) ended the start.
    ///
    /// If the instance may be registered in spite of the error, it is withdrawn in the background.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn start(
        registry: Arc<dyn Registry>,
        instance: Instance,
        options: RegistrationOptions,
    ) -> Result<Self> {
        Self::begin(registry, instance, &options)?.registered().await
    }

    /// Begins to register `instance` in `registry` as [`start`](Self::start) does, but returns before it is registered.
    /// Use it to get a [handle](Starting::handle) that can end a start in progress.
    ///
    /// # Errors
    ///
    /// `Invalid` if the instance fails its [check](Instance::check), or the ttl is out of range.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn begin(
        registry: Arc<dyn Registry>,
        instance: Instance,
        options: &RegistrationOptions,
    ) -> Result<Starting> {
        instance.check()?;
        let ttl = options.ttl.or_else(|| registry.default_ttl()).unwrap_or(DEFAULT_TTL);
        let mut claim = Claim::new(ttl)?;
        if let Some(lease) = options.lease {
            claim = claim.with_lease(lease);
        }
        let (start, stop_timeout) = (options.start, options.stop_timeout);
        let (reply, registered) = oneshot::channel();
        let task = RegistrationTask::new(registry, instance, claim, options, reply);
        let (commands, status) = (task.commands(), task.status());
        tokio::spawn(task.run());
        let registration = Self { handle: TaskHandle { commands, status, stop_timeout } };
        Ok(Starting { registration, start, registered })
    }

    /// Returns the desired instance: that of the start, or of the last update. The store may not have acknowledged it
    /// yet.
    pub fn instance(&self) -> Instance {
        self.handle.commands.desired()
    }

    /// Returns the current status.
    pub fn status(&self) -> RegistrationStatus {
        self.handle.status.borrow().clone()
    }

    /// Returns a stream of the current status and later ones. A slow reader sees only the latest status. The stream
    /// ends after `Stopped`.
    pub fn statuses(&self) -> impl Stream<Item = RegistrationStatus> + Send + Unpin + use<> {
        let mut status = self.handle.status.clone();
        status.mark_changed();
        Box::pin(stream::unfold(status, |mut status| async move {
            status.changed().await.ok()?;
            let now = status.borrow_and_update().clone();
            Some((now, status))
        }))
    }

    /// Changes the registered data: address, weight, status, zone, labels, ports or metadata. `change` receives the
    /// desired instance, which the store may not have acknowledged yet.
    ///
    /// ```
    /// # use registry_engine::Registration;
    /// # async fn shed(registration: &Registration) -> registry_core::Result<()> {
    /// registration.update(|instance| instance.with_weight(5)).await
    /// # }
    /// ```
    ///
    /// Waits without a time limit until the store acknowledges the update. Dropping the future does not cancel the
    /// update. If several updates are concurrent, the last one wins, and all callers get its outcome.
    ///
    /// # Errors
    ///
    /// `Invalid` if `change` changes the service or the id, or if the store refuses the data; `Denied` if the store
    /// refuses the credentials. The last acknowledged data then stays registered. `Superseded` if another incarnation
    /// holds the id; the update is applied once that incarnation is gone. `Closed` if the registration was stopped.
    pub async fn update(&self, change: impl FnOnce(Instance) -> Instance) -> Result<()> {
        let (reply, updated) = oneshot::channel();
        let change = |desired: Instance| {
            let (service, id) = (desired.service().clone(), desired.id().clone());
            let instance = change(desired);
            if (instance.service(), instance.id()) == (&service, &id) {
                return instance.check().map(|()| instance);
            }
            let message = format!(
                "an update cannot change the service or the id, service=`{service}`, id=`{id}`"
            );
            Err(Error::new(ErrorKind::Invalid, message))
        };
        self.handle.commands.update(change, reply)?;
        updated.await.unwrap_or_else(|_| Err(task_ended()))
    }

    /// Announces that the instance is draining, waits until `grace` has passed since the call, and withdraws the
    /// instance. The wait ends early if another task stops the registration.
    ///
    /// If the future is dropped, the instance stays registered as draining.
    ///
    /// # Errors
    ///
    /// Those of [`stop`](Self::stop). If the draining status cannot be published, the drain continues.
    pub async fn drain(&self, grace: Duration) -> Result<()> {
        self.handle.drain(grace).await
    }

    /// Withdraws the instance. It first waits for a request in flight, which would otherwise arrive after the
    /// withdrawal and register the instance again.
    ///
    /// All calls, even later ones, get the outcome of the same withdrawal. Dropping the future does not cancel it.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the store did not acknowledge the withdrawal within the stop timeout: the instance may stay
    /// listed until its ttl has passed. Otherwise the error with which the store refused the withdrawal.
    pub async fn stop(&self) -> Result<()> {
        self.handle.stop().await
    }

    /// Returns a handle that can end the registration. It does not keep the instance registered.
    pub fn handle(&self) -> TaskHandle {
        self.handle.clone()
    }

    fn start_timed_out(&self, limit: Duration) -> Error {
        let message = format!("the instance could not be registered in time, timeout=`{limit:?}`");
        let error = Error::new(ErrorKind::Unavailable, message);
        match self.status() {
            RegistrationStatus::Retrying { why, .. } => error.with_source(why),
            _ => error,
        }
    }
}

/// A registration that is being started: see [`Registration::begin`]. Dropping it withdraws the instance.
#[derive(Debug)]
#[must_use = "dropping a registration withdraws its instance"]
pub struct Starting {
    registration: Registration,
    start: Start,
    registered: oneshot::Receiver<Result<()>>,
}

impl Starting {
    /// Returns a handle that can end the registration. It does not keep the instance registered.
    pub fn handle(&self) -> TaskHandle {
        self.registration.handle()
    }

    /// Waits until the instance is registered, or returns at once, depending on [`RegistrationOptions::start`].
    ///
    /// # Errors
    ///
    /// Those of [`Registration::start`].
    pub async fn registered(self) -> Result<Registration> {
        let Self { registration, start, registered } = self;
        let Start::Within(limit) = start else { return Ok(registration) };
        match timeout(limit, registered).await {
            Ok(reply) => reply.unwrap_or_else(|_| Err(task_ended())).map(|()| registration),
            Err(_) => Err(registration.start_timed_out(limit)),
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.handle.commands.abandon();
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("instance", &self.instance())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
