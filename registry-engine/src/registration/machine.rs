//! The rules of a registration, as a state machine. Pure: time and randomness are arguments.
//!
//! The task performs one action at a time, and reports how it ended as an event. Commands wait in their
//! queue while a request is in flight: if a command interrupted it, its outcome would be unknown.

mod events;
mod loss;
mod phase;
mod start;
mod stop;

pub(super) use self::events::{Action, Effect, Event, Moment};

use self::phase::{InFlight, Phase, StartTakeover};
use super::errors::{stop_timed_out, unavailable};
use super::options::RegistrationOptions;
use super::renewal::{RenewalStop, RenewalTimes, jitter};
use super::status::RegistrationStatus;
use crate::Backoff;
use crate::bounds::{request_limit, retry_backoff};
use registry_core::{Claim, Error, ErrorKind, Instance, Lease, Result, Takeover};
use std::mem::take;
use std::time::Duration;
use tokio::time::Instant;

/// The state of one registration.
#[derive(Debug)]
pub(super) struct RegistrationMachine {
    /// Drawn once. It displaces nobody: see [`StartTakeover`].
    claim: Claim,
    timeout: Duration,
    stop_timeout: Duration,
    backoff: Backoff,
    phase: Phase,
    in_flight: Option<InFlight>,
    /// When the next request is due.
    due: Instant,
    /// How many requests in a row failed.
    failures: u32,
    /// The last failure, until the status reports it.
    last_error: Option<Error>,
    /// The last acknowledged instance, to return to when the store refuses an update.
    acknowledged: Option<Instance>,
    /// Whether the store may hold the instance: it acknowledged a request, or did not answer one.
    may_exist: bool,
    /// Since when the instance is registered without a gap, or was before it was lost.
    active_since: Option<Instant>,
    /// How often the lease was lost within a ttl after it was registered, after the first loss.
    losses: Option<u32>,
    /// The effects of the event that is being processed.
    effects: Vec<Effect>,
}

impl RegistrationMachine {
    /// Returns a machine whose first request is due at once, and the status until then.
    pub(super) fn new(
        claim: Claim,
        options: &RegistrationOptions,
        now: Instant,
    ) -> (Self, RegistrationStatus) {
        let takeover = if options.takeover { StartTakeover::Unread } else { StartTakeover::No };
        let machine = Self {
            claim: claim.with_takeover(Takeover::No),
            timeout: options.timeout,
            stop_timeout: options.stop_timeout,
            backoff: options.backoff,
            phase: Phase::Registering { since: now, takeover },
            in_flight: None,
            due: now,
            failures: 0,
            last_error: None,
            acknowledged: None,
            may_exist: false,
            active_since: None,
            losses: None,
            effects: Vec::new(),
        };
        let why = unavailable("the store has not answered yet");
        (machine, RegistrationStatus::Retrying { since: now, why })
    }

    /// Processes an event. Returns what to do at once, in order, and what to do next. An event that the
    /// action in flight cannot end with changes nothing.
    pub(super) fn handle(&mut self, event: Event, moment: Moment) -> (Vec<Effect>, Action) {
        let action = self.next_action(event, moment);
        (take(&mut self.effects), action)
    }

    fn next_action(&mut self, event: Event, moment: Moment) -> Action {
        let in_flight = self.in_flight.take();
        match (in_flight, event) {
            (None, Event::Due) if self.due <= moment.now => self.send_request(moment.now),
            (Some(InFlight::ReadHolder | InFlight::Register | InFlight::Renew), Event::Unsent) => {
                self.wait()
            }
            (None, Event::Released) => self.released(moment.now),
            (None, Event::Update) => self.update(moment.now),
            (None, Event::Stop) => self.stop(moment.now),
            (Some(InFlight::Schedule), Event::Unscheduled { times, stop }) => {
                self.unscheduled(times, stop, moment)
            }
            (Some(InFlight::ReadHolder), Event::HolderRead { answer }) => {
                self.holder_read(answer, moment)
            }
            (Some(InFlight::Register), Event::Registered { sent, instance, answer }) => {
                match answer {
                    Ok(lease) => self.registered(lease, instance, sent, moment),
                    Err(error) => self.register_failed(error, instance, moment),
                }
            }
            (Some(InFlight::Renew), Event::Renewed { sent, answer }) => {
                self.renewed(sent, answer, moment)
            }
            (Some(InFlight::Deregister), Event::Deregistered { answer }) => {
                self.deregistered(answer, moment)
            }
            _ => {
                self.in_flight = in_flight;
                self.wait()
            }
        }
    }

    fn update(&mut self, now: Instant) -> Action {
        match &mut self.phase {
            Phase::Active { update_pending, .. } => *update_pending = true,
            Phase::Registering { .. } | Phase::Retrying { .. } | Phase::Superseded { .. } => {}
            Phase::Stopping { .. } | Phase::Stopped(_) => return self.wait(),
        }
        self.due = now;
        self.wait()
    }

    /// Sends the request that is due.
    fn send_request(&mut self, now: Instant) -> Action {
        let is_valid = self.phase.remaining(now).is_some();
        match &self.phase {
            Phase::Active { update_pending: false, .. } if is_valid => self.renew(now),
            Phase::Active { .. } if is_valid => self.register(now),
            Phase::Active { lease, .. } => {
                // Not renewed: another registration may hold the id by now.
                self.phase = Phase::Retrying { since: None, expired: Some(lease.clone()) };
                self.set_retrying(now);
                self.register(now)
            }
            Phase::Registering { takeover: StartTakeover::Unread, .. } => {
                self.set_retrying(now);
                self.read_holder()
            }
            Phase::Registering { .. } | Phase::Retrying { .. } => {
                self.set_retrying(now);
                self.register(now)
            }
            // The status stays: the other incarnation may still hold the id.
            Phase::Superseded { .. } => self.register(now),
            Phase::Stopping { deadline, .. }
                if deadline.is_some_and(|deadline| deadline <= now) =>
            {
                let cause = self.last_error.take();
                let error = stop_timed_out(self.stop_timeout);
                self.end(Err(match cause {
                    Some(cause) => error.with_source(cause),
                    None => error,
                }))
            }
            Phase::Stopping { .. } => self.deregister(now),
            Phase::Stopped(_) => self.wait(),
        }
    }

    /// Sets the status of an instance that may not be listed any more.
    fn set_retrying(&mut self, now: Instant) {
        let (since, why) = match (&mut self.phase, self.last_error.take()) {
            (Phase::Retrying { since: since @ None, .. }, error) => {
                *since = Some(now);
                let why =
                    error.unwrap_or_else(|| unavailable("the process was paused for one ttl"));
                let message = "a registration may have expired, and is made again";
                self.effects.push(Effect::CountRepeated);
                self.effects.push(Effect::Warn(message, why.clone()));
                (now, why)
            }
            (
                Phase::Registering { since, .. } | Phase::Retrying { since: Some(since), .. },
                Some(why),
            ) => (*since, why),
            _ => return, // it says so already
        };
        self.effects.push(Effect::SetStatus(RegistrationStatus::Retrying { since, why }));
    }

    /// Registers the desired instance. While a lease is held, the request ends in time to renew it, and to
    /// change the status when it expires.
    fn register(&mut self, now: Instant) -> Action {
        self.in_flight = Some(InFlight::Register);
        let takeover = match self.phase {
            Phase::Registering { takeover: StartTakeover::From(holder), .. } => {
                Takeover::From(holder)
            }
            _ => Takeover::No,
        };
        let (mut limit, remaining) = (self.request_limit(), self.phase.remaining(now));
        if let Some(remaining) = remaining {
            limit = limit.min(self.ttl() / 3).min(remaining);
        }
        let claim = self.claim.with_takeover(takeover);
        Action::Register { claim, limit, is_update: remaining.is_some() }
    }

    /// The store acknowledged `instance`, whose request was sent at `sent`.
    fn registered(
        &mut self,
        lease: Lease,
        instance: Instance,
        sent: Instant,
        Moment { now, random, .. }: Moment,
    ) -> Action {
        // Registrations that start together must not renew together for ever.
        let third = lease.ttl() / 3;
        let is_first = self.phase.lease().is_none();
        let wait = if is_first { third.mul_f64(random) } else { jitter(third, random) };
        self.may_exist = true;
        self.acknowledged = Some(instance);
        self.lease_acknowledged(sent, wait);
        let is_active = matches!(self.phase, Phase::Active { .. });
        if !is_active && sent + lease.ttl() <= now {
            let since = self.phase.retrying_since();
            self.phase = Phase::Retrying { since, expired: Some(lease) };
            self.last_error = Some(unavailable("the store took one ttl to grant the lease"));
        } else {
            self.phase = Phase::Active { lease, renewed: sent, update_pending: false };
            if !is_active {
                self.active_since = Some(now);
                self.effects.push(Effect::SetStatus(RegistrationStatus::Active));
            }
            self.effects.push(Effect::Reply(Ok(())));
        }
        self.schedule(now)
    }

    fn register_failed(&mut self, error: Error, instance: Instance, moment: Moment) -> Action {
        match error.kind() {
            ErrorKind::Superseded => return self.superseded(error, moment),
            ErrorKind::Invalid | ErrorKind::Denied => {
                // A refused update is dropped, if there is an acknowledged instance to return to.
                if let Some(acknowledged) = self.acknowledged.clone() {
                    self.effects.push(Effect::Revert { refused: instance, acknowledged });
                }
                self.effects.push(Effect::Reply(Err(error.clone())));
            }
            _ => self.may_exist = true, // the request may have reached the store
        }
        self.request_failed(error, moment);
        // The lease is renewed while the store accepts no update: an etcd that is out of space still renews.
        match &self.phase {
            Phase::Active { lease, renewed, .. } if *renewed + lease.ttl() / 3 <= moment.now => {
                self.renew(moment.now)
            }
            _ => self.wait(),
        }
    }

    /// Renews the lease, unless it is presumed expired.
    fn renew(&mut self, now: Instant) -> Action {
        match (&self.phase, self.phase.expiry()) {
            (Phase::Active { lease, .. }, Some(expiry)) if expiry > now => {
                self.in_flight = Some(InFlight::Renew);
                Action::Renew { lease: lease.clone(), expiry }
            }
            _ => self.wait(),
        }
    }

    fn renewed(&mut self, sent: Instant, answer: Result<()>, moment: Moment) -> Action {
        let Phase::Active { lease, renewed, update_pending } = &mut self.phase else {
            return self.wait();
        };
        match answer {
            Ok(()) => {
                *renewed = sent;
                if *update_pending {
                    return self.wait();
                }
                let wait = jitter(lease.ttl() / 3, moment.random);
                self.lease_acknowledged(sent, wait);
                self.schedule(moment.now)
            }
            // The pending update is retried at its own time, and may have caused a `LeaseLost`.
            Err(_) if *update_pending => self.wait(),
            Err(error) => self.renewal_failed(error, moment),
        }
    }

    /// Lets the scheduler renew the lease. One that is presumed expired is registered: that is due already.
    fn schedule(&mut self, now: Instant) -> Action {
        match &self.phase {
            Phase::Active { lease, renewed, .. } if self.phase.remaining(now).is_some() => {
                self.in_flight = Some(InFlight::Schedule);
                let times = RenewalTimes { renewed: *renewed, due: self.due };
                Action::Schedule { lease: lease.clone(), times }
            }
            _ => self.wait(),
        }
    }

    /// The scheduler ended. It starts again after the next acknowledged request.
    fn unscheduled(
        &mut self,
        times: RenewalTimes,
        stop: Option<RenewalStop>,
        moment: Moment,
    ) -> Action {
        if let Phase::Active { renewed, .. } = &mut self.phase {
            *renewed = times.renewed;
        }
        self.due = times.due;
        match stop {
            Some(RenewalStop::Failed(error)) => return self.renewal_failed(error, moment),
            Some(RenewalStop::Expired) => self.due = moment.now,
            None => {} // there is a command
        }
        self.wait()
    }

    fn renewal_failed(&mut self, error: Error, moment: Moment) -> Action {
        if error.kind() == ErrorKind::LeaseLost {
            self.lease_lost(error, moment);
        } else {
            self.request_failed(error, moment);
        }
        self.wait()
    }

    /// The store acknowledged a request that was sent at `sent`. The next renewal is due `wait` later.
    fn lease_acknowledged(&mut self, sent: Instant, wait: Duration) {
        self.failures = 0;
        self.last_error = None;
        self.due = sent + wait;
    }

    /// Backs off. A held lease is tried before it expires, however long the backoff has grown: a store that
    /// returns in time must find the lease alive.
    fn request_failed(&mut self, error: Error, Moment { now, random, retrying }: Moment) {
        self.failures = self.failures.saturating_add(1);
        let backoff = match error.kind() {
            ErrorKind::Unavailable => retry_backoff(self.backoff, self.ttl(), retrying),
            _ => self.backoff, // the store has answered
        };
        self.last_error = Some(error);
        self.due = now + backoff.delay_at(self.failures, random);
        if let Some(expiry) = self.phase.expiry() {
            let remaining = expiry - now;
            let is_last = remaining < self.ttl() / 50;
            self.due = self.due.min(if is_last { expiry } else { now + remaining / 2 });
        }
    }

    /// Returns whether the last request failed, or the lease was lost.
    pub(super) fn is_retrying(&self) -> bool {
        self.failures > 0 || matches!(self.phase, Phase::Retrying { .. })
    }

    /// Returns how long a request may take that has no lease to renew meanwhile.
    fn request_limit(&self) -> Duration {
        self.timeout.min(request_limit(self.ttl()))
    }

    /// Returns the granted ttl, or before a grant the one to ask for.
    fn ttl(&self) -> Duration {
        self.phase.lease().map_or_else(|| self.claim.ttl(), Lease::ttl)
    }

    fn wait(&self) -> Action {
        match &self.phase {
            Phase::Stopped(outcome) => Action::End(outcome.clone()),
            Phase::Superseded { holder: Some(holder), .. } => {
                Action::WaitForRelease { holder: *holder, until: self.due }
            }
            _ => Action::Wait { until: self.due },
        }
    }
}

#[cfg(test)]
mod incarnations;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
