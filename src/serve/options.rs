//! The options and errors of `serve`.

use super::{HealthCheck, HealthReporter};
use crate::store::BoxError;
use crate::{Error, Instance, RegistrationOptions};
use futures_util::future::BoxFuture;
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::sync::watch;

/// Options of [`serve`](super::serve).
///
/// ```
/// use service_registry::serve::ServeOptions;
/// use std::time::Duration;
///
/// let options = ServeOptions::default().with_drain(Duration::from_secs(3)).with_signals(false);
/// ```
#[non_exhaustive]
pub struct ServeOptions {
    /// The options of the registration. By default ([`Start::Within`](crate::store::Start::Within)), a store that does
    /// not answer in time is an error, and the server is shut down. With
    /// [`Start::InBackground`](crate::store::Start::InBackground) the server counts as registered at once.
    pub registration: RegistrationOptions,
    /// The reporter of whether the server serves, such as a gRPC health service. None unless set.
    pub health: HealthReporter,
    /// A future to wait for before the instance is registered, such as a cache that fills. The server already runs
    /// meanwhile. An error shuts it down. None unless set.
    pub ready: Option<BoxFuture<'static, Result<(), BoxError>>>,
    /// How long [`ready`](Self::ready) may take. The default is 30 s.
    pub ready_timeout: Duration,
    /// New values of the instance, such as another weight or other metadata. If the store refuses one, the refusal is
    /// logged and the previous value stays registered. None unless set.
    pub updates: Option<watch::Receiver<Instance>>,
    /// A periodic check of the server's own health. None unless set.
    pub check: Option<HealthCheck>,
    /// How long the instance is announced as draining before it is withdrawn. The default is 1 s.
    ///
    /// It must exceed the time that a change takes to reach the callers; otherwise some still call a server that is
    /// gone. Every deployment takes longer by this time.
    pub drain: Duration,
    /// How long the server has for requests in flight once it is told to shut down. The default is 5 s.
    ///
    /// After that, its future is dropped. Connections that run in tasks of their own, as with tonic and axum, are cut
    /// when the runtime ends.
    pub grace: Duration,
    /// A future that shuts the server down, in addition to the signals. None unless set.
    pub shutdown: Option<BoxFuture<'static, ()>>,
    /// Whether SIGTERM and SIGINT shut the server down. The default is `true`.
    ///
    /// The signals then no longer end the process by themselves: it ends when `main` returns.
    pub signals: bool,
}

impl ServeOptions {
    /// Sets the options of the registration.
    #[must_use]
    pub fn with_registration(mut self, registration: RegistrationOptions) -> Self {
        self.registration = registration;
        self
    }

    /// Sets the reporter of whether the server serves.
    #[must_use]
    pub fn with_health(mut self, health: impl Into<HealthReporter>) -> Self {
        self.health = health.into();
        self
    }

    /// Sets a future to wait for before the instance is registered.
    #[must_use]
    pub fn with_ready<F>(mut self, ready: F) -> Self
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.ready = Some(Box::pin(ready));
        self
    }

    /// Sets how long [`ready`](Self::ready) may take.
    #[must_use]
    pub fn with_ready_timeout(mut self, timeout: Duration) -> Self {
        self.ready_timeout = timeout;
        self
    }

    /// Sets the channel of [new values](Self::updates) of the instance.
    #[must_use]
    pub fn with_updates(mut self, updates: watch::Receiver<Instance>) -> Self {
        self.updates = Some(updates);
        self
    }

    /// Sets a periodic check of the server's own health. While it fails, the instance is registered as draining: see
    /// [`HealthCheck`].
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

    /// Sets how long the server has for [requests in flight](Self::grace).
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets a future that shuts the server down, in addition to the signals.
    #[must_use]
    pub fn with_shutdown(mut self, shutdown: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown = Some(Box::pin(shutdown));
        self
    }

    /// Sets whether SIGTERM and SIGINT shut the server down.
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

/// An error of a server or of its registration. `E` is the server's own error type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError<E> {
    /// The signal handlers cannot be installed. The server was not started.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// [`ready`](ServeOptions::ready) failed or took too long. The server was never registered.
    #[error("the server did not become ready")]
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
    /// Requests were still in flight at the end of the [grace period](ServeOptions::grace).
    #[error("requests in flight exceeded the grace period and were cut, grace=`{0:?}`")]
    GraceExceeded(Duration),
    /// A second signal arrived during the shutdown.
    #[error("a second signal ended the server: it may be listed until its ttl has passed")]
    SecondSignal,
}
