//! How a server is announced, and what can go wrong.

use super::{HealthCheck, HealthReporter};
use crate::store::BoxError;
use crate::{Error, Instance, RegistrationOptions};
use futures_util::future::BoxFuture;
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::sync::watch;

/// How a server is announced, and how it ends.
///
/// ```
/// use service_registry::serve::ServeOptions;
/// use std::time::Duration;
///
/// let options = ServeOptions::default().with_drain(Duration::from_secs(3)).with_signals(false);
/// ```
#[non_exhaustive]
pub struct ServeOptions {
    /// How its instance is registered. With [`Start::Within`](crate::store::Start::Within), the
    /// default, a store that does not answer in time is an error, and the server is shut down. With
    /// [`Start::InBackground`](crate::store::Start::InBackground) it counts as registered at once.
    pub registration: RegistrationOptions,
    /// Where the server reports whether it serves, such as a gRPC health service: nowhere unless set.
    pub health: HealthReporter,
    /// What else to wait for before the instance is registered, such as a warm cache: nothing
    /// unless set. The server runs meanwhile. An error of it ends all.
    pub ready: Option<BoxFuture<'static, Result<(), BoxError>>>,
    /// How long that may take: 30 s unless set.
    pub ready_timeout: Duration,
    /// The instance whenever it changes: its weight, its metadata. None unless set. What the store
    /// refuses is logged, and what was registered before stays.
    pub updates: Option<watch::Receiver<Instance>>,
    /// A check of the service's own health. None unless set.
    pub check: Option<HealthCheck>,
    /// How long the instance is announced as draining before it is withdrawn: 1 s unless set.
    ///
    /// Shorter than callers need to hear of it, and some still call when the server is gone;
    /// longer, and every deployment takes that long.
    pub drain: Duration,
    /// How long the server has for requests under way, once it is told to shut down: 5 s unless
    /// set.
    ///
    /// After that its future is dropped. Connections that it gave to tasks of their own, as tonic
    /// and axum do, are cut when the runtime ends.
    pub grace: Duration,
    /// What ends it beside the signals: nothing unless set.
    pub shutdown: Option<BoxFuture<'static, ()>>,
    /// Whether SIGTERM and SIGINT end it. `true` unless set.
    ///
    /// Once heard, they do not end the process by themselves any more: it ends when `main` does.
    pub signals: bool,
}

impl ServeOptions {
    /// Sets how the instance is registered.
    #[must_use]
    pub fn with_registration(mut self, registration: RegistrationOptions) -> Self {
        self.registration = registration;
        self
    }

    /// Sets where the server reports whether it serves.
    #[must_use]
    pub fn with_health(mut self, health: impl Into<HealthReporter>) -> Self {
        self.health = health.into();
        self
    }

    /// Sets what else to wait for before the instance is registered.
    #[must_use]
    pub fn with_ready<F>(mut self, ready: F) -> Self
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.ready = Some(Box::pin(ready));
        self
    }

    /// Sets how long it may take until the server is ready.
    #[must_use]
    pub fn with_ready_timeout(mut self, timeout: Duration) -> Self {
        self.ready_timeout = timeout;
        self
    }

    /// Sets where the instance comes from whenever it changes.
    #[must_use]
    pub fn with_updates(mut self, updates: watch::Receiver<Instance>) -> Self {
        self.updates = Some(updates);
        self
    }

    /// Sets a check of the service's own health, which goes on for as long as it serves: while it fails, the instance is
    /// registered as draining. See [`HealthCheck`].
    #[must_use]
    pub fn with_check(mut self, check: HealthCheck) -> Self {
        self.check = Some(check);
        self
    }

    /// Sets how long the instance is announced as [draining](Self::drain).
    #[must_use]
    pub fn with_drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Sets how long the server has for [requests under way](Self::grace).
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets what ends the server beside the signals.
    #[must_use]
    pub fn with_shutdown(mut self, shutdown: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown = Some(Box::pin(shutdown));
        self
    }

    /// Sets whether SIGTERM and SIGINT end the server.
    #[must_use]
    pub fn with_signals(mut self, signals: bool) -> Self {
        self.signals = signals;
        self
    }
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            registration: RegistrationOptions::default(),
            health: HealthReporter::default(),
            ready: None,
            ready_timeout: Duration::from_secs(30),
            updates: None,
            check: None,
            drain: Duration::from_secs(1),
            grace: Duration::from_secs(5),
            shutdown: None,
            signals: true,
        }
    }
}

impl fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeOptions")
            .field("registration", &self.registration)
            .field("health", &self.health)
            .field("ready_timeout", &self.ready_timeout)
            .field("drain", &self.drain)
            .field("grace", &self.grace)
            .field("signals", &self.signals)
            .finish_non_exhaustive()
    }
}

/// What went wrong with a server, or with its registration. `E` is the server's own error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError<E> {
    /// The signals cannot be heard. Nothing was done.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// It did not become ready, or not in time. It was never registered.
    #[error("the server is not ready")]
    NotReady(#[source] BoxError),
    /// The store refused the instance, or did not answer in time.
    #[error("the server cannot be registered")]
    NotRegistered(#[source] Error),
    /// The server failed.
    #[error("the server failed")]
    Server(#[source] E),
    /// The withdrawal failed: the instance may be listed until its ttl has passed.
    #[error("the server may be listed until its ttl has passed")]
    NotWithdrawn(#[source] Error),
    /// Requests were still in flight when the grace was over.
    #[error("requests in flight exceeded the grace and were cut, grace=`{0:?}`")]
    GraceExceeded(Duration),
    /// A second signal came before it had ended.
    #[error("a second signal ended the server: it may be listed until its ttl has passed")]
    SecondSignal,
}
