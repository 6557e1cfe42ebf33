//! The reaction of a registration to the loss of its record or its id.

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
        let released = match self.phase {
            // The watch reported this holder as gone, but the store still names it, such as for a record that the watch
            // cannot decode. The watch is not used for it again.
            Phase::Superseded { released, .. } => {
                released.filter(|released| Some(*released) == holder)
            }
            _ => None,
        };
        let holder = holder.filter(|_| released.is_none());
        self.phase = Phase::Superseded { holder, released };
        self.due = now + jitter(self.claim.ttl(), random);
        let message = "another incarnation holds the id of a registration";
        self.effects.push(Effect::Warn(message, error.clone()));
        self.effects.push(Effect::SetStatus(RegistrationStatus::Superseded));
        self.effects.push(Effect::Reply(Err(error)));
        self.wait()
    }

    /// Handles the release of the id by the watched holder: the next request is due at once.
    pub(super) fn released(&mut self, now: Instant) -> Action {
        if let Phase::Superseded { holder, released } = &mut self.phase {
            *released = holder.take();
            self.due = now;
        }
        self.wait()
    }

    /// Registers again at once. If many registrations are lost at the same time, they spread out. If the record is lost
    /// repeatedly, such as when another program deletes it, the registration backs off.
    pub(super) fn lease_lost(&mut self, error: Error, Moment { now, random, retrying }: Moment) {
        let is_again = self.active_since.is_some_and(|since| now - since < self.ttl());
        let times = match self.losses {
            Some(times) if is_again => times.saturating_add(1),
            _ => 0,
        };
        self.losses = Some(times);
        self.phase = Phase::Retrying { since: None, expired: None };
        self.last_error = Some(error);
        self.due = now + spread(retrying).min(self.backoff.max()).mul_f64(random);
        if times > 0 {
            self.due += self.backoff.delay_at(times, random);
        }
        self.set_retrying(now);
    }
}
