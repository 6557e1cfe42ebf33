//! How late an expiry is seen. Each takes seconds, so criterion does not measure it.

use super::session::{Session, WORKLOADS};
use anyhow::Result;
use comparison::percentiles::{Latencies, Percentiles};
use comparison::workloads::{Contender, ExpiryPlan};
use futures_util::future;
use std::env;
use std::time::Duration;

/// The filter that selects only this.
const NAME: &str = "expiry";

/// How often it is repeated.
const ROUNDS: usize = 3;

/// The least ttl that every store takes is etcd's. It must be 1.5 s, in whole seconds.
const PLAN: ExpiryPlan =
    ExpiryPlan { count: 50, apart: Duration::from_millis(20), ttl: Duration::from_secs(2) };

/// Returns whether no filter was given, or this one.
pub(crate) fn is_selected(session: &Session) -> bool {
    let all = WORKLOADS.len() * session.stores.len();
    session.done.workloads.len() == all || env::args().skip(1).any(|filter| filter == NAME)
}

/// Prints a row for each store and contender. All expire at the same time, which costs only waiting.
pub(crate) async fn print(session: &Session) -> Result<()> {
    let ours = session.fixtures.iter().map(|fixture| (fixture, "ours", Some(&*fixture.ours)));
    let raw = session.fixtures.iter().map(|fixture| (fixture, "raw", fixture.raw.as_deref()));
    let arms: Vec<_> = ours.chain(raw).filter_map(|(at, arm, it)| Some((at, arm, it?))).collect();
    let mut late = vec![Vec::new(); arms.len()];
    for _ in 0..ROUNDS {
        let expirations =
            arms.iter().map(|(_, _, it): &(_, _, &dyn Contender)| it.expirations(PLAN));
        for (late, more) in late.iter_mut().zip(future::try_join_all(expirations).await?) {
            late.extend(more);
        }
    }
    let mut table = Percentiles::new();
    for ((fixture, arm, _), late) in arms.iter().zip(late) {
        let late = Latencies::of(late.iter().map(Duration::as_secs_f64))?;
        table.add(NAME, fixture.store.name(), arm, &late)?;
    }
    let ExpiryPlan { count, apart, ttl } = PLAN;
    println!(
        "\nExpiry: {count} instances registered {apart:?} apart and never renewed, {ROUNDS} times. How long"
    );
    println!("after its ttl of {ttl:?} each was seen to expire; the ttl starts before the call.\n");
    print!("{table}");
    Ok(())
}
