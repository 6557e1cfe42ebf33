//! What others are told of a server, from ready to gone.

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

/// Whether an instance goes, and how. It may be raised: to go faster, never to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Exit {
    /// It stays.
    Stay,
    /// Callers are told first, and have time to turn away.
    Drain,
    /// There is no server any more.
    Now,
}

impl Announcement {
    /// Registers the instance once it is ready, and withdraws it when it is to exit.
    pub(super) async fn run<E>(
        self,
        ready: impl Future<Output = Result<(), BoxError>>,
        mut exit: watch::Receiver<Exit>,
    ) -> Result<(), ServeError<E>> {
        tokio::select! {
            biased;
            _ = requested(&mut exit, Exit::Drain) => return Ok(()), // nobody is listed
            ready = ready => ready.map_err(ServeError::NotReady)?,
        }
        let Self { client, instance, options, health, updates, check, drain } = self;
        let limit = options.stop_timeout;
        let mut start = pin!(client.register_with(instance, options));
        let registration = tokio::select! {
            biased;
            started = &mut start => started.map_err(ServeError::NotRegistered)?,
            // What is under way may arrive yet: it is waited for, and then withdrawn.
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
        tracing::info!(%service, %id, exit = ?how, "a server is withdrawn");
        health.report(false).await;
        let outcome = tokio::select! {
            biased;
            _ = requested(&mut exit, Exit::Now) => registration.stop().await,
            outcome = registration.drain(drain) => outcome,
        };
        withdrawn(outcome)
    }
}

/// Waits until it is to exit in this way or faster. If nobody can say so any more, there is no
/// server either.
async fn requested(exit: &mut watch::Receiver<Exit>, to: Exit) -> Exit {
    exit.wait_for(|now| *now >= to).await.map_or(Exit::Now, |now| *now)
}

/// The instance as its owner wants it, which is registered as draining while it is not healthy.
struct Wanted<'a> {
    client: &'a Client,
    registration: &'a Registration,
    instance: Instance,
    is_healthy: bool,
}

impl<'a> Wanted<'a> {
    /// Registers what the owner and the check of the health make of the instance, for ever.
    async fn follow(
        mut self,
        updates: Option<watch::Receiver<Instance>>,
        check: Option<HealthCheck>,
        health: &HealthReporter,
    ) -> Infallible {
        let mut updates = updates.unwrap_or_else(|| watch::channel(self.instance.clone()).1);
        // An update takes as long as the store is away: what comes meanwhile replaces it.
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
                        refused(&error); // what was registered before stays, as if it had not come
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

/// Waits for the next instance, for ever if there is none.
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
        format!("the registration in flight did not complete in time, within=`{limit:?}`");
    Error::new(ErrorKind::Unavailable, message)
}
