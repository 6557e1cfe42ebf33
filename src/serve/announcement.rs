//! The registration of a server, from ready to withdrawn.

use super::{HealthCheck, HealthReporter, ServeError};
use crate::store::BoxError;
use crate::{
    Client, Error, ErrorKind, Instance, InstanceStatus, Registration, RegistrationOptions,
};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, OptionFuture};
use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

pub(super) struct Announcement {
    pub(super) client: Client,
    pub(super) instance: Instance,
    pub(super) options: RegistrationOptions,
    pub(super) health: HealthReporter,
    pub(super) updates: Option<watch::Receiver<Instance>>,
    pub(super) check: Option<HealthCheck>,
    pub(super) drain: Duration,
}

/// How an instance exits. The value only increases: an exit can be sped up but not cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Exit {
    /// It stays registered.
    Stay,
    /// It is announced as draining before it is withdrawn.
    Drain,
    /// It is withdrawn at once: the server is gone.
    Now,
}

impl Announcement {
    /// Registers the instance once `ready` completes, and withdraws it when `exit` asks for it.
    pub(super) async fn run<E>(
        self,
        ready: impl Future<Output = Result<(), BoxError>>,
        mut exit: watch::Receiver<Exit>,
    ) -> Result<(), ServeError<E>> {
        tokio::select! {
            biased;
            _ = requested(&mut exit, Exit::Drain) => return Ok(()), // not registered yet
            ready = ready => ready.map_err(ServeError::NotReady)?,
        }
        let Self { client, instance, options, health, updates, check, drain } = self;
        let limit = options.stop_timeout;
        let mut start = pin!(client.register_with(instance, options));
        let registration = tokio::select! {
            biased;
            started = &mut start => started.map_err(ServeError::NotRegistered)?,
            // The register request in flight may still reach the store, so its result is awaited and then withdrawn.
            _ = requested(&mut exit, Exit::Drain) => match timeout(limit, start).await {
                Ok(Ok(registration)) => return withdrawn(registration.stop().await),
                Ok(Err(_)) => return Ok(()),
                Err(_) => return withdrawn(Err(timed_out(limit))),
            },
        };
        let wanted = registration.instance();
        let (service, id, address) = (wanted.service(), wanted.id(), wanted.address());
        tracing::info!(%service, %id, %address, "a server is registered");
        health.report(true).await;
        let kept = Wanted {
            client: &client,
            registration: &registration,
            instance: wanted.clone(),
            is_healthy: true,
        };
        let how = tokio::select! {
            biased;
            how = requested(&mut exit, Exit::Drain) => how,
            never = kept.follow(updates, check, &health) => match never {},
        };
        tracing::info!(%service, %id, exit = ?how, "a server shuts down");
        health.report(false).await;
        let outcome = tokio::select! {
            biased;
            _ = requested(&mut exit, Exit::Now) => registration.stop().await,
            outcome = registration.drain(drain) => outcome,
        };
        if outcome.is_ok() {
            tracing::info!(%service, %id, "a server is withdrawn");
        }
        withdrawn(outcome)
    }
}

/// Waits until the exit is at least `to`. A closed channel counts as `Now`: the server is gone.
async fn requested(exit: &mut watch::Receiver<Exit>, to: Exit) -> Exit {
    exit.wait_for(|now| *now >= to).await.map_or(Exit::Now, |now| *now)
}

/// The instance as its owner wants it. It is registered as draining while the server is not healthy.
struct Wanted<'a> {
    client: &'a Client,
    registration: &'a Registration,
    instance: Instance,
    is_healthy: bool,
}

impl<'a> Wanted<'a> {
    /// Publishes every update of the owner and every change of health. Never returns.
    async fn follow(
        mut self,
        updates: Option<watch::Receiver<Instance>>,
        check: Option<HealthCheck>,
        health: &HealthReporter,
    ) -> Infallible {
        let mut updates = updates.unwrap_or_else(|| watch::channel(self.instance.clone()).1);
        // A pending update lasts as long as a store outage; a newer one replaces it.
        let mut publishing: BoxFuture<'_, Result<(), Error>> = pending().boxed();
        let mut health_changed =
            pin!(OptionFuture::from(check.as_ref().map(|it| it.changed(true))));
        loop {
            tokio::select! {
                outcome = &mut publishing => {
                    publishing = pending().boxed();
                    if let Err(error) = outcome {
                        refused(&error);
                    }
                    continue;
                }
                instance = next(&mut updates) => match self.client.publishable(instance) {
                    Ok(instance) => self.instance = instance,
                    Err(error) => {
                        refused(&error); // keeps the last valid instance registered
                        continue;
                    }
                },
                Some(()) = &mut health_changed => {
                    self.is_healthy = !self.is_healthy;
                    let (service, id, healthy) =
                        (self.instance.service(), self.instance.id(), self.is_healthy);
                    tracing::warn!(%service, %id, healthy, "the health of a server has changed");
                    health_changed.set(check.as_ref().map(|it| it.changed(healthy)).into());
                    health.report(healthy).await;
                }
            }
            publishing = self.publish().boxed();
        }
    }

    fn publish(&self) -> impl Future<Output = Result<(), Error>> + Send + use<'a> {
        let mut instance = self.instance.clone();
        if !self.is_healthy {
            instance = instance.with_status(InstanceStatus::Draining);
        }
        self.registration.update(|_| instance)
    }
}

fn refused(error: &Error) {
    tracing::warn!(error = %error.chain(), "an update of a registered server was refused");
}

/// Waits for the next instance; forever if the sender is gone.
async fn next(updates: &mut watch::Receiver<Instance>) -> Instance {
    match updates.changed().await {
        Ok(()) => updates.borrow_and_update().clone(),
        Err(_) => pending().await,
    }
}

fn withdrawn<E>(outcome: Result<(), Error>) -> Result<(), ServeError<E>> {
    outcome.map_err(ServeError::NotWithdrawn)
}

fn timed_out(limit: Duration) -> Error {
    let message =
        format!("the registration in flight did not complete in time, timeout=`{limit:?}`");
    Error::new(ErrorKind::Unavailable, message)
}
