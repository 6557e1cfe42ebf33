//! Options of a registration.

use crate::Backoff;
use registry_core::LeaseId;
use std::time::Duration;

/// Options for a [`Registration`](crate::Registration).
///
/// ```
/// use registry_engine::{RegistrationOptions, Start};
/// use std::time::Duration;
///
/// let options = RegistrationOptions::default()
///     .with_ttl(Duration::from_secs(5))
///     .with_start(Start::InBackground);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegistrationOptions {
    /// How long the instance stays listed after this process dies. Unless set, it is the ttl of the
    /// registry's [URL](registry_core::Registry::default_ttl), or else 10 s. The lease is renewed every
    /// third of it.
    ///
    /// A shorter ttl removes dead instances sooner; one below three times the slowest round trip removes
    /// live ones too. A store may grant more than is asked (etcd at least 2 s).
    pub ttl: Option<Duration>,
    /// Whether to displace another registration that holds the id. `true` unless set, so that a process
    /// that restarts under its old id does not wait for its own old lease to expire.
    ///
    /// It applies to the start only, which displaces exactly the holder that it reads before its first write. A
    /// registration that is displaced later displaces nobody.
    pub takeover: bool,
    /// The lease id to register under: random unless set. No two registrations may share one.
    ///
    /// Set it to name the instance after its lease, as go-zero does:
    ///
    /// ```
    /// use registry_core::{Instance, LeaseId};
    /// use registry_engine::RegistrationOptions;
    ///
    /// # fn main() -> registry_core::Result<()> {
    /// let lease = LeaseId::random();
    /// let id = lease.to_string().parse()?;
    /// let node = Instance::from_parts("user.rpc".parse()?, id, "10.0.0.1:8080".parse()?);
    /// let options = RegistrationOptions::default().with_lease(lease);
    /// # Ok(())
    /// # }
    /// ```
    pub lease: Option<LeaseId>,
    /// Whether `start` waits for the store.
    pub start: Start,
    /// The backoff between attempts. While the store is `Unavailable` it is at most a fifteenth of the ttl, within 200 ms
    /// and 1 s, so that the instance is back soon after the store is.
    pub backoff: Backoff,
    /// How long the store may take for one answer: 5 s unless set. A renewal may take a third of the ttl at most, and a
    /// registration four fifteenths of it, within 0.8 s and 4 s. A store that needs longer counts as unavailable.
    pub timeout: Duration,
    /// How long `stop` waits for the store: 5 s unless set. An instance that is not withdrawn by then is
    /// listed until its ttl has passed.
    pub stop_timeout: Duration,
}

/// Whether [`Registration::start`](crate::Registration::start) waits for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// Waits until the instance is registered, and fails after this time.
    Within(Duration),
    /// Returns at once, and registers in the background as soon as the store answers.
    InBackground,
}

impl RegistrationOptions {
    /// Sets how long the instance stays listed after this process dies: see [`ttl`](Self::ttl).
    #[must_use]
    pub fn with_ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Sets whether to displace another registration that holds the id: see [`takeover`](Self::takeover).
    #[must_use]
    pub fn with_takeover(mut self, takeover: bool) -> Self {
        self.takeover = takeover;
        self
    }

    /// Sets the [lease id](Self::lease) to register under.
    #[must_use]
    pub fn with_lease(mut self, lease: LeaseId) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Sets whether the start waits for the store.
    #[must_use]
    pub fn with_start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Starts in the background: see [`Start::InBackground`].
    #[must_use]
    pub fn in_background(self) -> Self {
        self.with_start(Start::InBackground)
    }

    /// Sets the [backoff](Self::backoff) between attempts.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long the store may take for one answer: see [`timeout`](Self::timeout).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long `stop` waits for the store: see [`stop_timeout`](Self::stop_timeout).
    #[must_use]
    pub fn with_stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = timeout;
        self
    }
}

impl Default for RegistrationOptions {
    fn default() -> Self {
        Self {
            ttl: None,
            takeover: true,
            lease: None,
            start: Start::Within(Duration::from_secs(10)),
            backoff: Backoff::default(),
            timeout: Duration::from_secs(5),
            stop_timeout: Duration::from_secs(5),
        }
    }
}
