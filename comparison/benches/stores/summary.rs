//! The tables at the end: what was benchmarked, once more, in pairs.

use super::session::{OTHERS, Session, WITH_OTHERS, WORKLOADS};
use super::{expiry, level};
use anyhow::Result;
use comparison::machine::{self, StealTime};
use comparison::paired::{self, Comparison, Plan, Round};
use comparison::percentiles::{Latencies, Percentiles};
use comparison::stores::{Store, StoreFixture};
use comparison::table::Table;
use comparison::workloads::{Contender, Runner, Workload, mem_with_others, record_len};
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
pub(crate) fn print(session: &Session, before: Option<StealTime>) -> Result<()> {
    let with_expiry = expiry::is_selected(session);
    if session.done.is_empty() && !with_expiry {
        return Ok(());
    }
    println!("\nPaired runs: ours and raw take turns at every operation, {} rounds.", PLAN.rounds);
    println!("On a shared machine absolute times mean little, and ratios more. A/A is the raw");
    println!("client against itself: a ratio no further from 1 than that is no difference.\n");
    let stores = session.runtime.block_on(stores(session))?;
    let with_others = session.runtime.block_on(with_others(session))?;
    println!("machine: {}", machine::describe());
    println!(
        "client:  one thread, one process; nothing is pinned; records of {} bytes",
        record_len()?
    );
    for fixture in &session.fixtures {
        println!("{:<8} {}", format!("{}:", fixture.store.name()), fixture.server);
    }
    if !stores.is_empty() {
        print!("\n{stores}");
        print_notes(session);
    }
    if !with_others.is_empty() {
        print!("\n{with_others}");
    }
    session.runtime.block_on(level::print(session))?;
    if with_expiry {
        session.runtime.block_on(expiry::print(session))?;
    }
    if let Some((before, now)) = before.zip(StealTime::now()) {
        println!("\n{:.1} % of the time was stolen by other machines", now.since(before));
    }
    Ok(())
}

/// Prints notes for figures that would look wrong.
fn print_notes(session: &Session) {
    if session.done.workloads.iter().any(|(_, store)| *store == Store::Mem) {
        println!(
            "mem: in the second table a look at the clock, some tens of ns, is part of each time"
        );
    }
    if session.done.workloads.contains(&(Workload::Resync(100), Store::Etcd)) {
        println!(
            "resync, etcd: etcd reports to raw when it checks old watches, every 100 ms; ours reads"
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

/// Measures `workload` on a store, ours beside raw where there is one, and adds what came out.
pub(crate) async fn add(
    tables: &mut Tables,
    fixture: &StoreFixture,
    workload: Workload,
    plan: Plan,
) -> Result<()> {
    let (store, ours) = (fixture.store.name(), &*fixture.ours);
    let Some(raw) = fixture.raw.as_deref() else {
        let mut only = Runner::prepare("the only", ours, workload).await?;
        let seconds = paired::measure(&mut only, plan).await?;
        let singly = paired::rounds_alone(&mut only, ONE_BY_ONE).await?;
        only.finish().await?;
        tables.ratios.add_alone(workload, store, seconds);
        let latencies = Latencies::of(singly.into_iter().flatten())?;
        return tables.percentiles.add(workload, store, "ours", &latencies);
    };
    let rounds = rounds(ours, [raw, raw], workload, plan).await?;
    tables.ratios.add(workload, store, &Comparison::new(&rounds));
    for (n, arm) in ["ours", "raw"].into_iter().enumerate() {
        let latencies =
            Latencies::of(rounds.iter().flat_map(|round| round.pair[n].iter().copied()))?;
        tables.percentiles.add(workload, store, arm, &latencies)?;
    }
    Ok(())
}

/// The first against the second, and the second against one that is the same.
pub(crate) async fn rounds(
    first: &dyn Contender,
    [second, again]: [&dyn Contender; 2],
    workload: Workload,
    plan: Plan,
) -> Result<Vec<Round>> {
    let mut first = Runner::prepare("the first", first, workload).await?;
    let mut second = Runner::prepare("the second", second, workload).await?;
    let mut again = Runner::prepare("the second, again", again, workload).await?;
    let rounds = paired::rounds(&mut first, &mut second, &mut again, plan).await?;
    for runner in [first, second, again] {
        runner.finish().await?;
    }
    Ok(rounds)
}

async fn stores(session: &Session) -> Result<Tables> {
    let mut tables = Tables::new("ours", "raw");
    for workload in WORKLOADS {
        for fixture in &session.fixtures {
            if session.done.workloads.contains(&(workload, fixture.store)) {
                let plan = if fixture.store == Store::Mem { IN_MEMORY } else { PLAN };
                add(&mut tables, fixture, workload, plan).await?;
            }
        }
    }
    Ok(tables)
}

async fn with_others(session: &Session) -> Result<Table> {
    let [none, many] = OTHERS;
    let mut table = Table::new(&format!("{many} others"), &format!("{none} others"));
    for workload in
        WITH_OTHERS.into_iter().filter(|workload| session.done.with_others.contains(workload))
    {
        let (within, without) = (mem_with_others(many).await?, mem_with_others(none).await?);
        // Two registries are never the same in where they lie in memory: A/A shows what that makes.
        let another = mem_with_others(none).await?;
        let rounds = rounds(&within, [&without, &another], workload, IN_MEMORY).await?;
        table.add(workload, "mem", &Comparison::new(&rounds));
    }
    Ok(table)
}
