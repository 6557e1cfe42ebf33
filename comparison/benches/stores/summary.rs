//! The tables at the end: what was benchmarked, once more, in pairs.

use super::session::{CROWDED, OTHERS, Session, WORKS};
use super::{deaths, level};
use anyhow::Result;
use comparison::facts::{Stolen, machine};
use comparison::paired::{self, Comparison, Plan, Round};
use comparison::percentiles::{Latencies, Percentiles};
use comparison::stores::{Stand, Store};
use comparison::table::Table;
use comparison::work::{Contender, Lane, Work, mem_with_others, record_len};
use std::fmt;
use std::time::Duration;

/// How long a row takes.
pub(crate) const PLAN: Plan =
    Plan { rounds: 7, round: Duration::from_millis(300), turns: 3, batch: 1 };

/// In memory many operations are timed at once: one takes as long as a few looks at the clock.
const IN_MEMORY: Plan = Plan { batch: 100, ..PLAN };

/// For the percentiles each must be timed for itself all the same.
const ONE_BY_ONE: Plan = Plan { rounds: 1, ..PLAN };

/// Prints what the filter left. Nothing, if that is nothing.
pub(crate) fn print(session: &Session, before: Option<Stolen>) -> Result<()> {
    let dying = deaths::are_asked_for(session);
    if session.done.is_empty() && !dying {
        return Ok(());
    }
    println!("\nPaired runs: ours and raw take turns at every operation, {} rounds.", PLAN.rounds);
    println!("On a shared machine absolute times mean little, and ratios more. A/A is the raw");
    println!("client against itself: a ratio no further from 1 than that is no difference.\n");
    let stores = session.runtime.block_on(stores(session))?;
    let crowds = session.runtime.block_on(crowds(session))?;
    println!("machine: {}", machine());
    println!(
        "client:  one thread, one process; nothing is pinned; records of {} bytes",
        record_len()?
    );
    for stand in &session.stands {
        println!("{:<8} {}", format!("{}:", stand.store.name()), stand.server);
    }
    if !stores.is_empty() {
        print!("\n{stores}");
        print_notes(session);
    }
    if !crowds.is_empty() {
        print!("\n{crowds}");
    }
    session.runtime.block_on(level::print(session))?;
    if dying {
        session.runtime.block_on(deaths::print(session))?;
    }
    if let Some((before, now)) = before.zip(Stolen::now()) {
        println!("\n{:.1} % of the time was stolen by other machines", now.since(before));
    }
    Ok(())
}

/// What would look absurd without a word.
fn print_notes(session: &Session) {
    if session.done.works.iter().any(|(_, store)| *store == Store::Mem) {
        println!(
            "mem: in the second table a look at the clock, some tens of ns, is part of each time"
        );
    }
    if session.done.works.contains(&(Work::Resync(100), Store::Etcd)) {
        println!(
            "resync, etcd: raw is told when etcd looks after old watches, every 100 ms; ours asks"
        );
    }
}

/// The ratios, and the percentiles of the same operations.
pub(crate) struct Tables {
    ratios: Table,
    percentiles: Percentiles,
}

impl Tables {
    /// Of two things compared.
    pub(crate) fn new(first: &str, second: &str) -> Self {
        Self { ratios: Table::new(first, second), percentiles: Percentiles::new() }
    }

    fn is_empty(&self) -> bool {
        self.ratios.is_empty()
    }
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.ratios, self.percentiles)
    }
}

/// Measures `work` on a store, ours beside raw where there is one, and adds what came out.
pub(crate) async fn add(tables: &mut Tables, stand: &Stand, work: Work, plan: Plan) -> Result<()> {
    let (store, ours) = (stand.store.name(), &*stand.ours);
    let Some(raw) = stand.raw.as_deref() else {
        let mut only = Lane::prepare("the only", ours, work).await?;
        let seconds = paired::measure(&mut only, plan).await?;
        let singly = paired::rounds_alone(&mut only, ONE_BY_ONE).await?;
        only.finish().await?;
        tables.ratios.add_alone(work, store, seconds);
        let latencies = Latencies::of(singly.into_iter().flatten())?;
        return tables.percentiles.add(work, store, "ours", &latencies);
    };
    let rounds = rounds(ours, [raw, raw], work, plan).await?;
    tables.ratios.add(work, store, &Comparison::new(&rounds));
    for (n, who) in ["ours", "raw"].into_iter().enumerate() {
        let latencies =
            Latencies::of(rounds.iter().flat_map(|round| round.pair[n].iter().copied()))?;
        tables.percentiles.add(work, store, who, &latencies)?;
    }
    Ok(())
}

/// The first against the second, and the second against one that is the same.
pub(crate) async fn rounds(
    first: &dyn Contender,
    [second, again]: [&dyn Contender; 2],
    work: Work,
    plan: Plan,
) -> Result<Vec<Round>> {
    let mut first = Lane::prepare("the first", first, work).await?;
    let mut second = Lane::prepare("the second", second, work).await?;
    let mut again = Lane::prepare("the second, again", again, work).await?;
    let rounds = paired::rounds(&mut first, &mut second, &mut again, plan).await?;
    for lane in [first, second, again] {
        lane.finish().await?;
    }
    Ok(rounds)
}

async fn stores(session: &Session) -> Result<Tables> {
    let mut tables = Tables::new("ours", "raw");
    for work in WORKS {
        for stand in &session.stands {
            if session.done.works.contains(&(work, stand.store)) {
                let plan = if stand.store == Store::Mem { IN_MEMORY } else { PLAN };
                add(&mut tables, stand, work, plan).await?;
            }
        }
    }
    Ok(tables)
}

async fn crowds(session: &Session) -> Result<Table> {
    let [none, many] = OTHERS;
    let mut table = Table::new(&format!("{many} others"), &format!("{none} others"));
    for work in CROWDED.into_iter().filter(|work| session.done.crowded.contains(work)) {
        let (within, without) = (mem_with_others(many).await?, mem_with_others(none).await?);
        // Two registries are never the same in where they lie in memory: A/A shows what that makes.
        let another = mem_with_others(none).await?;
        let rounds = rounds(&within, [&without, &another], work, IN_MEMORY).await?;
        table.add(work, "mem", &Comparison::new(&rounds));
    }
    Ok(table)
}
