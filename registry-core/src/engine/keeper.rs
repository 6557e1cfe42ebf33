//! The task behind a registration: claims, renews, and claims anew.

use super::metrics::RegistrationMeters;
use super::registration::{RegistrationOptions, RegistrationState};
use crate::{
    Claim, Error, ErrorKind, Instance, InstanceId, Lease, Registry, Result, Revision, ServiceName,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// What a handle asks of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Update { instance: Instance, answer: Answer },
    Stop { answer: Answer },
}

pub(crate) type Answer = oneshot::Sender<Result<()>>;

pub(crate) struct Keeper {
    registry: Arc<dyn Registry>,
    options: RegistrationOptions,
    /// Drawn once. It may take over until the store first answered.
    claim: Claim,
    wanted: watch::Sender<Instance>,
    state: watch::Sender<RegistrationState>,
    /// What the store granted last, unless it said that it is lost.
    lease: Option<Lease>,
    /// When the last request was sent that the store acknowledged the lease by.
    renewed: Instant,
    /// When to send the next request.
    due: Instant,
    /// How many requests in a row failed, and how the last of them did.
    failures: u32,
    failure: Option<Error>,
    /// Whether the store may hold something of this: it acknowledged it, or did not answer.
    exists: bool,
    /// Who waits for what is wanted to be registered.
    waiting: Vec<Answer>,
    commands: mpsc::Receiver<Command>,
    meters: RegistrationMeters,
}

impl Keeper {
    pub(crate) fn new(
        registry: Arc<dyn Registry>,
        instance: Instance,
        claim: Claim,
        options: RegistrationOptions,
        commands: mpsc::Receiver<Command>,
        registered: Answer,
    ) -> Self {
        let now = Instant::now();
        let why = Error::new(ErrorKind::Unavailable, "the store has not answered yet");
        let state = RegistrationState::Retrying { since: now, why };
        Self {
            meters: RegistrationMeters::new(instance.service()),
            registry,
            options,
            claim,
            wanted: watch::Sender::new(instance),
            state: watch::Sender::new(state),
            lease: None,
            renewed: now,
            due: now,
            failures: 0,
            failure: None,
            exists: false,
            waiting: vec![registered],
            commands,
        }
    }

    pub(crate) fn instance(&self) -> watch::Receiver<Instance> {
        self.wanted.subscribe()
    }

    pub(crate) fn state(&self) -> watch::Receiver<RegistrationState> {
        self.state.subscribe()
    }

    /// Runs until it is stopped, or its handle dropped.
    pub(crate) async fn run(mut self) {
        let answer = loop {
            // No command interrupts a request: what it would leave behind, nobody knows.
            if self.due <= Instant::now() && !self.commands.is_closed() {
                self.step().await;
            }
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Update { instance, answer }) => self.want(instance, answer),
                    Some(Command::Stop { answer }) => break Some(answer),
                    None => break None,
                },
                () = sleep_until(self.due) => {}
            }
        };
        let limit = self.options.stop_timeout;
        let outcome = timeout(limit, self.withdraw()).await;
        self.meters.active(false);
        self.state.send_replace(RegistrationState::Stopped);
        match (answer, outcome.unwrap_or_else(|_| Err(not_withdrawn(limit)))) {
            (Some(answer), outcome) => drop(answer.send(outcome)), // who asked may not wait any more
            (None, Ok(())) => {}
            (None, Err(error)) => {
                self.tell("a dropped registration could not be withdrawn", &error);
            }
        }
    }

    fn want(&mut self, instance: Instance, answer: Answer) {
        let wanted = self.wanted.borrow().clone();
        if (instance.service(), instance.id()) != (wanted.service(), wanted.id()) {
            let message = format!(
                "a registration keeps its service and id, service=`{}`, id=`{}`",
                wanted.service(),
                wanted.id()
            );
            drop(answer.send(Err(Error::new(ErrorKind::Invalid, message))));
            return;
        }
        self.wanted.send_replace(instance);
        self.waiting.push(answer);
        self.due = Instant::now();
    }

    /// Sends the request that is due, and says when the next one is.
    async fn step(&mut self) {
        let standing = self.lease.clone().filter(|lease| Instant::now() < self.lapse(lease));
        match standing {
            Some(lease) if *lease.instance() == *self.wanted.borrow() => self.renew(lease).await,
            Some(_) => self.register().await,
            // What may be over is not renewed: another may have the id by now.
            None => {
                self.lapsed();
                self.register().await;
            }
        }
    }

    async fn renew(&mut self, lease: Lease) {
        let sent = Instant::now();
        let lapse = self.lapse(&lease);
        let limit = self.options.timeout.min(lease.ttl() / 3).min(lapse - sent);
        let answer = timeout(limit, self.registry.keep_alive(&lease)).await;
        match answer.unwrap_or_else(|_| Err(late(limit))) {
            Ok(()) => {
                self.meters.renewed();
                self.acknowledged(sent, lease);
            }
            Err(error) if error.kind() == ErrorKind::LeaseLost => {
                self.meters.renewal_failed(error.kind());
                self.tell("a registration is lost, and made anew", &error);
                self.lease = None;
                self.failure = Some(error);
                self.due = Instant::now();
            }
            Err(error) => {
                self.meters.renewal_failed(error.kind());
                self.failed(error);
                self.due = self.due.min(lapse);
            }
        }
    }

    async fn register(&mut self) {
        let sent = Instant::now();
        let instance = self.wanted.borrow().clone();
        let limit = self.options.timeout;
        let answer = timeout(limit, self.registry.register(&instance, &self.claim)).await;
        let error = match answer.unwrap_or_else(|_| Err(late(limit))) {
            Ok(lease) => {
                self.exists = true;
                self.claim = self.claim.with_takeover(false);
                self.acknowledged(sent, lease);
                self.answer(&Ok(()));
                return;
            }
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::Superseded => {
                self.tell("another incarnation holds the id of a registration", &error);
                self.claim = self.claim.with_takeover(false);
                self.lease = None;
                self.turn(RegistrationState::Superseded);
                self.due = Instant::now() + jittered(self.claim.ttl());
                self.answer(&Err(error));
            }
            ErrorKind::Invalid | ErrorKind::Denied => {
                // What the store refuses is not wanted any more, if there is something to go back to.
                if let Some(lease) = &self.lease {
                    self.wanted.send_replace(lease.instance().clone());
                }
                self.answer(&Err(error.clone()));
                self.failed(error);
            }
            _ => {
                self.exists = true; // for all that is known
                self.failed(error);
            }
        }
    }

    /// The store acknowledged `lease`, in answer to what was sent at `sent`.
    fn acknowledged(&mut self, sent: Instant, lease: Lease) {
        let third = lease.ttl() / 3;
        let first = self.lease.is_none();
        self.lease = Some(lease);
        self.renewed = sent;
        self.failures = 0;
        self.failure = None;
        // Those that start together are not to renew together for ever.
        self.due = sent + if first { third.mul_f64(fastrand::f64()) } else { jittered(third) };
        if !self.state.borrow().is_active() {
            self.turn(RegistrationState::Active);
        }
    }

    fn failed(&mut self, error: Error) {
        let (service, id) = self.names();
        tracing::debug!(%service, %id, error = %error.chain(), "a registration could not be kept yet");
        self.failures = self.failures.saturating_add(1);
        self.due = Instant::now() + self.options.backoff.delay(self.failures);
        self.failure = Some(error);
    }

    /// The instance may not be listed any more.
    fn lapsed(&mut self) {
        let why = match (&self.failure, &self.lease) {
            (Some(failure), _) => failure.clone(),
            (None, Some(_)) => {
                Error::new(ErrorKind::Unavailable, "the process stood still for a ttl")
            }
            (None, None) => return, // it never was
        };
        let since = match *self.state.borrow() {
            RegistrationState::Superseded => return, // and still it may
            RegistrationState::Retrying { since, .. } => since,
            _ => Instant::now(),
        };
        if self.state.borrow().is_active() {
            self.meters.repeated();
            self.tell("a registration has lapsed, and is made anew", &why);
        }
        self.turn(RegistrationState::Retrying { since, why });
    }

    fn turn(&mut self, state: RegistrationState) {
        self.meters.active(state.is_active());
        self.state.send_replace(state);
    }

    /// Answers all who wait for what is wanted.
    fn answer(&mut self, outcome: &Result<()>) {
        for answer in self.waiting.drain(..) {
            drop(answer.send(outcome.clone())); // who asked may not wait any more
        }
    }

    /// Withdraws what may be registered, for as long as it is let.
    async fn withdraw(&mut self) -> Result<()> {
        if !self.exists {
            return Ok(());
        }
        let lease = self.lease.clone().unwrap_or_else(|| {
            // Nothing was acknowledged, but something may have been done.
            let instance = self.wanted.borrow().clone();
            Lease::new(self.claim.lease(), self.claim.ttl(), instance, Revision::new(0))
        });
        self.failures = 0;
        loop {
            let limit = self.options.timeout;
            let answer = timeout(limit, self.registry.deregister(&lease)).await;
            match answer.unwrap_or_else(|_| Err(late(limit))) {
                Err(error) if error.is_retryable() => self.failed(error),
                outcome => return outcome,
            }
            sleep_until(self.due).await;
        }
    }

    /// When `lease` is presumed lost.
    fn lapse(&self, lease: &Lease) -> Instant {
        self.renewed + lease.ttl()
    }

    fn names(&self) -> (ServiceName, InstanceId) {
        let wanted = self.wanted.borrow();
        (wanted.service().clone(), wanted.id().clone())
    }

    fn tell(&self, what: &str, error: &Error) {
        let (service, id) = self.names();
        tracing::warn!(%service, %id, error = %error.chain(), "{what}");
    }
}

/// What was not withdrawn within `limit`.
pub(crate) fn not_withdrawn(limit: Duration) -> Error {
    let message = format!(
        "the withdrawal was not acknowledged: the instance is listed until its ttl has passed, timeout=`{limit:?}`"
    );
    Error::new(ErrorKind::Unavailable, message)
}

fn late(limit: Duration) -> Error {
    let message = format!("the store did not answer in time, timeout=`{limit:?}`");
    Error::new(ErrorKind::Unavailable, message)
}

/// A tenth more or less, so that what happens together spreads out.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + fastrand::f64() / 5.0)
}
