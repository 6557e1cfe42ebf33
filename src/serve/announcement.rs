//! What others are told of a server, from ready to gone.

use super::{HealthReporter, ServeError};
use crate::{
    BoxError, Error, ErrorKind, Instance, InstanceStatus, Registration, RegistrationOptions,
    Registry,
};
use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

pub(super) struct Announcement {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) instance: Instance,
    pub(super) options: RegistrationOptions,
    pub(super) health: HealthReporter,
    pub(super) updates: Option<watch::Receiver<Instance>>,
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
        let Self { registry, instance, options, health, updates, drain } = self;
        let limit = options.stop_timeout;
        let mut start = pin!(Registration::start(registry, instance, options));
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
        let how = tokio::select! {
            biased;
            how = requested(&mut exit, Exit::Drain) => how,
            never = follow(&registration, updates) => match never {},
        };
        tracing::info!(%service, %id, exit = ?how, "a server is withdrawn");
        health.report(false).await;
        tokio::select! {
            biased;
            _ = requested(&mut exit, Exit::Now) => {}
            () = draining(&registration, drain) => {}
        }
        withdrawn(registration.stop().await)
    }
}

/// Waits until it is to exit in this way or faster. If nobody can say so any more, there is no
/// server either.
async fn requested(exit: &mut watch::Receiver<Exit>, to: Exit) -> Exit {
    exit.wait_for(|now| *now >= to).await.map_or(Exit::Now, |now| *now)
}

/// What [`Registration::drain`] does before it stops; but this may be dropped, and the
/// registration is there to be stopped.
async fn draining(registration: &Registration, drain: Duration) {
    let announced = async {
        let instance = registration.instance().with_status(InstanceStatus::Draining);
        if let Err(error) = registration.update(instance).await {
            tracing::debug!(error = %error.chain(), "the draining could not be announced");
        }
        pending::<()>().await;
    };
    let _ = timeout(drain, announced).await; // it is over when the time is
}

/// Registers what the owner of the instance makes of it, for ever.
async fn follow(
    registration: &Registration,
    updates: Option<watch::Receiver<Instance>>,
) -> Infallible {
    let Some(mut updates) = updates else { return pending().await };
    while updates.changed().await.is_ok() {
        let instance = updates.borrow_and_update().clone();
        if let Err(error) = registration.update(instance).await {
            tracing::warn!(error = %error.chain(), "an update of a registered server was refused");
        }
    }
    pending().await
}

fn withdrawn<E>(outcome: Result<(), Error>) -> Result<(), ServeError<E>> {
    outcome.map_err(ServeError::NotWithdrawn)
}

fn timed_out(limit: Duration) -> Error {
    let message =
        format!("the registration in flight did not complete in time, within=`{limit:?}`");
    Error::new(ErrorKind::Unavailable, message)
}
