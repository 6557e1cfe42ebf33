//! The test harness: runs the kit under `cargo test` and nextest.

use crate::lag::{Lag, tolerating_blocking};
use crate::{Subject, Traits, lockstep, scenarios};
use libtest_mimic::{Arguments, Trial};
use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// The variable with the number of random runs of the lockstep test. Each run has up to 60 operations.
const LOCKSTEP_RUNS: &str = "REGISTRY_TESTKIT_LOCKSTEP_RUNS";

/// Runs every scenario that applies, each over its own subject from `open`. Use it as the `main` of a
/// test with `harness = false`:
///
/// ```no_run
/// use registry_testkit::{Subject, Traits, conformance};
/// use std::process::ExitCode;
/// use std::sync::Arc;
///
/// async fn my_store() -> Result<Arc<dyn Subject>, String> {
///     Err("start a server and connect to it".into())
/// }
///
/// fn main() -> ExitCode {
///     conformance(Traits::memory(), my_store)
/// }
/// ```
///
/// The variable `REGISTRY_TESTKIT_LOCKSTEP_RUNS` overrides the number of random runs in lockstep with the model.
///
/// An error of `open`, such as a missing server, fails the test with its text. On a real clock, a run that fails
/// with too much scheduling lag is invalid and [repeated](crate::lag::tolerating).
pub fn conformance<O, F>(traits: Traits, open: O) -> ExitCode
where
    O: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = Result<Arc<dyn Subject>, String>>,
{
    let applicable = scenarios::all().filter(|scenario| (scenario.applies)(&traits));
    for name in traits.pending {
        assert!(
            scenarios::all().any(|scenario| scenario.name == *name),
            "`Traits::pending` names an unknown scenario: {name}"
        );
    }
    let mut trials: Vec<Trial> = applicable
        .map(|scenario| {
            let open = open.clone();
            let trial = Trial::test(scenario.name, move || {
                run(traits, |lag| {
                    runtime(traits).block_on(async {
                        let subject = open().await.unwrap_or_else(|error| panic!("{error}"));
                        scenario.run(&*subject, traits, lag).await;
                    });
                });
                Ok(())
            });
            trial.with_ignored_flag(traits.pending.contains(&scenario.name))
        })
        .collect();
    trials.push(Trial::test("lockstep::random_operations_match_the_model", move || {
        run(traits, |_| lockstep(traits, &open));
        Ok(())
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs a test, and repeats it if it fails with too much lag. Lag does not matter on a paused clock.
fn run(traits: Traits, test: impl Fn(Lag)) {
    if traits.paused_clock {
        return test(Lag::start(Duration::ZERO));
    }
    tolerating_blocking(traits.tolerated_lag(), test);
}

/// Makes random runs over one subject. Shrinks a failing run to the shortest one that still fails.
fn lockstep<O, F>(traits: Traits, open: &O)
where
    O: Fn() -> F,
    F: Future<Output = Result<Arc<dyn Subject>, String>>,
{
    let runtime = runtime(traits);
    // Dropping a subject may need a runtime, for example to stop a container.
    let _inside = runtime.enter();
    let subject = runtime.block_on(open()).unwrap_or_else(|error| panic!("{error}"));
    let mut runs = TestRunner::new(Config {
        cases: lockstep_runs(traits),
        failure_persistence: None,
        ..Config::default()
    });
    let run = Cell::new(0_u32);
    let outcome = runs.run(&vec(lockstep::op(), 0..lockstep::MAX_OPS), |ops| {
        run.set(run.get() + 1);
        runtime.block_on(lockstep::check(&*subject, traits, &format!("run-{}", run.get()), &ops));
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Returns the number of runs of the lockstep test: [`LOCKSTEP_RUNS`], or the default of `traits`.
///
/// # Panics
///
/// Panics if the variable is not a number.
fn lockstep_runs(traits: Traits) -> u32 {
    match std::env::var(LOCKSTEP_RUNS) {
        Ok(runs) => runs
            .parse()
            .unwrap_or_else(|_| panic!("{LOCKSTEP_RUNS} must be a number, got=`{runs}`")),
        Err(_) => traits.lockstep_runs,
    }
}

fn runtime(traits: Traits) -> Runtime {
    let mut runtime = Builder::new_current_thread();
    runtime.enable_all().start_paused(traits.paused_clock).build().unwrap()
}
