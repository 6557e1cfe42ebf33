//! The table at the end: what was benchmarked, once more, in pairs.

use super::session::{CROWDED, OTHERS, Session, WORKS};
use anyhow::Result;
use comparison::facts::{Stolen, machine};
use comparison::paired::{self, Comparison, Plan};
use comparison::stores::Store;
use comparison::table::Table;
use comparison::work::{Contender, Lane, Work, mem_with_others, record_len};
use std::time::Duration;

/// How long a row takes.
const PLAN: Plan = Plan { rounds: 7, round: Duration::from_millis(300), turns: 3, batch: 1 };

/// In memory many operations are timed at once: one takes as long as a few looks at the clock.
const IN_MEMORY: Plan = Plan { batch: 100, ..PLAN };

/// Prints what the filter left. Nothing, if that is nothing.
pub(crate) fn print(session: &Session, before: Option<Stolen>) -> Result<()> {
    if session.done.is_empty() && session.done_crowded.is_empty() {
        return Ok(());
    }
    println!("\nPaired runs: ours and raw take turns at every operation, {} rounds.", PLAN.rounds);
    println!("On a shared machine absolute times mean little, and ratios more. A/A is the raw");
    println!("client against itself: a ratio no further from 1 than that is no difference.\n");
    let stores = session.runtime.block_on(stores(session))?;
    let crowds = session.runtime.block_on(crowds(session))?;
    println!("machine: {}{}", machine(), stolen(before));
    println!(
        "client:  one thread, one process; nothing is pinned; records of {} bytes",
        record_len()?
    );
    for stand in &session.stands {
        println!("{:<8} {}", format!("{}:", stand.store.name()), stand.server);
    }
    for table in [stores, crowds] {
        if !table.is_empty() {
            println!("\n{table}");
        }
    }
    Ok(())
}

async fn stores(session: &Session) -> Result<Table> {
    let mut table = Table::new("ours", "raw");
    for work in WORKS {
        for stand in &session.stands {
            let (store, ours) = (stand.store, &*stand.ours);
            if !session.done.contains(&(work, store)) {
                continue;
            }
            let plan = if store == Store::Mem { IN_MEMORY } else { PLAN };
            match stand.raw.as_deref() {
                Some(raw) => {
                    let figures = compare(ours, [raw, raw], work, plan).await?;
                    table.add(work, store.name(), &figures);
                }
                None => table.add_alone(work, store.name(), measure(ours, work, plan).await?),
            }
        }
    }
    Ok(table)
}

async fn crowds(session: &Session) -> Result<Table> {
    let [none, many] = OTHERS;
    let mut table = Table::new(&format!("{many} others"), &format!("{none} others"));
    for work in CROWDED.into_iter().filter(|work| session.done_crowded.contains(work)) {
        let (within, without) = (mem_with_others(many).await?, mem_with_others(none).await?);
        // Two registries are never the same in where they lie in memory: A/A shows what that makes.
        let another = mem_with_others(none).await?;
        table.add(work, "mem", &compare(&within, [&without, &another], work, IN_MEMORY).await?);
    }
    Ok(table)
}

/// The first against the second, and the second against one that is the same.
async fn compare(
    first: &dyn Contender,
    [second, again]: [&dyn Contender; 2],
    work: Work,
    plan: Plan,
) -> Result<Comparison> {
    let mut first = Lane::prepare("the first", first, work).await?;
    let mut second = Lane::prepare("the second", second, work).await?;
    let mut again = Lane::prepare("the second, again", again, work).await?;
    let figures = paired::compare(&mut first, &mut second, &mut again, plan).await?;
    for lane in [first, second, again] {
        lane.finish().await?;
    }
    Ok(figures)
}

async fn measure(only: &dyn Contender, work: Work, plan: Plan) -> Result<f64> {
    let mut only = Lane::prepare("the only", only, work).await?;
    let figure = paired::measure(&mut only, plan).await?;
    only.finish().await?;
    Ok(figure)
}

fn stolen(before: Option<Stolen>) -> String {
    let share = before.zip(Stolen::now()).map(|(before, now)| now.since(before));
    share.map_or_else(String::new, |share| format!(", {share:.1} % of the time stolen by others"))
}
