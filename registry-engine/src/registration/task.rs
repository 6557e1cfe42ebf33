//! The task behind a registration: registers, renews, and registers again.

use super::commands::{Command, CommandQueue, Reply};
use super::options::RegistrationOptions;
use super::renewal::{
    RenewalHandle, RenewalJob, RenewalStop, RenewalTimes, jittered, renew, timed_out,
};
use super::status::RegistrationStatus;
use crate::metrics::RegistrationMetrics;
use registry_core::{
    Claim, Error, ErrorKind, Instance, InstanceId, Lease, Registry, Result, Revision, ServiceName,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

pub(super) struct RegistrationTask {
    registry: Arc<dyn Registry>,
    options: RegistrationOptions,
    /// Drawn once. It allows a takeover until the store first answers.
    claim: Claim,
    commands: Arc<CommandQueue>,
    status: watch::Sender<RegistrationStatus>,
    /// The last granted lease, unless the store reported it lost.
    lease: Option<Lease>,
    /// The last acknowledged instance, to return to when the store refuses an update.
    acknowledged: Option<Instance>,
    /// Whether the store may hold another instance than the desired one.
    update_pending: bool,
    times: RenewalTimes,
    /// How many requests in a row failed.
    failures: u32,
    last_error: Option<Error>,
    /// Whether the store may hold the instance: it acknowledged a request, or did not answer one.
    may_exist: bool,
    /// The replies of updates that are not acknowledged yet.
    replies: Vec<Reply>,
    metrics: RegistrationMetrics,
}

impl RegistrationTask {
    pub(super) fn new(
        registry: Arc<dyn Registry>,
        instance: Instance,
        claim: Claim,
        options: RegistrationOptions,
        registered: Reply,
    ) -> Self {
        let now = Instant::now();
        let why = Error::new(ErrorKind::Unavailable, "the store has not answered yet");
        let status = RegistrationStatus::Retrying { since: now, why };
        Self {
            metrics: RegistrationMetrics::new(instance.service()),
            registry,
            options,
            claim,
            commands: Arc::new(CommandQueue::new(instance)),
            status: watch::Sender::new(status),
            lease: None,
            acknowledged: None,
            update_pending: true,
            times: RenewalTimes { renewed: now, due: now },
            failures: 0,
            last_error: None,
            may_exist: false,
            replies: vec![registered],
        }
    }

    pub(super) fn commands(&self) -> Arc<CommandQueue> {
        self.commands.clone()
    }

    pub(super) fn status(&self) -> watch::Receiver<RegistrationStatus> {
        self.status.subscribe()
    }

    /// Runs until the registration is stopped or its handle is dropped.
    pub(super) async fn run(mut self) {
        let reply = loop {
            // Commands come first, but none interrupts a request: its outcome would be unknown.
            let command = match self.renewal_job() {
                Some(job) => self.renew_on_schedule(job).await,
                None => self.wait().await,
            };
            match command {
                Some(Command::Update(replies)) => self.update(replies),
                Some(Command::Stop(reply)) => break reply,
                None if Instant::now() < self.times.due => {}
                None => self.send_request().await,
            }
        };
        let limit = self.options.stop_timeout;
        let outcome = timeout(limit, self.withdraw()).await;
        let outcome = outcome.unwrap_or_else(|_| Err(stop_timed_out(limit)));
        self.set_status(RegistrationStatus::Stopped);
        let unsent = reply.map_or(Err(outcome.clone()), |reply| reply.send(outcome));
        if let Err(Err(error)) = unsent {
            self.warn("a registration could not be withdrawn", &error);
        }
    }

    /// Returns the renewal to schedule, if a lease is held and no other request is due.
    fn renewal_job(&self) -> Option<RenewalJob> {
        let is_healthy = !self.update_pending && self.failures == 0;
        self.lease.as_ref().filter(|_| is_healthy).map(|lease| self.job_of(lease))
    }

    fn job_of(&self, lease: &Lease) -> RenewalJob {
        let (registry, timeout) = (self.registry.clone(), self.options.timeout);
        RenewalJob { registry, lease: lease.clone(), timeout, renewed: self.metrics.renewals() }
    }

    /// Lets the scheduler renew the lease until there is a command or a renewal fails.
    async fn renew_on_schedule(&mut self, job: RenewalJob) -> Option<Command> {
        let renewals = RenewalHandle::schedule(job, self.times);
        let command = tokio::select! {
            biased;
            command = self.commands.next() => Some(command),
            () = renewals.stopped() => None,
        };
        let stop;
        (self.times, stop) = renewals.cancel().await;
        match stop {
            None => {}
            Some(RenewalStop::Failed(error)) => self.renewal_failed(error),
            Some(RenewalStop::Expired) => self.times.due = Instant::now(),
        }
        command
    }

    /// Waits until there is a command or the next request is due. It does not sleep for a request that is
    /// due already: a timer fires up to a millisecond late.
    async fn wait(&self) -> Option<Command> {
        if self.times.due <= Instant::now() {
            return self.commands.take();
        }
        tokio::select! {
            biased;
            command = self.commands.next() => Some(command),
            () = sleep_until(self.times.due) => None,
        }
    }

    fn update(&mut self, replies: Vec<Reply>) {
        self.update_pending = true;
        self.replies.retain(|reply| !reply.is_closed());
        self.replies.extend(replies);
        self.times.due = Instant::now();
    }

    /// Sends the request that is due, and sets when the next one is.
    async fn send_request(&mut self) {
        let now = Instant::now();
        match self.expiry().filter(|expiry| now < *expiry) {
            Some(expiry) if !self.update_pending => self.renew(now, expiry).await,
            Some(expiry) => {
                self.register(now, Some(expiry)).await;
                if self.update_pending {
                    self.renew_during_pending_update().await;
                }
            }
            // A lease that may have expired is not renewed: another registration may hold the id by now.
            None => {
                self.presume_expired();
                self.register(now, None).await;
            }
        }
    }

    /// Renews the lease, which is valid until `expiry`.
    async fn renew(&mut self, now: Instant, expiry: Instant) {
        let Some(lease) = &self.lease else { return };
        let ttl = lease.ttl();
        match renew(&self.job_of(lease), expiry - now).await {
            Ok(()) => self.lease_acknowledged(now, jittered(ttl / 3)),
            Err(error) => self.renewal_failed(error),
        }
    }

    fn renewal_failed(&mut self, error: Error) {
        self.metrics.renewal_failed(error.kind());
        if error.kind() == ErrorKind::LeaseLost {
            self.lease = None;
            self.last_error = Some(error);
            self.times.due = Instant::now();
            return;
        }
        self.request_failed(error);
        self.retry_before_expiry(self.expiry());
    }

    /// Renews the lease while the store accepts no update: an etcd that is out of space still renews. A
    /// `LeaseLost` is ignored, since the pending update may have caused it.
    async fn renew_during_pending_update(&mut self) {
        let now = Instant::now();
        let (Some(lease), Some(expiry)) = (&self.lease, self.expiry()) else { return };
        let is_due = self.times.renewed + lease.ttl() / 3 <= now && now < expiry;
        if !is_due {
            return;
        }
        match renew(&self.job_of(lease), expiry - now).await {
            Ok(()) => self.times.renewed = now,
            Err(error) => self.metrics.renewal_failed(error.kind()),
        }
    }

    /// Registers the desired instance. The request ends at `expiry` at the latest, so that the status
    /// changes on time.
    async fn register(&mut self, now: Instant, expiry: Option<Instant>) {
        let instance = self.commands.desired();
        let limit = self.options.timeout.min(expiry.map_or(Duration::MAX, |expiry| expiry - now));
        let answer = timeout(limit, self.registry.register(&instance, &self.claim)).await;
        match answer.unwrap_or_else(|_| Err(timed_out(limit))) {
            Ok(lease) => {
                self.may_exist = true;
                self.update_pending = false;
                self.acknowledged = Some(instance);
                self.claim = self.claim.with_takeover(false);
                // Registrations that start together must not renew together for ever.
                let third = lease.ttl() / 3;
                let is_first = self.lease.replace(lease).is_none();
                let wait = if is_first { third.mul_f64(fastrand::f64()) } else { jittered(third) };
                self.lease_acknowledged(now, wait);
                self.reply_all(&Ok(()));
            }
            Err(error) if error.kind() == ErrorKind::Superseded => {
                self.warn("another incarnation holds the id of a registration", &error);
                self.claim = self.claim.with_takeover(false);
                self.lease = None;
                self.set_status(RegistrationStatus::Superseded);
                self.times.due = Instant::now() + jittered(self.claim.ttl());
                self.reply_all(&Err(error));
            }
            Err(error) => {
                let refused = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Denied);
                if refused {
                    // A refused update is dropped, if there is an acknowledged instance to return to.
                    if let Some(acknowledged) = &self.acknowledged {
                        self.commands.revert(&instance, acknowledged);
                    }
                    self.reply_all(&Err(error.clone()));
                } else {
                    self.may_exist = true; // the request may have reached the store
                }
                self.request_failed(error);
                self.retry_before_expiry(expiry);
            }
        }
    }

    /// The store acknowledged a request that was sent at `sent`. The next renewal is due `wait` later.
    fn lease_acknowledged(&mut self, sent: Instant, wait: Duration) {
        self.failures = 0;
        self.last_error = None;
        self.times = RenewalTimes::after(sent, wait, self.claim.ttl());
        if !self.metrics.is_active() {
            self.set_status(RegistrationStatus::Active);
        }
    }

    fn request_failed(&mut self, error: Error) {
        let (service, id) = self.names();
        tracing::debug!(%service, %id, error = %error.chain(), "a registration request failed");
        self.failures = self.failures.saturating_add(1);
        self.times.due = Instant::now() + self.options.backoff.delay(self.failures);
        self.last_error = Some(error);
    }

    /// Retries before the lease expires, however long the backoff has grown: a store that returns in time
    /// must find the lease alive. Each retry waits half of the remaining time, so there are six at most.
    fn retry_before_expiry(&mut self, expiry: Option<Instant>) {
        let (Some(expiry), now) = (expiry, Instant::now()) else { return };
        let remaining = expiry - now;
        let is_last = remaining < self.claim.ttl() / 50;
        self.times.due = self.times.due.min(if is_last { expiry } else { now + remaining / 2 });
    }

    /// Sets the status of an instance that may not be listed any more.
    fn presume_expired(&mut self) {
        let why = match (&self.last_error, &self.lease) {
            (Some(failure), _) => failure.clone(),
            (None, Some(_)) => {
                Error::new(ErrorKind::Unavailable, "the process was paused for one ttl")
            }
            (None, None) => return, // it was never registered
        };
        let since = match *self.status.borrow() {
            RegistrationStatus::Superseded => return, // the other incarnation may still hold the id
            RegistrationStatus::Retrying { since, .. } => since,
            _ => Instant::now(),
        };
        if self.status.borrow().is_active() {
            self.metrics.repeated();
            self.warn("a registration may have expired, and is made again", &why);
        }
        self.set_status(RegistrationStatus::Retrying { since, why });
    }

    fn set_status(&mut self, status: RegistrationStatus) {
        self.metrics.active(status.is_active());
        self.status.send_replace(status);
    }

    /// Sends the outcome to all callers that wait for the desired instance.
    fn reply_all(&mut self, outcome: &Result<()>) {
        for reply in self.replies.drain(..) {
            drop(reply.send(outcome.clone())); // the caller may have gone
        }
    }

    /// Withdraws the instance if it may be registered. Retries until the caller's timeout.
    async fn withdraw(&mut self) -> Result<()> {
        if !self.may_exist {
            return Ok(());
        }
        let lease = self.lease.clone().unwrap_or_else(|| {
            // No request was acknowledged, but one may have been applied.
            let instance = self.commands.desired();
            Lease::new(self.claim.lease(), self.claim.ttl(), instance, Revision::new(0))
        });
        self.failures = 0;
        loop {
            let limit = self.options.timeout;
            let answer = timeout(limit, self.registry.deregister(&lease)).await;
            match answer.unwrap_or_else(|_| Err(timed_out(limit))) {
                Err(error) if error.is_retryable() => self.request_failed(error),
                outcome => return outcome,
            }
            sleep_until(self.times.due).await;
        }
    }

    /// Returns when the lease is presumed expired.
    fn expiry(&self) -> Option<Instant> {
        Some(self.times.renewed + self.lease.as_ref()?.ttl())
    }

    fn names(&self) -> (ServiceName, InstanceId) {
        let desired = self.commands.desired();
        (desired.service().clone(), desired.id().clone())
    }

    fn warn(&self, message: &str, error: &Error) {
        let (service, id) = self.names();
        tracing::warn!(%service, %id, error = %error.chain(), "{message}");
    }
}

impl Drop for RegistrationTask {
    /// However the task ended, the instance is not kept registered any more.
    fn drop(&mut self) {
        self.commands.close();
        if !matches!(*self.status.borrow(), RegistrationStatus::Stopped) {
            self.set_status(RegistrationStatus::Stopped);
        }
    }
}

/// The error of a withdrawal that was not acknowledged within `limit`.
pub(super) fn stop_timed_out(limit: Duration) -> Error {
    let message = format!(
        "the withdrawal was not acknowledged: the instance is listed until its ttl has passed, timeout=`{limit:?}`"
    );
    Error::new(ErrorKind::Unavailable, message)
}
