//! The tables at the end: what was benchmarked, once more, in pairs.

use super::level;
use super::session::{OTHERS, Session, WITH_OTHERS, WORKLOADS};
use anyhow::Result;
use comparison::harness::{
    Comparison, Latencies, Plan, Progress, Ratios, StealTime, Store, StoreFixture, Table, contend,
    machine, paired,
};
use comparison::workloads::{Contender, ExpiryPlan, Runner, Workload, mem_with_others, record_len};
use futures_util::future::try_join_all;
use std::time::Duration;
use std::{env, fmt};

/// How long a row takes.
pub(crate) const PLAN: Plan =
    Plan { rounds: 7, round: Duration::from_millis(300), turns: 3, batch: 1 };

/// In memory many operations are timed at once: one takes as long as a few looks at the clock.
const IN_MEMORY: Plan = Plan { batch: 100, ..PLAN };

/// For the percentiles each must be timed for itself all the same.
const ONE_BY_ONE: Plan = Plan { rounds: 1, ..PLAN };

/// Prints what the filter left. Nothing, if that is nothing.
pub(crate) fn print(session: &Session, before: Option<StealTime>) -> Result<()> {
    let with_expiry = is_expiry_selected(session);
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
        session.runtime.block_on(print_expiry(session))?;
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
    ratios: Ratios,
    percentiles: Table,
}

impl Tables {
    /// Of two things compared.
    pub(crate) fn new(first: &str, second: &str) -> Self {
        Self { ratios: Ratios::new(first, second), percentiles: Table::percentiles() }
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
        return tables.percentiles.add_latencies(workload, store, "ours", &latencies);
    };
    let rounds = contend([ours, raw, raw], workload, plan).await?;
    tables.ratios.add(workload, store, &Comparison::new(&rounds));
    for (n, arm) in ["ours", "raw"].into_iter().enumerate() {
        let latencies =
            Latencies::of(rounds.iter().flat_map(|round| round.pair[n].iter().copied()))?;
        tables.percentiles.add_latencies(workload, store, arm, &latencies)?;
    }
    Ok(())
}

async fn stores(session: &Session) -> Result<Tables> {
    let mut tables = Tables::new("ours", "raw");
    let progress = Progress::new("in turns");
    for (n, workload) in WORKLOADS.into_iter().enumerate() {
        for fixture in &session.fixtures {
            if session.done.workloads.contains(&(workload, fixture.store)) {
                let share = machine::as_f64(n) / machine::as_f64(WORKLOADS.len());
                progress.update(&format!("{workload} on {}", fixture.store.name()), share);
                let plan = if fixture.store == Store::Mem { IN_MEMORY } else { PLAN };
                add(&mut tables, fixture, workload, plan).await?;
            }
        }
    }
    Ok(tables)
}

async fn with_others(session: &Session) -> Result<Ratios> {
    let [none, many] = OTHERS;
    let mut table = Ratios::new(&format!("{many} others"), &format!("{none} others"));
    for workload in
        WITH_OTHERS.into_iter().filter(|workload| session.done.with_others.contains(workload))
    {
        let (within, without) = (mem_with_others(many).await?, mem_with_others(none).await?);
        // Two registries are never the same in where they lie in memory: A/A shows what that makes.
        let another = mem_with_others(none).await?;
        let rounds = contend([&within, &without, &another], workload, IN_MEMORY).await?;
        table.add(workload, "mem", &Comparison::new(&rounds));
    }
    Ok(table)
}

/// The filter that selects only this.
const EXPIRY: &str = "expiry";

/// How often it is repeated.
const EXPIRY_ROUNDS: usize = 3;

/// The least ttl that every store takes is etcd's. It must be 1.5 s, in whole seconds.
const EXPIRY_PLAN: ExpiryPlan<'static> = ExpiryPlan {
    count: 50,
    apart: Some(Duration::from_millis(20)),
    ttl: Duration::from_secs(2),
    others: 0,
    barrier: None,
    patience: Duration::from_secs(30),
};

/// Returns whether no filter was given, or this one.
fn is_expiry_selected(session: &Session) -> bool {
    let all = WORKLOADS.len() * session.stores.len();
    session.done.workloads.len() == all || env::args().skip(1).any(|filter| filter == EXPIRY)
}

/// Prints a row for each store and contender. All expire at the same time, which costs only waiting.
async fn print_expiry(session: &Session) -> Result<()> {
    let ours = session.fixtures.iter().map(|fixture| (fixture, "ours", Some(&*fixture.ours)));
    let raw = session.fixtures.iter().map(|fixture| (fixture, "raw", fixture.raw.as_deref()));
    let arms: Vec<_> = ours.chain(raw).filter_map(|(at, arm, it)| Some((at, arm, it?))).collect();
    let mut late = vec![Vec::new(); arms.len()];
    for _ in 0..EXPIRY_ROUNDS {
        let expirations =
            arms.iter().map(|(_, _, it): &(_, _, &dyn Contender)| it.expirations(EXPIRY_PLAN));
        for (late, more) in late.iter_mut().zip(try_join_all(expirations).await?) {
            late.extend(more);
        }
    }
    let mut table = Table::percentiles();
    for ((fixture, arm, _), late) in arms.iter().zip(late) {
        let late = Latencies::of(late.iter().map(Duration::as_secs_f64))?;
        table.add_latencies(EXPIRY, fixture.store.name(), arm, &late)?;
    }
    let ExpiryPlan { count, ttl, .. } = EXPIRY_PLAN;
    println!(
        "\nExpiry: {count} instances registered 20 ms apart and never renewed, {EXPIRY_ROUNDS} times. How long"
    );
    println!("after its ttl of {ttl:?} each was seen to expire; the ttl starts before the call.\n");
    print!("{table}");
    Ok(())
}
