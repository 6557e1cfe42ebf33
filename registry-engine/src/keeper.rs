//! The task behind a registration: claims, renews, and claims anew.

use super::metrics::RegistrationMeters;
use super::orders::{Answer, Order, Orders};
use super::registration::{RegistrationOptions, RegistrationState};
use super::renewals::{Charge, End, Kept, Times, jittered, late, renew};
use registry_core::{
    Claim, Error, ErrorKind, Instance, InstanceId, Lease, Registry, Result, Revision, ServiceName,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

pub(crate) struct Keeper {
    registry: Arc<dyn Registry>,
    options: RegistrationOptions,
    /// Drawn once. It may take over until the store first answered.
    claim: Claim,
    orders: Arc<Orders>,
    state: watch::Sender<RegistrationState>,
    /// What the store granted last, unless it said that it is lost.
    lease: Option<Lease>,
    /// What the store acknowledged last, for when it refuses what came after.
    accepted: Option<Instance>,
    /// Whether the store may hold something else than what is wanted.
    unsettled: bool,
    times: Times,
    /// How many requests in a row failed, and how the last of them did.
    failures: u32,
    failure: Option<Error>,
    /// Whether the store may hold something of this: it acknowledged it, or did not answer.
    exists: bool,
    /// Who waits for what is wanted to be registered.
    waiting: Vec<Answer>,
    meters: RegistrationMeters,
}

impl Keeper {
    pub(crate) fn new(
        registry: Arc<dyn Registry>,
        instance: Instance,
        claim: Claim,
        options: RegistrationOptions,
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
            orders: Arc::new(Orders::new(instance)),
            state: watch::Sender::new(state),
            lease: None,
            accepted: None,
            unsettled: true,
            times: Times { renewed: now, due: now },
            failures: 0,
            failure: None,
            exists: false,
            waiting: vec![registered],
        }
    }

    pub(crate) fn orders(&self) -> Arc<Orders> {
        self.orders.clone()
    }

    pub(crate) fn state(&self) -> watch::Receiver<RegistrationState> {
        self.state.subscribe()
    }

    /// Runs until it is stopped, or its handle dropped.
    pub(crate) async fn run(mut self) {
        let answer = loop {
            // Orders come first, but none interrupts a request: what that would leave behind, nobody
            // knows.
            let order = match self.charge() {
                Some(charge) => self.rest(charge).await,
                None => self.wait().await,
            };
            match order {
                Some(Order::Update(answers)) => self.update(answers),
                Some(Order::Stop(answer)) => break answer,
                None if Instant::now() < self.times.due => {}
                None => self.step().await,
            }
        };
        let limit = self.options.stop_timeout;
        let outcome = timeout(limit, self.withdraw()).await;
        let outcome = outcome.unwrap_or_else(|_| Err(not_withdrawn(limit)));
        self.turn(RegistrationState::Stopped);
        let unheard = answer.map_or(Err(outcome.clone()), |answer| answer.send(outcome));
        if let Err(Err(error)) = unheard {
            self.tell("a registration could not be withdrawn", &error);
        }
    }

    /// What to renew, if a lease stands and that is all there is to do.
    fn charge(&self) -> Option<Charge> {
        let is_calm = !self.unsettled && self.failures == 0;
        self.lease.as_ref().filter(|_| is_calm).map(|lease| self.charge_of(lease))
    }

    fn charge_of(&self, lease: &Lease) -> Charge {
        let (registry, timeout) = (self.registry.clone(), self.options.timeout);
        Charge { registry, lease: lease.clone(), timeout, count: self.meters.renewals() }
    }

    /// Has the lease renewed with all others, until there is an order or something goes wrong.
    async fn rest(&mut self, charge: Charge) -> Option<Order> {
        let kept = Kept::enter(charge, self.times);
        let order = tokio::select! {
            biased;
            order = self.orders.next() => Some(order),
            () = kept.ended() => None,
        };
        let end;
        (self.times, end) = kept.leave().await;
        match end {
            None => {}
            Some(End::Failed(error)) => self.not_renewed(error),
            Some(End::Lapsed) => self.times.due = Instant::now(),
        }
        order
    }

    /// Waits until there is an order or the next request is due. What is due is not slept for: a timer
    /// is a millisecond late.
    async fn wait(&self) -> Option<Order> {
        if self.times.due <= Instant::now() {
            return self.orders.take();
        }
        tokio::select! {
            biased;
            order = self.orders.next() => Some(order),
            () = sleep_until(self.times.due) => None,
        }
    }

    fn update(&mut self, answers: Vec<Answer>) {
        self.unsettled = true;
        self.waiting.retain(|answer| !answer.is_closed());
        self.waiting.extend(answers);
        self.times.due = Instant::now();
    }

    /// Sends the request that is due, and says when the next one is.
    async fn step(&mut self) {
        let now = Instant::now();
        match self.lapse().filter(|lapse| now < *lapse) {
            Some(lapse) if !self.unsettled => self.renew(now, lapse).await,
            Some(lapse) => {
                self.register(now, Some(lapse)).await;
                if self.unsettled {
                    self.sustain().await;
                }
            }
            // What may be over is not renewed: another may have the id by now.
            None => {
                self.lapsed();
                self.register(now, None).await;
            }
        }
    }

    /// Renews what stands until `lapse`, now.
    async fn renew(&mut self, now: Instant, lapse: Instant) {
        let Some(lease) = &self.lease else { return };
        let ttl = lease.ttl();
        match renew(&self.charge_of(lease), lapse - now).await {
            Ok(()) => self.acknowledged(now, jittered(ttl / 3)),
            Err(error) => self.not_renewed(error),
        }
    }

    fn not_renewed(&mut self, error: Error) {
        self.meters.renewal_failed(error.kind());
        if error.kind() == ErrorKind::LeaseLost {
            self.lease = None;
            self.failure = Some(error);
            self.times.due = Instant::now();
            return;
        }
        self.failed(error);
        self.hasten(self.lapse());
    }

    /// Renews what stands while the store takes nothing new: an etcd that is out of space still
    /// renews. That the lease is lost may be due to what was sent meanwhile, so it is not believed.
    async fn sustain(&mut self) {
        let now = Instant::now();
        let (Some(lease), Some(lapse)) = (&self.lease, self.lapse()) else { return };
        let is_due = self.times.renewed + lease.ttl() / 3 <= now && now < lapse;
        if !is_due {
            return;
        }
        match renew(&self.charge_of(lease), lapse - now).await {
            Ok(()) => self.times.renewed = now,
            Err(error) => self.meters.renewal_failed(error.kind()),
        }
    }

    /// Registers what is wanted. What stands until `lapse` is to be seen lapsing then, not later.
    async fn register(&mut self, now: Instant, lapse: Option<Instant>) {
        let instance = self.orders.wanted();
        let limit = self.options.timeout.min(lapse.map_or(Duration::MAX, |lapse| lapse - now));
        let answer = timeout(limit, self.registry.register(&instance, &self.claim)).await;
        match answer.unwrap_or_else(|_| Err(late(limit))) {
            Ok(lease) => {
                self.exists = true;
                self.unsettled = false;
                self.accepted = Some(instance);
                self.claim = self.claim.with_takeover(false);
                // Those that start together are not to renew together for ever.
                let third = lease.ttl() / 3;
                let is_first = self.lease.replace(lease).is_none();
                let wait = if is_first { third.mul_f64(fastrand::f64()) } else { jittered(third) };
                self.acknowledged(now, wait);
                self.answer(&Ok(()));
            }
            Err(error) if error.kind() == ErrorKind::Superseded => {
                self.tell("another incarnation holds the id of a registration", &error);
                self.claim = self.claim.with_takeover(false);
                self.lease = None;
                self.turn(RegistrationState::Superseded);
                self.times.due = Instant::now() + jittered(self.claim.ttl());
                self.answer(&Err(error));
            }
            Err(error) => {
                let refused = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Denied);
                if refused {
                    // What the store refuses is not wanted any more, if there is something to go
                    // back to.
                    if let Some(accepted) = &self.accepted {
                        self.orders.revert(&instance, accepted);
                    }
                    self.answer(&Err(error.clone()));
                } else {
                    self.exists = true; // for all that is known
                }
                self.failed(error);
                self.hasten(lapse);
            }
        }
    }

    /// The store acknowledged the lease, in answer to what was sent at `sent`. The next renewal is due
    /// after the wait.
    fn acknowledged(&mut self, sent: Instant, wait: Duration) {
        self.failures = 0;
        self.failure = None;
        self.times = Times::after(sent, wait, self.claim.ttl());
        if !self.meters.is_active() {
            self.turn(RegistrationState::Active);
        }
    }

    fn failed(&mut self, error: Error) {
        let (service, id) = self.names();
        tracing::debug!(%service, %id, error = %error.chain(), "a registration could not be kept yet");
        self.failures = self.failures.saturating_add(1);
        self.times.due = Instant::now() + self.options.backoff.delay(self.failures);
        self.failure = Some(error);
    }

    /// Tries again before what stands lapses, however long the backoff has grown: a store that is back
    /// in time must find the lease alive. Half of the time that is left, again and again, is six more
    /// tries at most.
    fn hasten(&mut self, lapse: Option<Instant>) {
        let (Some(lapse), now) = (lapse, Instant::now()) else { return };
        let left = lapse - now;
        let last = left < self.claim.ttl() / 50;
        self.times.due = self.times.due.min(if last { lapse } else { now + left / 2 });
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
            let instance = self.orders.wanted();
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
            sleep_until(self.times.due).await;
        }
    }

    /// When the lease is presumed lost.
    fn lapse(&self) -> Option<Instant> {
        Some(self.times.renewed + self.lease.as_ref()?.ttl())
    }

    fn names(&self) -> (ServiceName, InstanceId) {
        let wanted = self.orders.wanted();
        (wanted.service().clone(), wanted.id().clone())
    }

    fn tell(&self, what: &str, error: &Error) {
        let (service, id) = self.names();
        tracing::warn!(%service, %id, error = %error.chain(), "{what}");
    }
}

impl Drop for Keeper {
    /// Whoever ended the task, nothing is kept any more.
    fn drop(&mut self) {
        self.orders.close();
        if !matches!(*self.state.borrow(), RegistrationState::Stopped) {
            self.turn(RegistrationState::Stopped);
        }
    }
}

/// What was not withdrawn within `limit`.
pub(crate) fn not_withdrawn(limit: Duration) -> Error {
    let message = format!(
        "the withdrawal was not acknowledged: the instance is listed until its ttl has passed, timeout=`{limit:?}`"
    );
    Error::new(ErrorKind::Unavailable, message)
}
