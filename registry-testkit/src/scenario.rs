//! One clause of a law, as a test.

use crate::lag::{self, Lag};
use crate::{Case, Subject, Traits};
use futures_util::future::BoxFuture;
use registry_core::MAX_TTL;
use std::time::Duration;

/// How long one scenario may take, the lag aside.
const LIMIT: Duration = Duration::from_secs(100);

/// A scenario: it panics if the store does not do what it must.
pub(crate) type Run = for<'a> fn(Case<'a>) -> BoxFuture<'a, ()>;

/// One clause of a law, as a test.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) applies: fn(&Traits) -> bool,
    pub(crate) run: Run,
}

impl Scenario {
    /// The law and the clause: `takeover::without_takeover_it_is_superseded`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs it over `subject`, on the runtime of the caller. Time bounds are put off by `lag`.
    ///
    /// # Panics
    ///
    /// If the store does not do what the clause says, or takes too long.
    pub async fn run(&self, subject: &dyn Subject, traits: Traits, lag: Lag) {
        let run = (self.run)(Case::new(subject, traits, lag));
        // A paused clock passes a long wait at once.
        let limit = if traits.paused_clock { LIMIT + MAX_TTL } else { LIMIT };
        lag::timeout(limit, run).await.expect("the scenario takes too long");
    }
}
