//! The end of a registration: the withdrawal of its instance.

use super::phase::{InFlight, Phase};
use super::{Action, Effect, Moment, RegistrationMachine, RegistrationStatus};
use registry_core::Result;
use std::time::Duration;
use tokio::time::Instant;

impl RegistrationMachine {
    /// Withdraws the instance if it may be registered.
    pub(super) fn stop(&mut self, now: Instant) -> Action {
        if let Phase::Stopping { .. } | Phase::Stopped(_) = self.phase {
            return self.wait();
        }
        let lease = self.phase.lease().cloned();
        if !self.may_exist {
            return self.end(Ok(()));
        }
        self.failures = 0;
        self.phase = Phase::Stopping { lease, deadline: now.checked_add(self.stop_timeout) };
        self.deregister(now)
    }

    pub(super) fn deregister(&mut self, now: Instant) -> Action {
        let Phase::Stopping { lease, deadline } = &self.phase else { return self.wait() };
        let remaining = deadline.map_or(Duration::MAX, |deadline| deadline - now);
        let (lease, limit) = (lease.clone(), self.timeout.min(remaining));
        self.in_flight = Some(InFlight::Deregister);
        Action::Deregister { lease, limit }
    }

    /// Handles the answer to a withdrawal. An unanswered withdrawal is retried until the stop timeout.
    pub(super) fn deregistered(&mut self, answer: Result<()>, moment: Moment) -> Action {
        match answer {
            Err(error) if error.is_retryable() => self.request_failed(error, moment),
            outcome => return self.end(outcome),
        }
        if let Phase::Stopping { deadline: Some(deadline), .. } = self.phase {
            self.due = self.due.min(deadline);
        }
        self.wait()
    }

    pub(super) fn end(&mut self, outcome: Result<()>) -> Action {
        self.effects.push(Effect::SetStatus(RegistrationStatus::Stopped));
        self.phase = Phase::Stopped(outcome);
        self.wait()
    }
}
