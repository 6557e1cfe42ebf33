//! How a registration takes it that the store does not hold its record any more.

use super::RegistrationMachine;
use super::events::{Action, Effect, Moment};
use super::phase::Phase;
use crate::bounds::spread;
use crate::registration::renewal::jitter;
use crate::registration::status::RegistrationStatus;
use registry_core::Error;
use tokio::time::Instant;

impl RegistrationMachine {
    pub(super) fn superseded(
        &mut self,
        error: Error,
        Moment { now, random, .. }: Moment,
    ) -> Action {
        let holder = error.holder().copied();
        // The store and its watch disagree on whether this holder is gone: no loop of requests may come of it.
        let is_doubtful = matches!(self.phase, Phase::Superseded { released, .. }
            if released.is_some() && released == holder);
        let holder = holder.filter(|_| !is_doubtful);
        self.phase = Phase::Superseded { holder, released: None };
        self.due = now + jitter(self.claim.ttl(), random);
        let message = "another incarnation holds the id of a registration";
        self.effects.push(Effect::Warn(message, error.clone()));
        self.effects.push(Effect::SetStatus(RegistrationStatus::Superseded));
        self.effects.push(Effect::Reply(Err(error)));
        self.wait()
    }

    /// The holder that this registration waits for no longer holds the id.
    pub(super) fn released(&mut self, now: Instant) -> Action {
        if let Phase::Superseded { holder, released } = &mut self.phase {
            *released = holder.take();
            self.due = now;
        }
        self.wait()
    }

    /// Registers again at once. If many registrations were lost at the same time, they spread out; and if somebody deletes
    /// the record again and again, this one backs off.
    pub(super) fn lease_lost(&mut self, error: Error, Moment { now, random, retrying }: Moment) {
        let times = match self.lost {
            Some((last, times)) if now - last < self.ttl() => times.saturating_add(1),
            _ => 0,
        };
        self.lost = Some((now, times));
        self.phase = Phase::Retrying { since: None, expired: None };
        self.last_error = Some(error);
        self.due = now + spread(retrying).mul_f64(random);
        if times > 0 {
            self.due += self.backoff.delay_at(times, random);
        }
        self.set_retrying(now);
    }
}
