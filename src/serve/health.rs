//! Health reports to a gRPC health service or a readiness endpoint.

use futures_util::future::BoxFuture;
use std::fmt;
use std::future::ready;

/// Reports whether a server serves, to a gRPC health service or a readiness endpoint.
pub struct HealthReporter(Box<Report>);

type Report = dyn Fn(bool) -> BoxFuture<'static, ()> + Send + Sync;

impl HealthReporter {
    /// Returns a reporter that calls `report` with `false` at the start, with `true` once the instance is registered,
    /// and with `false` again when the instance drains. It also reports each change that a
    /// [`HealthCheck`](super::HealthCheck) finds. `serve` waits for the future that `report` returns before it
    /// continues.
    pub fn new<F>(report: impl Fn(bool) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Box::new(move |serving| Box::pin(report(serving))))
    }

    pub(super) async fn report(&self, serving: bool) {
        (self.0)(serving).await;
    }
}

/// Reports nothing.
impl Default for HealthReporter {
    fn default() -> Self {
        Self::new(|_| ready(()))
    }
}

/// Sets the state of a gRPC health service.
#[cfg(feature = "grpc")]
impl From<crate::grpc::Health> for HealthReporter {
    fn from(health: crate::grpc::Health) -> Self {
        Self::new(move |serving| {
            let health = health.clone();
            async move { health.set_serving(serving).await }
        })
    }
}

impl fmt::Debug for HealthReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthReporter").finish_non_exhaustive()
    }
}
