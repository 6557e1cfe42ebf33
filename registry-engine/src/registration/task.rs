//! The task of a registration. It performs the actions that its state machine decides.

use super::commands::{Command, CommandQueue, Reply};
use super::errors::unavailable;
use super::limiter::Permit;
use super::machine::{Action, Effect, Event, Moment, RegistrationMachine};
use super::options::RegistrationOptions;
use super::own_record::OwnRecord;
use super::renewal::{RenewalHandle, RenewalJob, RenewalStop, RenewalTimes, renew};
use super::retrying::RetryingCount;
use super::status::RegistrationStatus;
use crate::call::{call, within};
use crate::failures::LoggedFailures;
use crate::metrics::RegistrationMetrics;
use registry_core::{
    Claim, Error, Holder, Instance, InstanceId, Lease, Registry, Result, Revision, ServiceName,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

pub(super) struct RegistrationTask {
    registry: Arc<dyn Registry>,
    machine: RegistrationMachine,
    /// The timeout of one request.
    timeout: Duration,
    claim: Claim,
    commands: Arc<CommandQueue>,
    status: watch::Sender<RegistrationStatus>,
    /// The replies of updates that are not acknowledged yet.
    replies: Vec<Reply>,
    metrics: RegistrationMetrics,
    retrying: RetryingCount,
    record: Arc<OwnRecord>,
    logged_failures: LoggedFailures,
}

impl RegistrationTask {
    pub(super) fn new(
        registry: Arc<dyn Registry>,
        instance: Instance,
        claim: Claim,
        options: &RegistrationOptions,
        registered: Reply,
    ) -> Self {
        let (machine, status) = RegistrationMachine::new(claim, options, Instant::now());
        let record = OwnRecord::new(&registry, &instance);
        Self {
            metrics: RegistrationMetrics::new(instance.service()),
            registry,
            machine,
            timeout: options.timeout,
            claim,
            commands: Arc::new(CommandQueue::new(instance)),
            status: watch::Sender::new(status),
            replies: vec![registered],
            retrying: RetryingCount::of_this_runtime(),
            record,
            logged_failures: LoggedFailures::default(),
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
        let mut action = Action::Wait { until: Instant::now() };
        let outcome = loop {
            let event = match action {
                Action::Wait { until } => self.wait(until).await,
                Action::WaitForRelease { holder, until } => {
                    self.wait_for_release(&holder, until).await
                }
                Action::ReadHolder { limit } => self.read_holder(limit).await,
                Action::Register { claim, limit, is_update: false } => {
                    self.register_with_permit(claim, limit).await
                }
                Action::Register { claim, limit, is_update: true } => {
                    self.update(claim, limit).await
                }
                Action::Renew { lease, expiry } => self.renew(lease, expiry).await,
                Action::Schedule { lease, times } => self.schedule(lease, times).await,
                Action::Deregister { lease, limit } => self.deregister(lease, limit).await,
                Action::End(outcome) => break outcome,
            };
            action = self.handle(event);
        };
        if let (false, Err(error)) = (self.commands.stopped(&outcome), &outcome) {
            self.warn("cannot withdraw an instance", error);
        }
    }

    fn handle(&mut self, event: Event) -> Action {
        let (now, random) = (Instant::now(), fastrand::f64());
        let moment = Moment { now, random, retrying: self.retrying.total() };
        let (effects, action) = self.machine.handle(event, moment);
        self.retrying.set(self.machine.is_retrying());
        for effect in effects {
            match effect {
                Effect::SetStatus(status) => self.set_status(status),
                Effect::Reply(outcome) => self.reply_all(&outcome),
                Effect::Revert { refused, acknowledged } => {
                    self.commands.revert(&refused, &acknowledged);
                }
                Effect::CountRepeated => self.metrics.repeated(),
                Effect::Warn(message, error) => {
                    self.logged_failures.insert(error.kind());
                    self.warn(message, &error);
                }
            }
        }
        action
    }

    /// Waits until there is a command or the next request is due. For a request that is already due it uses no timer,
    /// since a timer fires up to a millisecond late.
    async fn wait(&mut self, until: Instant) -> Event {
        let command = if until <= Instant::now() {
            self.commands.take()
        } else {
            tokio::select! {
                biased;
                command = self.commands.next() => Some(command),
                () = sleep_until(until) => None,
            }
        };
        match command {
            None => Event::Due,
            Some(Command::Update(replies)) => {
                self.replies.retain(|reply| !reply.is_closed());
                self.replies.extend(replies);
                Event::Update
            }
            Some(Command::Stop) => Event::Stop,
        }
    }

    /// Waits as [`wait`](Self::wait) does, or until `holder` no longer holds the id.
    async fn wait_for_release(&mut self, holder: &Holder, until: Instant) -> Event {
        let (record, instance) = (self.record.clone(), self.commands.desired());
        tokio::select! {
            biased;
            event = self.wait(until) => event,
            () = record.released(&instance, holder) => Event::Released,
        }
    }

    /// Waits for a permit. Returns `None` if there is a command first.
    async fn permit<'a>(
        &self,
        permit: impl Future<Output = Option<Permit<'a>>>,
    ) -> Option<Permit<'a>> {
        tokio::select! {
            biased;
            () = self.commands.ready() => None,
            permit = permit => permit,
        }
    }

    async fn read_holder(&self, limit: Duration) -> Event {
        let Some(_permit) = self.permit(self.record.limiter().registration(limit)).await else {
            return Event::Unsent;
        };
        let instance = self.commands.desired();
        let request = async { self.registry.holder(&instance, &within(limit)).await };
        let answer = call("holder", limit, request).await;
        self.log_failure(answer.as_ref().err());
        Event::HolderRead { answer }
    }

    async fn register_with_permit(&self, claim: Claim, limit: Duration) -> Event {
        match self.permit(self.record.limiter().registration(limit)).await {
            Some(_permit) => self.register(claim, limit).await,
            None => Event::Unsent,
        }
    }

    /// Registers while the lease is held. The wait for a permit and the request take at most `limit` together.
    async fn update(&self, claim: Claim, limit: Duration) -> Event {
        let until = Instant::now() + limit;
        let permit = self.record.limiter().renewal(limit, until).await;
        if permit.is_none() {
            let error = unavailable("too many requests to the store are in flight");
            self.log_failure(Some(&error));
            let instance = self.commands.desired();
            return Event::Registered { sent: until, instance, answer: Err(error) };
        }
        self.register(claim, until - Instant::now()).await
    }

    async fn register(&self, claim: Claim, limit: Duration) -> Event {
        let (sent, instance) = (Instant::now(), self.commands.desired());
        let request = async { self.registry.register(&instance, &claim, &within(limit)).await };
        let answer = call("register", limit, request).await;
        self.log_failure(answer.as_ref().err());
        Event::Registered { sent, instance, answer }
    }

    async fn renew(&self, lease: Lease, expiry: Instant) -> Event {
        let job = self.job_of(lease);
        let permit = self.permit(self.record.limiter().renewal(job.limit(), expiry)).await;
        let sent = Instant::now();
        if permit.is_none() || expiry <= sent {
            return Event::Unsent;
        }
        let answer = renew(&job, expiry - sent).await;
        self.renewal_failed(answer.as_ref().err());
        Event::Renewed { sent, answer }
    }

    /// Lets the scheduler renew the lease until there is a command, it stops, or the record is lost.
    async fn schedule(&self, lease: Lease, times: RenewalTimes) -> Event {
        let renewals = RenewalHandle::schedule(self.job_of(lease.clone()), times);
        let lost = tokio::select! {
            biased;
            () = self.commands.ready() => None,
            () = renewals.stopped() => None,
            error = self.record.lost(&lease) => Some(RenewalStop::Failed(error)),
        };
        let (times, stop) = renewals.cancel().await;
        let stop = lost.or(stop); // the loss takes precedence over the outcome of a renewal in flight
        if let Some(RenewalStop::Failed(error)) = &stop {
            self.renewal_failed(Some(error));
        }
        Event::Unscheduled { times, stop }
    }

    async fn deregister(&self, lease: Option<Lease>, limit: Duration) -> Event {
        let lease = lease.unwrap_or_else(|| {
            let instance = self.commands.desired();
            Lease::new(self.claim.lease(), self.claim.ttl(), instance, Revision::new(0))
        });
        let request = async { self.registry.deregister(&lease, &within(limit)).await };
        let answer = call("deregister", limit, request).await;
        self.log_failure(answer.as_ref().err());
        Event::Deregistered { answer }
    }

    fn job_of(&self, lease: Lease) -> RenewalJob {
        let (registry, timeout) = (self.registry.clone(), self.timeout);
        RenewalJob {
            registry,
            lease,
            record: self.record.clone(),
            timeout,
            renewed: self.metrics.renewals(),
        }
    }

    fn renewal_failed(&self, error: Option<&Error>) {
        if let Some(error) = error {
            self.metrics.renewal_failed(error.kind());
        }
        self.log_failure(error);
    }

    fn set_status(&mut self, status: RegistrationStatus) {
        self.metrics.active(status.is_active());
        match &status {
            RegistrationStatus::Active => {
                self.logged_failures.clear();
                let (service, id) = self.names();
                tracing::info!(%service, %id, "an instance is registered");
            }
            RegistrationStatus::Retrying { why, .. } if self.logged_failures.insert(why.kind()) => {
                self.warn("an instance is not registered: retrying", why);
            }
            _ => {}
        }
        self.status.send_replace(status);
    }

    /// Sends the outcome to all callers that wait for the desired instance.
    fn reply_all(&mut self, outcome: &Result<()>) {
        for reply in self.replies.drain(..) {
            drop(reply.send(outcome.clone())); // fails if the caller dropped its future
        }
    }

    fn names(&self) -> (ServiceName, InstanceId) {
        let desired = self.commands.desired();
        (desired.service().clone(), desired.id().clone())
    }

    fn log_failure(&self, error: Option<&Error>) {
        let Some(error) = error else { return };
        let (service, id) = self.names();
        tracing::debug!(%service, %id, error = %error.chain(), "a registration request failed");
    }

    fn warn(&self, message: &str, error: &Error) {
        let (service, id) = self.names();
        tracing::warn!(%service, %id, error = %error.chain(), "{message}");
    }
}

impl Drop for RegistrationTask {
    /// Sets the final status, however the task ended.
    fn drop(&mut self) {
        self.commands.close();
        if !matches!(*self.status.borrow(), RegistrationStatus::Stopped) {
            self.set_status(RegistrationStatus::Stopped);
        }
    }
}
