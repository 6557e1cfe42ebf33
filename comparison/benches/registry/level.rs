//! What registrations cost at each level of durability, on servers of their own.

use super::session::Session;
use super::tables::{self, PLAN, Tables};
use anyhow::{Context, Result};
use comparison::harness::{
    Comparison, Level, Plan, Ratios, Store, StoreFixture, StoreOptions, SyncCost, contend,
};
use comparison::workloads::{Workload, record_len};
use tokio::sync::OnceCell;

/// What is measured at each level.
pub(crate) const LEVEL_WORKLOADS: [Workload; 2] = [Workload::Register, Workload::RegisterToWatch];

/// A store at a level. Its server is started when it is first asked for, and ends with this.
pub(crate) struct StoreAtLevel {
    pub(crate) store: Store,
    level: Level,
    fixture: OnceCell<StoreFixture>,
}

impl StoreAtLevel {
    fn new(level: Level, store: Store) -> Self {
        Self { store, level, fixture: OnceCell::new() }
    }

    fn is_etcd(&self) -> bool {
        self.store == Store::Etcd
    }

    /// The store.
    pub(crate) async fn fixture(&self) -> Result<&StoreFixture> {
        let open = async || {
            let servers = self.level.servers(self.store, &StoreOptions::default())?;
            let servers = servers.context("the store has no such level")?;
            StoreFixture::open(self.store, &servers).await
        };
        self.fixture.get_or_try_init(open).await
    }
}

/// The stores that have a level. In memory nothing is durable, and that is measured already.
pub(crate) fn stores_at(
    level: Level,
    stores: &[Store],
    fixtures: &[StoreFixture],
) -> Vec<StoreAtLevel> {
    let known = |store| fixtures.iter().find(|fixture| fixture.store == store);
    let has = |store: &Store| match (store, level) {
        (Store::Mem, _) | (Store::Etcd, Level::WithinASecond) => false,
        // The same binary runs already, with the same options.
        _ => known(*store).is_none_or(|fixture| level.unsupported_by(&fixture.server).is_none()),
    };
    stores.iter().copied().filter(has).map(|store| StoreAtLevel::new(level, store)).collect()
}

/// Prints a table for each level that something was measured at.
pub(crate) async fn print(session: &Session) -> Result<()> {
    let mut is_first = true;
    for level in Level::ALL {
        if !session.done.at_levels.iter().any(|(at, ..)| *at == level) {
            continue;
        }
        if is_first {
            println!(
                "\nBy what a store promises of a write that it acknowledged, on servers of their own."
            );
            println!("etcd and Redis are compared only within a level.");
            is_first = false;
        }
        print_level(session, level).await?;
    }
    Ok(())
}

async fn print_level(session: &Session, level: Level) -> Result<()> {
    println!("\n{}:", level.name());
    println!("  {:<8} {} bytes", "records:", record_len()?);
    if matches!(level, Level::OnDisk | Level::WithinASecond) {
        println!("  {:<8} {}", "disk:", SyncCost::of_disk()?);
    }
    let stores_at = stores_at(level, &session.stores, &session.fixtures);
    let done = |workload, store| session.done.at_levels.contains(&(level, workload, store));
    let mut fixtures = Vec::new();
    for stores_at in &stores_at {
        if LEVEL_WORKLOADS.iter().any(|workload| done(*workload, stores_at.store)) {
            let fixture = stores_at.fixture().await?;
            println!("  {:<8} {}", format!("{}:", fixture.store.name()), fixture.server);
            fixtures.push(fixture);
        }
    }
    let is_left_out =
        session.stores.contains(&Store::Etcd) && !stores_at.iter().any(StoreAtLevel::is_etcd);
    if let Some(why) = level.why_without_etcd().filter(|_| is_left_out) {
        println!("  {:<8} not measured: {why}", "etcd:");
    }
    let mut rows = Tables::new("ours", "raw");
    for workload in LEVEL_WORKLOADS {
        for fixture in fixtures.iter().filter(|fixture| done(workload, fixture.store)) {
            tables::add(&mut rows, fixture, workload, plan(level)).await?;
        }
    }
    print!("\n{rows}");
    compare(level, &fixtures, &done).await
}

/// etcd beside Redis, ours both times, in turns.
async fn compare(
    level: Level,
    fixtures: &[&StoreFixture],
    done: &impl Fn(Workload, Store) -> bool,
) -> Result<()> {
    let find = |store| fixtures.iter().find(|fixture| fixture.store == store);
    let (Some(etcd), Some(redis)) = (find(Store::Etcd), find(Store::Redis)) else { return Ok(()) };
    if let Some(why) = level.unsupported_by(&etcd.server) {
        println!("not compared: {why}");
        return Ok(());
    }
    let mut table = Ratios::new("etcd", "redis");
    for workload in LEVEL_WORKLOADS {
        if done(workload, Store::Etcd) && done(workload, Store::Redis) {
            let (etcd, redis) = (&*etcd.ours, &*redis.ours);
            let rounds = contend([etcd, redis, redis], workload, plan(level)).await?;
            table.add(workload, "ours", &Comparison::new(&rounds));
        }
    }
    if !table.is_empty() {
        print!("\n{table}");
    }
    Ok(())
}

/// A disk takes a hundred times as long as memory, now and then.
fn plan(level: Level) -> Plan {
    let longer = if level == Level::OnDisk { 2 } else { 1 };
    Plan { round: PLAN.round * longer, ..PLAN }
}
