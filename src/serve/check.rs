//! Health checks of a server by itself.

use futures_util::future::BoxFuture;
use std::fmt;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The shortest time between two checks.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// A periodic check of a server's own health, such as whether it makes progress or its disk is full.
///
/// Do not check something that all instances share, such as a database: its failure would make all instances
/// unavailable at once.
///
/// After as many consecutive failures as [`with_failures`](Self::with_failures) sets, the instance is registered as
/// draining, so that callers use others, and its [health](super::ServeOptions::health) is `NOT_SERVING`. One success
/// makes it available again. The server itself keeps running.
///
/// ```
/// use service_registry::serve::{HealthCheck, ServeOptions};
/// use std::time::Duration;
///
/// # async fn makes_progress() -> bool { true }
/// let check = HealthCheck::new(|| async { makes_progress().await }).with_interval(Duration::from_secs(1));
/// let options = ServeOptions::default().with_check(check);
/// ```
pub struct HealthCheck {
    check: Box<Check>,
    interval: Duration,
    timeout: Duration,
    failures: u32,
}

type Check = dyn Fn() -> BoxFuture<'static, bool> + Send + Sync;

impl HealthCheck {
    /// Returns a health check that calls `check` every 5 s. A check fails if it returns `false` or takes more than 5 s.
    pub fn new<F>(check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let five_seconds = Duration::from_secs(5);
        Self {
            check: Box::new(move || Box::pin(check())),
            interval: five_seconds,
            timeout: five_seconds,
            failures: 3,
        }
    }

    /// Sets the time from the end of one check to the start of the next. The default is 5 s.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets how long a check may take before it counts as failed. The default is 5 s.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many consecutive failures make the instance draining. The default is 3; 0 counts as 1.
    #[must_use]
    pub fn with_failures(mut self, failures: u32) -> Self {
        self.failures = failures.max(1);
        self
    }

    /// Waits until the health differs from `is_healthy`.
    pub(super) async fn changed(&self, is_healthy: bool) {
        let mut failures = 0;
        loop {
            sleep(self.interval.max(MIN_INTERVAL)).await;
            let succeeded = timeout(self.timeout, (self.check)()).await.unwrap_or(false);
            failures = if succeeded { 0 } else { failures + 1 };
            let has_changed = if is_healthy { failures >= self.failures } else { succeeded };
            if has_changed {
                return;
            }
        }
    }
}

impl fmt::Debug for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthCheck")
            .field("interval", &self.interval)
            .field("timeout", &self.timeout)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}
