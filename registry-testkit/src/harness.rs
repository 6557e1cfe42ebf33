//! Turns the kit into tests that `cargo test` and nextest run.

use crate::{Subject, Traits, lockstep, scenarios};
use libtest_mimic::{Arguments, Failed, Trial};
use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// Runs every scenario that applies, each over a subject of its own that `open` makes. This is the
/// `main` of a test with `harness = false`:
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
/// An error of `open`, such as a server that is missing, fails the test with its text.
pub fn conformance<O, F>(traits: Traits, open: O) -> ExitCode
where
    O: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = Result<Arc<dyn Subject>, String>>,
{
    let applicable = scenarios::all().filter(|scenario| (scenario.applies)(&traits));
    let mut trials: Vec<Trial> = applicable
        .map(|scenario| {
            let open = open.clone();
            Trial::test(scenario.name, move || {
                runtime(traits)?.block_on(async {
                    let subject = open().await?;
                    scenario.run(&*subject, traits).await;
                    Ok(())
                })
            })
        })
        .collect();
    trials.push(Trial::test("lockstep::random_operations_do_as_the_model_does", move || {
        lockstep(traits, &open)
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Random runs over one subject, a failing one shrunk to the shortest that still fails.
fn lockstep<O, F>(traits: Traits, open: &O) -> Result<(), Failed>
where
    O: Fn() -> F,
    F: Future<Output = Result<Arc<dyn Subject>, String>>,
{
    let runtime = runtime(traits)?;
    // The end of a subject may need a runtime too, as that of a server in a container does.
    let _inside = runtime.enter();
    let subject = runtime.block_on(open())?;
    let mut runs = TestRunner::new(Config {
        cases: traits.lockstep_runs,
        failure_persistence: None,
        ..Config::default()
    });
    let run = Cell::new(0_u32);
    let outcome = runs.run(&vec(lockstep::op(), 0..lockstep::MAX_OPS), |ops| {
        run.set(run.get() + 1);
        runtime.block_on(lockstep::check(&*subject, traits, &format!("run-{}", run.get()), &ops));
        Ok(())
    });
    outcome.map_err(|failure| failure.to_string().into())
}

fn runtime(traits: Traits) -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().start_paused(traits.paused_clock).build()
}
