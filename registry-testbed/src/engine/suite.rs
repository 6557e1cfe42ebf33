//! The test harness of the suite, for `cargo test` and nextest.

use super::faults::FaultScenario;
use super::fixture::Fixture;
use super::{Environment, Fault, SuiteOptions, registrations, views};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use registry_testkit::lag::{self, Lag, tolerating};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::time::timeout;

/// The timeout of a test, which scheduling lag extends. A paused clock allows more, since waits take no real time.
const LIMIT: Duration = Duration::from_secs(100);
const PAUSED_LIMIT: Duration = Duration::from_secs(3_600);

/// A test that is the same for every store.
type Run = fn(Fixture) -> BoxFuture<'static, ()>;

/// Lists tests, which are functions of their modules, with the faults that they need.
macro_rules! scenarios {
    ($($module:ident { $($name:ident $([$($fault:ident),*])?),* $(,)? })*) => {
        const SCENARIOS: &[(&str, &[Fault], Run)] = &[$($((
            concat!(stringify!($module), "::", stringify!($name)),
            &[$($(Fault::$fault),*)?],
            |fixture| $module::$name(fixture).boxed(),
        )),*),*];
    };
}

scenarios! {
    registrations {
        a_restarted_publisher_takes_over_its_id,
        a_superseded_claim_that_retries_does_not_displace_the_holder,
        an_older_incarnation_with_delayed_replies_does_not_displace_a_newer_one [Delay],
        a_crashed_publisher_is_removed_at_its_ttl,
        leases_survive_outages_that_leave_time_for_a_renewal [Outage],
        deleted_records_are_registered_again_before_the_next_renewal [Deletion],
        records_of_revoked_leases_are_registered_again_before_the_next_renewal [Revocation],
        a_start_fails_in_time_if_the_store_is_unreachable [Outage, Silence, LostReplies],
        a_registration_started_in_the_background_during_an_outage_is_active_after_it [Outage],
    }
    views {
        a_withdrawal_of_the_last_instance_is_seen_at_once,
        a_drain_is_seen_before_the_removal,
        a_view_opened_during_an_outage_becomes_live_after_it [Outage],
        updates_fold_to_the_stored_state,
    }
}

/// Runs every test that the options allow, each in its own environment from `open`. Use it as the `main` of a
/// test with `harness = false`:
///
/// ```no_run
/// use registry_testkit::Traits;
/// use registry_testbed::engine::{Environment, Fault, Side, SuiteOptions, suite};
/// use std::process::ExitCode;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// async fn my_store() -> Result<Arc<dyn Environment>, String> {
///     Err("start a server and connect to it, by a proxy for each side".into())
/// }
///
/// fn main() -> ExitCode {
///     let faults = &[(Fault::Outage, &[Side::Publisher, Side::Subscriber, Side::Both] as &[_])];
///     let call = Duration::from_secs(5);
///     suite(&SuiteOptions::new(Traits::memory(), call, Duration::ZERO, faults), my_store)
/// }
/// ```
///
/// An error of `open`, such as a missing server, fails the test with its text.
pub fn suite<O, F>(options: &SuiteOptions, open: O) -> ExitCode
where
    O: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = Result<Arc<dyn Environment>, String>>,
{
    let mut trials = Vec::new();
    for scenario in FaultScenario::all(options) {
        let (options, open) = (options.clone(), open.clone());
        trials.push(Trial::test(scenario.name(), move || {
            run_trial(&options, &open, |environment, lag| {
                scenario.run(environment, options.clone(), lag)
            })
        }));
    }
    for (name, faults, run) in SCENARIOS {
        // Skip tests whose faults the store cannot suffer, such as network faults without a proxy.
        if !faults.iter().all(|fault| options.faults.iter().any(|(other, _)| other == fault)) {
            continue;
        }
        let (options, open) = (options.clone(), open.clone());
        trials.push(Trial::test(*name, move || {
            run_trial(&options, &open, |environment, lag| async {
                run(Fixture::new(environment, options.clone(), lag).await).await;
            })
        }));
    }
    for seed in options.seeds.clone() {
        let (options, open) = (options.clone(), open.clone());
        trials.push(Trial::test(format!("random::faults_of_seed_{seed:02}"), move || {
            run_trial(&options, &open, |environment, lag| async {
                // Random faults roll back only a store in memory.
                let keeps_history = options.traits.remote;
                let fixture =
                    Fixture::with_history(environment, options.clone(), lag, keeps_history).await;
                views::random_faults(fixture, seed).await;
            })
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs one test on its own runtime and in its own environment.
fn run_trial<O, F, R, T>(options: &SuiteOptions, open: &O, run: R) -> Result<(), Failed>
where
    O: Fn() -> F,
    F: Future<Output = Result<Arc<dyn Environment>, String>>,
    R: Fn(Arc<dyn Environment>, Lag) -> T,
    T: Future<Output = ()>,
{
    if options.traits.paused_clock {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build()?;
        return runtime.block_on(async {
            let run = run(open().await?, Lag::start(Duration::ZERO));
            Ok(timeout(PAUSED_LIMIT, Box::pin(run)).await?)
        });
    }
    tolerating(options.tolerated_lag(), async |lag| {
        let environment = open().await.unwrap_or_else(|error| panic!("{error}"));
        let run = lag::timeout(LIMIT, Box::pin(run(environment, lag)));
        run.await.expect("the test takes too long");
    });
    Ok(())
}
