//! The suite as tests that `cargo test` and nextest run.

use super::faults::Strike;
use super::scene::Scene;
use super::{Arena, Fault, Terms, owners, viewers};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::time::timeout;

/// How long one trial may take. Of a paused clock it is no time at all.
const LIMIT: Duration = Duration::from_secs(100);
const PAUSED_LIMIT: Duration = Duration::from_secs(3_600);

/// A trial that is the same for every store.
type Run = fn(Scene) -> BoxFuture<'static, ()>;

/// Names scenarios, each a function of its module, and the faults of ways they strike with.
macro_rules! scenarios {
    ($($module:ident { $($name:ident $([$($fault:ident),*])?),* $(,)? })*) => {
        const SCENARIOS: &[(&str, &[Fault], Run)] = &[$($((
            concat!(stringify!($module), "::", stringify!($name)),
            &[$($(Fault::$fault),*)?],
            |scene| $module::$name(scene).boxed(),
        )),*),*];
    };
}

scenarios! {
    owners {
        a_restart_of_a_publisher_under_its_old_id_takes_over,
        two_holders_of_one_id_do_not_fight,
        a_crashed_publisher_disappears_by_its_ttl,
        a_start_fails_in_time_when_the_store_is_away [Outage, Silence, LostReplies],
        a_registration_started_in_the_background_during_an_outage_is_active_after_it [Outage],
    }
    viewers {
        an_explicit_stop_of_the_last_instance_is_seen_at_once,
        a_drain_is_seen_before_the_removal,
        a_view_opened_during_an_outage_becomes_live_after_it [Outage],
        updates_fold_to_the_truth,
    }
}

/// Runs every trial that the terms allow, each on an arena of its own that `open` makes. This is the
/// `main` of a test with `harness = false`:
///
/// ```no_run
/// use registry_testkit::Traits;
/// use registry_testbed::engine::{Arena, Fault, Side, Terms, suite};
/// use std::process::ExitCode;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// async fn my_store() -> Result<Arc<dyn Arena>, String> {
///     Err("start a server and connect to it, by a proxy for each side".into())
/// }
///
/// fn main() -> ExitCode {
///     let faults = &[(Fault::Outage, &[Side::Publisher, Side::Subscriber, Side::Both] as &[_])];
///     let call = Duration::from_secs(5);
///     suite(&Terms::new(Traits::memory(), call, Duration::ZERO, faults), my_store)
/// }
/// ```
///
/// An error of `open`, such as a server that is missing, fails the trial with its text.
pub fn suite<O, F>(terms: &Terms, open: O) -> ExitCode
where
    O: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = Result<Arc<dyn Arena>, String>>,
{
    let mut trials = Vec::new();
    for strike in Strike::all(terms) {
        let (terms, open) = (terms.clone(), open.clone());
        trials.push(Trial::test(strike.name(), move || {
            play(&terms, &open, |arena| strike.run(arena, terms.clone()))
        }));
    }
    for (name, faults, run) in SCENARIOS {
        // A store on whose ways nobody stands suffers none of theirs.
        if !faults.iter().all(|fault| terms.faults.iter().any(|(other, _)| other == fault)) {
            continue;
        }
        let (terms, open) = (terms.clone(), open.clone());
        trials.push(Trial::test(*name, move || {
            play(&terms, &open, |arena| async { run(Scene::new(arena, terms.clone()).await).await })
        }));
    }
    for seed in terms.seeds.clone() {
        let (terms, open) = (terms.clone(), open.clone());
        trials.push(Trial::test(format!("random::faults_of_seed_{seed:02}"), move || {
            play(&terms, &open, |arena| async {
                // Only a store in memory is rolled back at random.
                let keeps_history = terms.traits.remote;
                let scene = Scene::with_history(arena, terms.clone(), keeps_history).await;
                viewers::random_faults(scene, seed).await;
            })
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs one trial on a runtime and an arena of its own.
fn play<O, F, R, T>(terms: &Terms, open: &O, run: R) -> Result<(), Failed>
where
    O: Fn() -> F,
    F: Future<Output = Result<Arc<dyn Arena>, String>>,
    R: FnOnce(Arc<dyn Arena>) -> T,
    T: Future<Output = ()>,
{
    let paused = terms.traits.paused_clock;
    let runtime = Builder::new_current_thread().enable_all().start_paused(paused).build()?;
    runtime.block_on(async {
        let arena = open().await?;
        let limit = if paused { PAUSED_LIMIT } else { LIMIT };
        timeout(limit, Box::pin(run(arena))).await.map_err(|_| "the trial takes too long")?;
        Ok(())
    })
}
