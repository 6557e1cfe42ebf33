//! The owners: registrations, with a record of their statuses.

use anyhow::{Context, Result};
use futures_util::StreamExt;
use registry_core::{Instance, InstanceId, Registry, ServiceName};
use registry_engine::{Registration, RegistrationOptions, RegistrationStatus, Start};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The timeout of a registration on a healthy store.
const START_WITHIN: Duration = Duration::from_secs(20);

/// The owner of an instance.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) registration: Registration,
    id: InstanceId,
    statuses: Arc<Mutex<Vec<(Instant, RegistrationStatus)>>>,
    task: AbortHandle,
}

impl Owner {
    /// Registers an instance, and waits until the store has acknowledged it.
    pub(crate) async fn start(
        registry: Arc<dyn Registry>,
        service: &ServiceName,
        id: &str,
    ) -> Result<Self> {
        let start = Start::Within(START_WITHIN);
        Self::start_with(registry, service, id, "10.0.0.1:8080", start).await
    }

    /// Registers an instance with an address. `start` decides whether to wait for the store.
    pub(crate) async fn start_with(
        registry: Arc<dyn Registry>,
        service: &ServiceName,
        id: &str,
        address: &str,
        start: Start,
    ) -> Result<Self> {
        let id: InstanceId = id.parse()?;
        let instance = Instance::from_parts(service.clone(), id.clone(), address.parse()?);
        let options = RegistrationOptions::default().with_start(start);
        let registration = Registration::start(registry, instance, options);
        let registration = registration.await.with_context(|| format!("cannot start {id}"))?;
        let statuses = Arc::new(Mutex::new(vec![(Instant::now(), registration.status())]));
        let (mut stream, record, name) = (registration.statuses(), statuses.clone(), id.clone());
        let task = tokio::spawn(async move {
            while let Some(status) = stream.next().await {
                tracing::debug!(id = %name, %status, "the status of an owner changed");
                let now = (Instant::now(), status);
                record.lock().unwrap_or_else(PoisonError::into_inner).push(now);
            }
        });
        Ok(Self { registration, id, statuses, task: task.abort_handle() })
    }

    pub(crate) fn id(&self) -> &InstanceId {
        &self.id
    }

    pub(crate) fn is_active(&self) -> bool {
        self.registration.status().is_active()
    }

    pub(crate) fn is_superseded(&self) -> bool {
        matches!(self.registration.status(), RegistrationStatus::Superseded)
    }

    /// Returns the intervals in which the owner was active. The last one has no end if it still is.
    pub(crate) fn active_times(&self) -> Vec<(Instant, Option<Instant>)> {
        let mut times: Vec<(Instant, Option<Instant>)> = Vec::new();
        for (at, status) in &*self.statuses.lock().unwrap_or_else(PoisonError::into_inner) {
            let open = times.last_mut().filter(|(_, until)| until.is_none());
            match (status.is_active(), open) {
                (true, None) => times.push((*at, None)),
                (false, Some((_, until))) => *until = Some(*at),
                _ => {}
            }
        }
        times
    }

    /// Returns since when the owner has been active, but not before `since`. `None` if it is not active.
    pub(crate) fn active_since(&self, since: Instant) -> Option<Instant> {
        let times = self.active_times();
        times.last().filter(|(_, until)| until.is_none()).map(|(from, _)| (*from).max(since))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns for how long two owners were both active after `since`.
pub(crate) fn both_active(one: &Owner, other: &Owner, since: Instant) -> Duration {
    let now = Instant::now();
    let mut longest = Duration::ZERO;
    for (from, until) in one.active_times() {
        for (other_from, other_until) in other.active_times() {
            let from = from.max(other_from).max(since);
            let until = until.unwrap_or(now).min(other_until.unwrap_or(now));
            longest = longest.max(until.saturating_duration_since(from));
        }
    }
    longest
}
