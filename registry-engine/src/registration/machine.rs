//! The state machine of a registration. It is pure: time and randomness are arguments.
//!
//! The task performs one action at a time, and reports its end as an event. Commands stay in the queue while a request
//! is in flight, since interrupting the request would make its outcome unknown.

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
    /// The claim of all requests, without takeover: see [`StartTakeover`].
    claim: Claim,
    timeout: Duration,
    stop_timeout: Duration,
    backoff: Backoff,
    phase: Phase,
    in_flight: Option<InFlight>,
    /// When the next request is due.
    due: Instant,
    /// The number of consecutive failed requests.
    failures: u32,
    /// The last failure, until the status reports it.
    last_error: Option<Error>,
    /// The last acknowledged instance, which replaces a refused update.
    acknowledged: Option<Instance>,
    /// Whether the store may hold the instance: it acknowledged a request, or left one unanswered.
    may_exist: bool,
    /// The start of the current or last period in which the instance was registered without a gap.
    active_since: Option<Instant>,
    /// The number of consecutive losses that each came within a ttl after the registration. `None` before the first
    /// loss.
    losses: Option<u32>,
    /// The effects of the event that is being processed.
    effects: Vec<Effect>,
}

impl RegistrationMachine {
    /// Returns a machine whose first request is due at once, and the initial status.
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

    /// Processes an event. Returns the effects to apply at once, in order, and the next action. An event that the
    /// action in flight cannot cause changes nothing.
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
                // An expired lease is registered, not renewed: another registration may hold the id by now.
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
            // The status stays `Superseded`, since the other incarnation may still hold the id.
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

    /// Sets the status `Retrying`, for an instance that may not be listed.
    fn set_retrying(&mut self, now: Instant) {
        let (since, why) = match (&mut self.phase, self.last_error.take()) {
            (Phase::Retrying { since: since @ None, .. }, error) => {
                *since = Some(now);
                let why =
                    error.unwrap_or_else(|| unavailable("the process was paused for one ttl"));
                let message = "an instance may have lost its lease: registering it again";
                self.effects.push(Effect::CountRepeated);
                self.effects.push(Effect::Warn(message, why.clone()));
                (now, why)
            }
            (
                Phase::Registering { since, .. } | Phase::Retrying { since: Some(since), .. },
                Some(why),
            ) => (*since, why),
            _ => return, // the status is already set
        };
        self.effects.push(Effect::SetStatus(RegistrationStatus::Retrying { since, why }));
    }

    /// Registers the desired instance. While a lease is held, the timeout of the request leaves time to renew the
    /// lease, or to set the status when it expires.
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

    /// Handles the acknowledgement of `instance`, whose request was sent at `sent`.
    fn registered(
        &mut self,
        lease: Lease,
        instance: Instance,
        sent: Instant,
        Moment { now, random, .. }: Moment,
    ) -> Action {
        // The first interval is random, so that registrations that start together do not always renew together.
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
                // A refused update is dropped if there is an acknowledged instance to go back to.
                if let Some(acknowledged) = self.acknowledged.clone() {
                    self.effects.push(Effect::Revert { refused: instance, acknowledged });
                }
                self.effects.push(Effect::Reply(Err(error.clone())));
            }
            _ => self.may_exist = true, // the request may have reached the store
        }
        self.request_failed(error, moment);
        // The lease is renewed even while updates fail: an etcd that is out of space still renews leases.
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
            // A `LeaseLost` may be due to the pending update, which has its own retry.
            Err(_) if *update_pending => self.wait(),
            Err(error) => self.renewal_failed(error, moment),
        }
    }

    /// Lets the scheduler renew the lease, unless it is presumed expired: then a registration is already due.
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

    /// Handles the end of the scheduler. It starts again after the next acknowledged request.
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
            None => {} // interrupted by a command
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

    /// Records the acknowledgement of a request that was sent at `sent`. The next renewal is due `wait` after that.
    fn lease_acknowledged(&mut self, sent: Instant, wait: Duration) {
        self.failures = 0;
        self.last_error = None;
        self.due = sent + wait;
    }

    /// Backs off. A held lease is retried before it expires, however long the backoff is: if the store recovers in
    /// time, the lease must survive.
    fn request_failed(&mut self, error: Error, Moment { now, random, retrying }: Moment) {
        self.failures = self.failures.saturating_add(1);
        let backoff = match error.kind() {
            ErrorKind::Unavailable => retry_backoff(self.backoff, self.ttl(), retrying),
            _ => self.backoff, // the store answers
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

    /// Returns the timeout of a request while no lease is held.
    fn request_limit(&self) -> Duration {
        self.timeout.min(request_limit(self.ttl()))
    }

    /// Returns the granted ttl, or the requested ttl if none was granted yet.
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
