//! The time bounds of the suite. All are derived from the properties of the store.

use super::{Fault, Side};
use registry_engine::{Backoff, DiscoveryOptions, RegistrationOptions, Start};
use registry_testkit::Traits;
use std::ops::Range;
use std::time::Duration;

/// Options of the suite for a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SuiteOptions {
    /// The properties of the store. Its ttl is that of all registrations and views.
    pub traits: Traits,
    /// The timeout of a call, in the store and in the engine.
    pub call_timeout: Duration,
    /// The time after which a watch on a silent connection ends. Zero if it ends no later than when the connection
    /// is healed.
    pub silence_timeout: Duration,
    /// The faults that the store can suffer, with the sides on which each has an effect.
    pub faults: &'static [(Fault, &'static [Side])],
    /// The seeds of the random runs.
    pub seeds: Range<u64>,
    /// The length of a random run.
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

    /// Sets the seeds of the random runs, and their length.
    #[must_use]
    pub fn with_random_runs(mut self, seeds: Range<u64>, run: Duration) -> Self {
        (self.seeds, self.run) = (seeds, run);
        self
    }

    /// Returns the ttl of all registrations and views.
    pub fn ttl(&self) -> Duration {
        self.traits.ttl
    }

    /// Returns the scheduling lag that a test tolerates: the time to renew that a short fault leaves.
    pub fn tolerated_lag(&self) -> Duration {
        self.ttl() / 6
    }

    /// Returns a backoff that allows several attempts within a third of a ttl.
    pub fn backoff(&self) -> Backoff {
        Backoff::new(self.ttl() / 100, self.ttl() / 10)
    }

    /// Returns the length of a short fault. A registration that was renewed `1.1 * ttl / 3` before the fault, and
    /// retries `ttl / 10` after it, renews about a sixth of the ttl before its expiry.
    pub fn short_fault(&self) -> Duration {
        self.ttl() * 2 / 5
    }

    /// Returns the wait after an instantaneous fault, and the time after which a killed server is restarted.
    pub fn brief_fault(&self) -> Duration {
        self.ttl() / 10
    }

    /// Returns the length of a long fault: leases without renewals expire, and an affected view notices the fault.
    pub fn long_fault(&self, fault: Fault) -> Duration {
        let expired = self.ttl() * 3 / 2 + self.traits.grace;
        if fault.is_silent() { expired.max(self.silence_timeout + self.ttl()) } else { expired }
    }

    /// Returns the time within which everything recovers after a fault.
    ///
    /// A registration needs a hanging call, a backoff, a presence check (which a renewal makes once per ttl, a third
    /// of a ttl apart), and a call. A view needs more: a hanging call, a backoff, two attempts to resume and to load,
    /// and the return of the owners.
    pub fn recovery(&self) -> Duration {
        3 * self.call_timeout
            + 3 * self.backoff().max()
            + 2 * self.ttl()
            + self.ttl() / 2
            + self.traits.grace
    }

    /// Returns the time for which a view retains an instance that disappears without a withdrawal from a healthy store.
    pub fn hold_time(&self) -> Duration {
        (self.ttl() / 3).clamp(Duration::from_secs(1), Duration::from_secs(5))
            + Duration::from_secs(1)
    }

    /// Returns the time within which a change by one side reaches the other on a healthy store: a call and a watch.
    pub fn propagation(&self) -> Duration {
        self.ttl() / 3
    }

    /// Returns the time for which an instance may be listed after its last acknowledged renewal: the ttl, the store's
    /// grace, and the propagation.
    pub fn expiry(&self) -> Duration {
        self.ttl() + self.traits.grace + self.propagation()
    }

    /// Returns the time within which one of two claimants of an id notices that it is superseded, or that the id is
    /// vacant: the presence check or the retry, which is made once per ttl plus up to a tenth, and a call.
    pub fn conflict_detection(&self) -> Duration {
        self.ttl() * 3 / 2 + self.call_timeout
    }

    /// Returns the options of the suite's registrations.
    pub fn registration(&self) -> RegistrationOptions {
        RegistrationOptions::default()
            .with_ttl(self.ttl())
            .with_start(Start::Within(self.recovery()))
            .with_backoff(self.backoff())
            .with_timeout(self.call_timeout)
            .with_stop_timeout(self.recovery())
    }

    /// Returns the options of the suite's views.
    pub fn discovery(&self) -> DiscoveryOptions {
        DiscoveryOptions::default()
            .with_ttl(self.ttl())
            .with_backoff(self.backoff())
            .with_timeout(self.call_timeout)
    }
}
