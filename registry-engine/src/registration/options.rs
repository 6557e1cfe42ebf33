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
    /// How long the instance stays listed after this process crashes. The default is the ttl of the registry's
    /// [URL](registry_core::Registry::default_ttl), or 10 s. The lease is renewed every third of the ttl.
    ///
    /// A shorter ttl removes crashed instances sooner, but a ttl below three times the slowest round trip also removes
    /// live ones. A store may grant a longer ttl than requested; etcd grants at least 2 s.
    pub ttl: Option<Duration>,
    /// Whether the start takes over the id from another registration that holds it. The default is `true`, so that a
    /// process that restarts with the same id need not wait until its old lease expires.
    ///
    /// The start displaces only the holder that it reads before its first write. A registration that is displaced later
    /// does not take the id back.
    pub takeover: bool,
    /// The lease id. The default is random. No two registrations may use the same lease id.
    ///
    /// Set it to derive the instance id from the lease id, as go-zero does:
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
    /// Whether the start waits for the store. The default is to wait for up to 10 s.
    pub start: Start,
    /// The backoff between attempts. While the store is `Unavailable`, it is at most a fifteenth of the ttl, within 200
    /// ms and 1 s, so that the instance is registered again soon after the outage.
    pub backoff: Backoff,
    /// The timeout of one request. The default is 5 s. A renewal may take at most a third of the ttl, and a
    /// registration at most four fifteenths of it, within 0.8 s and 4 s. A slower store counts as unavailable.
    pub timeout: Duration,
    /// How long `stop` waits for the store. The default is 5 s. An instance that is not withdrawn by then stays listed
    /// until its ttl has passed.
    pub stop_timeout: Duration,
}

/// How [`Registration::start`](crate::Registration::start) waits for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// Waits until the instance is registered, and fails after this time.
    Within(Duration),
    /// Returns at once, and registers in the background as soon as the store answers.
    InBackground,
}

impl RegistrationOptions {
    /// Sets the [ttl](Self::ttl): how long the instance stays listed after this process crashes.
    #[must_use]
    pub fn with_ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Sets whether the start takes over the id from another registration: see [`takeover`](Self::takeover).
    #[must_use]
    pub fn with_takeover(mut self, takeover: bool) -> Self {
        self.takeover = takeover;
        self
    }

    /// Sets the [lease id](Self::lease).
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

    /// Sets the [timeout](Self::timeout) of one request.
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
