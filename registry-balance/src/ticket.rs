//! A call in flight.

use crate::ejection::Admission;
use crate::endpoint::Endpoint;
use crate::shared::Shared;
use crate::time::Ticks;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A call in flight to the member that was picked for it.
///
/// The call counts as in flight until the ticket is finished, abandoned or dropped. A drop reports
/// nothing about the member: drop the ticket if the call never reached the member.
///
/// A ticket may outlive its balancer, and does not keep values of other members alive.
///
/// ```
/// use registry_balance::{Balancer, BalancerOptions, Member, Outcome, PickOptions};
/// use std::time::Duration;
///
/// let (now, later) = (Duration::from_secs(1), Duration::from_secs(3));
/// let balancer = Balancer::new(BalancerOptions::default(), 7);
/// balancer.set([Member::new("a", "10.0.0.1:80")], now);
/// let pick = || balancer.pick(&PickOptions::default(), now, &mut fastrand::Rng::with_seed(7));
///
/// let mut stream = pick()?;
/// assert_eq!((*stream.key(), *stream.value()), ("a", "10.0.0.1:80"));
/// stream.answered(later); // the latency counts, and the call stays in flight
/// stream.finish(Outcome::Success, later);
///
/// pick()?.finish(Outcome::Failure, later); // the member failed the call
/// pick()?.abandon(later); // the caller waits no longer
/// drop(pick()?); // the call was never made
/// # Ok::<(), registry_balance::NoPick>(())
/// ```
#[must_use = "the call counts as in flight until its ticket is dropped"]
pub struct Ticket<K, T> {
    endpoint: Arc<Endpoint<K, T>>,
    /// Weak, so that a long call does not keep the connections of other members open.
    shared: Weak<Shared<K, T>>,
    begun: Duration,
    admission: Admission,
    is_answered: bool,
    /// Whether the call has ended with a report. If not, the call was never made, and another call
    /// may probe the member at once.
    is_reported: bool,
}

/// The outcome of a call, as far as it concerns the member.
///
/// The caller classifies the result of the call: a member is not to blame for an invalid request, for
/// example.
///
/// ```
/// use registry_balance::Outcome;
///
/// fn classify(status: u16) -> Outcome {
///     if matches!(status, 502..=504) { Outcome::Failure } else { Outcome::Success }
/// }
///
/// assert_eq!(classify(404), Outcome::Success);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The member works. The latency counts, and the count of consecutive failures is reset.
    Success,
    /// The member failed the call. The elapsed time does not count, since many failures are fast.
    Failure,
    /// The member is to blame for not answering in time: a failure, and the elapsed time is a lower
    /// bound of the latency. If the caller may just be impatient, [abandon](Ticket::abandon) the call.
    TimedOut,
    /// The call tells nothing about the member. Its latency does not count either: a member that
    /// rejects calls would look fast.
    Neutral,
}

/// A change of the ejection of a member that an outcome has caused, for logs and metrics.
///
/// ```
/// use registry_balance::{
///     Balancer, BalancerOptions, Ejection, Member, Outcome, PickOptions, Transition,
/// };
/// use std::time::Duration;
///
/// let now = Duration::from_secs(1);
/// let ejection = Ejection::default().with_failures(1);
/// let balancer = Balancer::new(BalancerOptions::default().with_ejection(Some(ejection)), 7);
/// balancer.set([Member::new("a", ()), Member::new("b", ())], now);
///
/// let ticket = balancer.pick(&PickOptions::default(), now, &mut fastrand::Rng::with_seed(7))?;
/// let transition = ticket.finish(Outcome::Failure, now);
/// assert!(matches!(transition, Some(Transition::Ejected { failures: 1, .. })));
/// # Ok::<(), registry_balance::NoPick>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transition {
    /// The member was ejected.
    #[non_exhaustive]
    Ejected {
        /// The number of consecutive failures.
        failures: u32,
        /// For how long the member takes no calls.
        duration: Duration,
    },
    /// The member has answered its probe and takes calls again.
    Readmitted,
}

impl<K, T> Ticket<K, T> {
    pub(crate) fn new(
        endpoint: Arc<Endpoint<K, T>>,
        shared: Weak<Shared<K, T>>,
        begun: Duration,
        admission: Admission,
    ) -> Self {
        endpoint.stats.begin();
        Self { endpoint, shared, begun, admission, is_answered: false, is_reported: false }
    }

    /// Returns the key of the member.
    pub fn key(&self) -> &K {
        &self.endpoint.key
    }

    /// Returns the value that the member had when it was picked.
    pub fn value(&self) -> &T {
        &self.endpoint.value
    }

    /// Restarts the latency of the call at `now`, for a call that is made later than its pick.
    pub fn restart(&mut self, now: Duration) {
        self.begun = now;
    }

    /// Records the latency of the call, because its answer has begun. The call stays in flight, since a
    /// stream may stay open for hours. Only the first answer counts.
    ///
    /// If the call is a probe, the ejection ends [`Ejection::base`](crate::Ejection::base) after the
    /// call began, unless the call fails before.
    pub fn answered(&mut self, now: Duration) {
        if self.is_answered {
            return;
        }
        self.is_answered = true;
        let (stats, elapsed, now) = (&self.endpoint.stats, self.elapsed(now), Ticks::of(now));
        if self.admission.is_probe() {
            stats.probe_answered(elapsed, now);
            stats.ejection.answered(&mut self.admission);
        } else if !stats.was_cold(Ticks::of(self.begun), now) {
            stats.answered(elapsed, now);
        }
    }

    /// Reports the outcome of the call, and ends it. Returns the ejection that a failure has
    /// caused, or the end of one.
    ///
    /// A failure does not count if the member was ejected or readmitted since the call began.
    pub fn finish(mut self, outcome: Outcome, now: Duration) -> Option<Transition> {
        self.is_reported = true;
        match outcome {
            Outcome::Success => {
                self.answered(now);
                let is_readmitted = self.endpoint.stats.succeeded(self.admission);
                is_readmitted.then_some(Transition::Readmitted)
            }
            Outcome::Failure => self.fail(now),
            Outcome::TimedOut => {
                let transition = self.fail(now);
                self.unanswered(now);
                transition
            }
            Outcome::Neutral => {
                self.endpoint.stats.shown_nothing(Ticks::of(now));
                None
            }
        }
    }

    /// Ends the call because its caller has stopped waiting. This is not a failure, but the elapsed
    /// time is a lower bound of the latency, unless the call was [answered](Self::answered). So a member
    /// that hangs looks slow, and other members take the calls.
    pub fn abandon(mut self, now: Duration) {
        self.is_reported = true;
        self.unanswered(now);
    }

    fn unanswered(&self, now: Duration) {
        if !self.is_answered {
            self.endpoint.stats.unanswered(self.elapsed(now), Ticks::of(now));
        }
    }

    fn fail(&self, now: Duration) -> Option<Transition> {
        let (stats, now) = (&self.endpoint.stats, Ticks::of(now));
        let failures = stats.failed(self.admission, now)?;
        let shared = self.shared.upgrade()?;
        // A failed probe ejects a half-open endpoint at once.
        if failures < shared.ejection?.failures && !self.admission.is_probe() {
            return None;
        }
        let duration = shared.eject(stats, self.admission, now)?;
        Some(Transition::Ejected { failures, duration })
    }

    fn elapsed(&self, now: Duration) -> Duration {
        now.saturating_sub(self.begun)
    }
}

impl<K, T> Drop for Ticket<K, T> {
    fn drop(&mut self) {
        let stats = &self.endpoint.stats;
        if self.admission.is_probe() && !self.is_reported {
            stats.ejection.release(self.admission);
        }
        stats.end();
    }
}

impl<K: fmt::Debug, T> fmt::Debug for Ticket<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("key", self.key()).finish_non_exhaustive()
    }
}
