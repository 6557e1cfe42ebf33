//! A handle that can end a registration but does not keep it.

use super::commands::CommandQueue;
use super::errors::{stop_timed_out, task_ended};
use super::status::RegistrationStatus;
use futures_util::FutureExt;
use registry_core::Result;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// A handle that can end a [`Registration`](crate::Registration), such as when a process shuts down all its
/// registrations. It does not keep the instance registered.
#[derive(Clone)]
pub struct TaskHandle {
    pub(super) commands: Arc<CommandQueue>,
    pub(super) status: watch::Receiver<RegistrationStatus>,
    pub(super) stop_timeout: Duration,
}

impl TaskHandle {
    /// Drains the registration: see [`Registration::drain`](crate::Registration::drain).
    pub async fn drain(&self, grace: Duration) -> Result<()> {
        let _ = timeout(grace, self.announce_draining()).await; // an elapsed timeout is the normal case
        self.stop().await
    }

    /// Announces that the instance is draining, and returns once the registration is stopped.
    async fn announce_draining(&self) {
        let (reply, announced) = oneshot::channel();
        self.commands.drain(reply);
        if let Err(error) = announced.await.unwrap_or_else(|_| Err(task_ended())) {
            tracing::debug!(error = %error.chain(), "cannot publish the draining status");
        }
        let is_stopped =
            |status: &RegistrationStatus| matches!(status, RegistrationStatus::Stopped);
        let _ = self.status.clone().wait_for(is_stopped).await; // an error means that the task has ended
    }

    /// Stops the registration: see [`Registration::stop`](crate::Registration::stop).
    pub async fn stop(&self) -> Result<()> {
        let (reply, stopped) = oneshot::channel();
        self.commands.stop(reply);
        let stopped = stopped.map(|reply| reply.unwrap_or_else(|_| Err(task_ended())));
        let limit = self.stop_timeout;
        timeout(limit, stopped).await.unwrap_or_else(|_| Err(stop_timed_out(limit)))
    }

    /// Returns whether the registration was stopped.
    pub fn is_stopped(&self) -> bool {
        matches!(*self.status.borrow(), RegistrationStatus::Stopped)
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle")
            .field("instance", &self.commands.desired())
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}
