//! How late it is seen that an instance is gone which nobody renews. That takes seconds each, so that
//! criterion has no part in it.

use super::session::{Session, WORKS};
use anyhow::Result;
use comparison::percentiles::{Latencies, Percentiles};
use comparison::work::{Contender, Dying};
use futures_util::future;
use std::env;
use std::time::Duration;

/// What to give as a filter to have only this.
const NAME: &str = "deaths";

/// How often it is done.
const ROUNDS: usize = 3;

/// The least ttl that every store takes is etcd's. It must be 1.5 s, and is told in whole seconds.
const DYING: Dying =
    Dying { count: 50, apart: Duration::from_millis(20), ttl: Duration::from_secs(2) };

/// Whether nothing was filtered out, or all but this.
pub(crate) fn are_asked_for(session: &Session) -> bool {
    let all = WORKS.len() * session.stores.len();
    session.done.works.len() == all || env::args().skip(1).any(|filter| filter == NAME)
}

/// Prints a row for each store and contender. All die at once: it takes no time but waiting.
pub(crate) async fn print(session: &Session) -> Result<()> {
    let ours = session.stands.iter().map(|stand| (stand, "ours", Some(&*stand.ours)));
    let raw = session.stands.iter().map(|stand| (stand, "raw", stand.raw.as_deref()));
    let who: Vec<_> = ours.chain(raw).filter_map(|(at, who, it)| Some((at, who, it?))).collect();
    let mut late = vec![Vec::new(); who.len()];
    for _ in 0..ROUNDS {
        let deaths = who.iter().map(|(_, _, it): &(_, _, &dyn Contender)| it.deaths(DYING));
        for (late, more) in late.iter_mut().zip(future::try_join_all(deaths).await?) {
            late.extend(more);
        }
    }
    let mut table = Percentiles::new();
    for ((stand, who, _), late) in who.iter().zip(late) {
        let late = Latencies::of(late.iter().map(Duration::as_secs_f64))?;
        table.add(NAME, stand.store.name(), who, &late)?;
    }
    let Dying { count, apart, ttl } = DYING;
    println!(
        "\nDeaths: {count} instances registered {apart:?} apart and never renewed, {ROUNDS} times. By how much"
    );
    println!(
        "longer than its ttl of {ttl:?} each was there, from before the call to the event in hand.\n"
    );
    print!("{table}");
    Ok(())
}
