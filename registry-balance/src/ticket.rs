//! A call in flight.

use crate::ejection::Probe;
use crate::endpoint::Endpoint;
use crate::shared::Shared;
use crate::time::Ticks;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A call in flight, to the member that was picked for it.
///
/// It counts as in flight until it is finished, abandoned or dropped. A drop says nothing else of
/// the member: so drop it if the call never reached the member.
///
/// A ticket outlives its balancer, and holds no other member's value.
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
    /// Weak, so that a long call keeps no connections of other members.
    shared: Weak<Shared<K, T>>,
    begun: Duration,
    /// The right to probe a half-open endpoint, until the call has shown that it serves.
    probe: Option<Probe>,
    is_answered: bool,
}

/// The outcome of a call, as far as it tells of the member.
///
/// The caller classifies: a member is not to blame for a request that is wrong, for example.
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
    /// The member serves. Its latency counts, and its row of failures is over.
    Success,
    /// The member failed the call. The time that it took says nothing, since many failures are
    /// fast.
    Failure,
    /// The member did not answer in time: a failure whose time is a lower bound of the latency.
    TimedOut,
    /// The call says nothing of the member.
    Neutral,
}

/// An ejection that an outcome has caused, for logs and metrics.
///
/// ```
/// use registry_balance::{Balancer, BalancerOptions, Ejection, Member, Outcome, PickOptions};
/// use std::time::Duration;
///
/// let now = Duration::from_secs(1);
/// let ejection = Ejection { failures: 1, ..Ejection::default() };
/// let balancer = Balancer::new(BalancerOptions::default().with_ejection(Some(ejection)), 7);
/// balancer.set([Member::new("a", ()), Member::new("b", ())], now);
///
/// let ticket = balancer.pick(&PickOptions::default(), now, &mut fastrand::Rng::with_seed(7))?;
/// let ejected = ticket.finish(Outcome::Failure, now).unwrap();
/// assert_eq!(ejected.failures, 1);
/// assert!(ejected.duration >= Duration::from_millis(800));
/// # Ok::<(), registry_balance::NoPick>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ejected {
    /// The number of consecutive failures.
    pub failures: u32,
    /// For how long the member takes no calls.
    pub duration: Duration,
}

impl<K, T> Ticket<K, T> {
    pub(crate) fn new(
        endpoint: Arc<Endpoint<K, T>>,
        shared: Weak<Shared<K, T>>,
        begun: Duration,
        probe: Option<Probe>,
    ) -> Self {
        endpoint.stats.begin();
        Self { endpoint, shared, begun, probe, is_answered: false }
    }

    /// Returns the key of the member.
    pub fn key(&self) -> &K {
        &self.endpoint.key
    }

    /// Returns the value of the member, as it was when it was picked.
    pub fn value(&self) -> &T {
        &self.endpoint.value
    }

    /// Counts the latency of the call, whose answer has begun. The call stays in flight, since a
    /// stream may go on for hours. Only the first answer counts.
    pub fn answered(&mut self, now: Duration) {
        if !self.is_answered {
            self.is_answered = true;
            self.endpoint.stats.answered(self.elapsed(now), Ticks::of(now));
        }
    }

    /// Ends the ejection of the member, if this call probes it: it serves, whatever the outcome
    /// will be. A success does the same.
    pub fn readmit(&mut self, now: Duration) {
        if let Some(probe) = self.probe.take() {
            let stats = &self.endpoint.stats;
            stats.ejection.readmit(probe);
            stats.probe_answered(self.elapsed(now), Ticks::of(now));
        }
    }

    /// Reports the outcome of the call, and ends it. Returns the ejection that a failure has
    /// caused.
    pub fn finish(mut self, outcome: Outcome, now: Duration) -> Option<Ejected> {
        match outcome {
            Outcome::Success => {
                self.answered(now);
                self.endpoint.stats.succeeded();
                self.readmit(now);
                None
            }
            Outcome::Failure => self.fail(Ticks::of(now)),
            Outcome::TimedOut => {
                let ejected = self.fail(Ticks::of(now));
                if !self.is_answered {
                    self.endpoint.stats.unanswered(self.elapsed(now), Ticks::of(now));
                }
                ejected
            }
            Outcome::Neutral => None,
        }
    }

    /// Ends the call because its caller waits no longer. The elapsed time is a lower bound of the
    /// latency, unless it was [answered](Self::answered). A call that took at least a second and
    /// ten times the expected latency counts as a failure; then this returns the ejection that it
    /// has caused.
    pub fn abandon(mut self, now: Duration) -> Option<Ejected> {
        let ticks = Ticks::of(now);
        let is_failure =
            !self.is_answered && self.endpoint.stats.unanswered(self.elapsed(now), ticks);
        if is_failure { self.fail(ticks) } else { None }
    }

    fn fail(&mut self, now: Ticks) -> Option<Ejected> {
        let stats = &self.endpoint.stats;
        let failures = stats.failed(now);
        let shared = self.shared.upgrade()?;
        let ejection = shared.ejection.as_ref()?;
        // Of a half-open endpoint the failure of its probe is enough.
        if failures < ejection.failures && self.probe.is_none() {
            return None;
        }
        if !shared.may_eject(now) {
            // It looks slow now, so it takes calls only when the others are worse. Half-open it
            // would come first.
            if let Some(probe) = self.probe.take() {
                stats.ejection.readmit(probe);
            }
            return None;
        }
        let duration = stats.ejection.eject(ejection, shared.jitter(), now)?;
        Some(Ejected { failures, duration })
    }

    fn elapsed(&self, now: Duration) -> Duration {
        now.saturating_sub(self.begun)
    }
}

impl<K, T> Drop for Ticket<K, T> {
    fn drop(&mut self) {
        let stats = &self.endpoint.stats;
        if let Some(probe) = self.probe.take() {
            stats.ejection.release(probe);
        }
        stats.end();
    }
}

impl<K: fmt::Debug, T> fmt::Debug for Ticket<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("key", self.key()).finish_non_exhaustive()
    }
}
