//! A test of one clause of a law.

use crate::lag::{self, Lag};
use crate::{Case, Subject, Traits};
use futures_util::future::BoxFuture;
use registry_core::MAX_TTL;
use std::time::Duration;

/// The timeout of a scenario. Scheduling lag extends it.
const LIMIT: Duration = Duration::from_secs(100);

/// The body of a scenario. It panics if the store violates the clause.
pub(crate) type Run = for<'a> fn(Case<'a>) -> BoxFuture<'a, ()>;

/// A test of one clause of a law.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) applies: fn(&Traits) -> bool,
    pub(crate) run: Run,
}

impl Scenario {
    /// Returns the law and the clause, such as `takeover::a_claim_without_takeover_is_superseded`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the scenario over `subject`, on the runtime of the caller. `lag` extends its time bounds.
    ///
    /// # Panics
    ///
    /// Panics if the store violates the clause or takes too long.
    pub async fn run(&self, subject: &dyn Subject, traits: Traits, lag: Lag) {
        let run = (self.run)(Case::new(subject, traits, lag));
        // On a paused clock a scenario may wait for the longest ttl, which takes no real time.
        let limit = if traits.paused_clock { LIMIT + MAX_TTL } else { LIMIT };
        lag::timeout(limit, run).await.expect("the scenario takes too long");
    }
}
