//! What registrations cost at each level of durability, on servers of their own.

use super::session::Session;
use super::summary::{self, PLAN, Tables};
use anyhow::{Context, Result};
use comparison::levels::{Level, SyncCost};
use comparison::paired::{Comparison, Plan};
use comparison::stores::{Stand, Store, Where};
use comparison::table::Table;
use comparison::work::{Work, record_len};
use tokio::sync::OnceCell;

/// What is measured at each level.
pub(crate) const LEVELLED: [Work; 2] = [Work::Register, Work::RegisterToWatch];

/// A store at a level. Its server is started when it is first asked for, and ends with this.
pub(crate) struct Staged {
    pub(crate) store: Store,
    level: Level,
    stand: OnceCell<Stand>,
}

impl Staged {
    fn new(level: Level, store: Store) -> Self {
        Self { store, level, stand: OnceCell::new() }
    }

    fn is_etcd(&self) -> bool {
        self.store == Store::Etcd
    }

    /// The store.
    pub(crate) async fn stand(&self) -> Result<&Stand> {
        let open = async || {
            let servers = self.level.servers(self.store, &Where::default())?;
            let servers = servers.context("the store has no such level")?;
            Stand::open(self.store, &servers).await
        };
        self.stand.get_or_try_init(open).await
    }
}

/// The stores that have a level. In memory nothing is durable, and that is measured already.
pub(crate) fn staged(level: Level, stores: &[Store], stands: &[Stand]) -> Vec<Staged> {
    let known = |store| stands.iter().find(|stand| stand.store == store);
    let has = |store: &Store| match (store, level) {
        (Store::Mem, _) | (Store::Etcd, Level::WithinASecond) => false,
        // The same binary runs already, and was told the same.
        _ => known(*store).is_none_or(|stand| level.refused_by(&stand.server).is_none()),
    };
    stores.iter().copied().filter(has).map(|store| Staged::new(level, store)).collect()
}

/// Prints a table for each level that something was measured at.
pub(crate) async fn print(session: &Session) -> Result<()> {
    let mut is_first = true;
    for level in Level::ALL {
        if !session.done.levelled.iter().any(|(at, ..)| *at == level) {
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
    let staged = staged(level, &session.stores, &session.stands);
    let done = |work, store| session.done.levelled.contains(&(level, work, store));
    let mut stands = Vec::new();
    for staged in &staged {
        if LEVELLED.iter().any(|work| done(*work, staged.store)) {
            let stand = staged.stand().await?;
            println!("  {:<8} {}", format!("{}:", stand.store.name()), stand.server);
            stands.push(stand);
        }
    }
    let is_left_out = session.stores.contains(&Store::Etcd) && !staged.iter().any(Staged::is_etcd);
    if let Some(why) = level.why_without_etcd().filter(|_| is_left_out) {
        println!("  {:<8} not measured: {why}", "etcd:");
    }
    let mut tables = Tables::new("ours", "raw");
    for work in LEVELLED {
        for stand in stands.iter().filter(|stand| done(work, stand.store)) {
            summary::add(&mut tables, stand, work, plan(level)).await?;
        }
    }
    print!("\n{tables}");
    compare(level, &stands, &done).await
}

/// etcd beside Redis, ours both times, in turns.
async fn compare(
    level: Level,
    stands: &[&Stand],
    done: &impl Fn(Work, Store) -> bool,
) -> Result<()> {
    let find = |store| stands.iter().find(|stand| stand.store == store);
    let (Some(etcd), Some(redis)) = (find(Store::Etcd), find(Store::Redis)) else { return Ok(()) };
    if let Some(why) = level.refused_by(&etcd.server) {
        println!("not compared: {why}");
        return Ok(());
    }
    let mut table = Table::new("etcd", "redis");
    for work in LEVELLED {
        if done(work, Store::Etcd) && done(work, Store::Redis) {
            let (etcd, redis) = (&*etcd.ours, &*redis.ours);
            let rounds = summary::rounds(etcd, [redis, redis], work, plan(level)).await?;
            table.add(work, "ours", &Comparison::new(&rounds));
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
