//! Who is told whether a server serves.

use futures_util::future::BoxFuture;
use std::fmt;
use std::future::ready;

/// Reports whether a server serves: to a gRPC health service, or to an endpoint for readiness.
pub struct HealthReporter(Box<Report>);

type Report = dyn Fn(bool) -> BoxFuture<'static, ()> + Send + Sync;

impl HealthReporter {
    /// Calls `report` with `true` once the instance is registered, and with `false` before that and
    /// when it leaves. The server goes on when the future is ready.
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

/// Reports to nobody.
impl Default for HealthReporter {
    fn default() -> Self {
        Self::new(|_| ready(()))
    }
}

/// A gRPC health service in step with the registration.
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
