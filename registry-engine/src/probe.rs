//! The liveness probe of a store, shared by all views of a discovery.
//!
//! An idle watch and a watch whose server hangs look the same. Stores detect dead connections by their own
//! timeouts, which may be longer than a ttl. By then the server has expired the leases that nobody could
//! renew through it, and reports that on a watch that never broke.

use crate::call::call;
use registry_core::{CallOptions, Error, ErrorKind, Registry, ServiceName};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// A service that has no instances: loading it costs one round trip, however much the store holds.
const PROBE_SERVICE: &str = "~pulse";

/// Why the last probe failed; `None` if the store answered it.
pub(crate) type ProbeFailure = Option<Error>;

/// The probing task. Dropping it ends the task.
#[derive(Debug)]
pub(crate) struct LivenessProbe {
    failures: watch::Receiver<ProbeFailure>,
    task: AbortHandle,
}

impl LivenessProbe {
    /// Starts to probe every third of `ttl`, and to wait as long for the answer: a silence is noticed
    /// before it has lasted one ttl, which is before a lease can have expired in it.
    pub(crate) fn start(registry: Arc<dyn Registry>, ttl: Duration) -> Self {
        let (sender, failures) = watch::channel(None);
        let task = tokio::spawn(probe(registry, ttl / 3, sender)).abort_handle();
        Self { failures, task }
    }

    pub(crate) fn failures(&self) -> watch::Receiver<ProbeFailure> {
        self.failures.clone()
    }

    /// Returns whether the task has ended because its runtime was shut down.
    pub(crate) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for LivenessProbe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn probe(
    registry: Arc<dyn Registry>,
    interval: Duration,
    failures: watch::Sender<ProbeFailure>,
) {
    let Ok(service) = ServiceName::new(PROBE_SERVICE) else { return };
    sleep(interval.mul_f64(fastrand::f64())).await; // spreads processes that start together
    loop {
        let sent = Instant::now();
        let load = async { registry.load(&service, &CallOptions::DEFAULT).await };
        let answer = call("load", interval, load).await;
        // A refusal is an answer.
        let failure = answer.err().filter(|error| error.kind() == ErrorKind::Unavailable);
        // A repeated failure is sent again, for views whose watch opened in between.
        failures.send_if_modified(|last| {
            let notify = failure.is_some() || last.is_some();
            *last = failure;
            notify
        });
        sleep_until(sent + interval).await;
    }
}
