//! The time bounds of the suite, in one place. All follow from what the store states of itself.

use super::{Fault, Side};
use registry_engine::{Backoff, DiscoveryOptions, RegistrationOptions, Start};
use registry_testkit::Traits;
use std::ops::Range;
use std::time::Duration;

/// How the engine runs over a store in the suite.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SuiteOptions {
    /// What the store states of itself. Its ttl is that of all registrations and views.
    pub traits: Traits,
    /// How long a request may take: the deadline of the store, and the engine's.
    pub call_timeout: Duration,
    /// How long a watch may take to end after its connection went silent. Zero if it ends no later than
    /// the connection is healed.
    pub silence_timeout: Duration,
    /// The faults that the store can suffer, each on the sides on which it hits something.
    pub faults: &'static [(Fault, &'static [Side])],
    /// The seeds of the random runs, one a run.
    pub seeds: Range<u64>,
    /// How long a random run is.
    pub run: Duration,
}

impl SuiteOptions {
    /// Options for a store that can suffer `faults`, without random runs.
    pub fn new(
        traits: Traits,
        call_timeout: Duration,
        silence_timeout: Duration,
        faults: &'static [(Fault, &'static [Side])],
    ) -> Self {
        Self { traits, call_timeout, silence_timeout, faults, seeds: 0..0, run: Duration::ZERO }
    }

    /// Sets the random runs: a seed for each, and how long they are.
    #[must_use]
    pub fn with_random_runs(mut self, seeds: Range<u64>, run: Duration) -> Self {
        (self.seeds, self.run) = (seeds, run);
        self
    }

    /// The ttl of all registrations and views.
    pub fn ttl(&self) -> Duration {
        self.traits.ttl
    }

    /// The scheduling lag that a test tolerates: what a short fault leaves of the time to renew.
    pub fn tolerated_lag(&self) -> Duration {
        self.ttl() / 6
    }

    /// A backoff that leaves a third of a ttl for several tries.
    pub fn backoff(&self) -> Backoff {
        Backoff::new(self.ttl() / 100, self.ttl() / 10)
    }

    /// How long a short fault lasts. A registration that was renewed `1.1 * ttl / 3` before it, and
    /// retries `ttl / 10` after it, is in time by a sixth of the ttl.
    pub fn short_fault(&self) -> Duration {
        self.ttl() * 2 / 5
    }

    /// How long to give what happens once, and how long a server is away that is started again quickly.
    pub fn brief_fault(&self) -> Duration {
        self.ttl() / 10
    }

    /// How long a long fault lasts: leases that nobody renews are over, and a view that is hit knows.
    pub fn long_fault(&self, fault: Fault) -> Duration {
        let dead = self.ttl() * 3 / 2 + self.traits.grace;
        if fault.is_silent() { dead.max(self.silence_timeout + self.ttl()) } else { dead }
    }

    /// How long after a fault everything is as it was.
    ///
    /// For a registration: a call that hangs from before, the wait for the next, a presence check (made
    /// once per ttl by a renewal, a third of a ttl apart), and a call. For a view: a call that hangs
    /// and the wait for the next, two tries to resume and to load, and the owners' return. The later of the two is the
    /// view.
    pub fn recovery(&self) -> Duration {
        3 * self.call_timeout
            + 3 * self.backoff().max()
            + 2 * self.ttl()
            + self.ttl() / 2
            + self.traits.grace
    }

    /// How long a view retains an instance whose deletion nobody announced, if nothing else is wrong.
    pub fn hold_time(&self) -> Duration {
        (self.ttl() / 3).clamp(Duration::from_secs(1), Duration::from_secs(5))
            + Duration::from_secs(1)
    }

    /// How long it takes on a healthy store from one side to the other: a call, and a watch.
    pub fn propagation(&self) -> Duration {
        self.ttl() / 3
    }

    /// How long after the last renewal was acknowledged an instance may be listed: its ttl, the store's
    /// grace, and the way of the news.
    pub fn expiry(&self) -> Duration {
        self.ttl() + self.traits.grace + self.propagation()
    }

    /// How long until one of two holders of an id knows that it is superseded, or that it is alone: the
    /// presence check, or the question once per ttl, each a tenth more at most, and a call.
    pub fn conflict_detection(&self) -> Duration {
        self.ttl() * 3 / 2 + self.call_timeout
    }

    /// How the registrations of the suite are kept.
    pub fn registration(&self) -> RegistrationOptions {
        RegistrationOptions::default()
            .with_ttl(self.ttl())
            .with_start(Start::Within(self.recovery()))
            .with_backoff(self.backoff())
            .with_timeout(self.call_timeout)
            .with_stop_timeout(self.recovery())
    }

    /// How the views of the suite are kept.
    pub fn discovery(&self) -> DiscoveryOptions {
        DiscoveryOptions::default()
            .with_ttl(self.ttl())
            .with_backoff(self.backoff())
            .with_timeout(self.call_timeout)
    }
}
