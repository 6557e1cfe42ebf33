//! The shards of a prefix, and the records in them.

use crate::error::Fault;
use crate::load;
use crate::scripts;
use crate::shard::{Home, Shard};
use crate::store::Store;
use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use registry_core::Result;
use registry_core::diagnosis::{self, Finding};

/// How many services are read at a time.
const AT_ONCE: usize = 16;

pub(super) async fn shards(store: &Store) -> Result<Vec<Finding>> {
    let shards = store.link.keyspace().shards();
    let states = try_join_all(shards.map(|shard| Inspected::of(store, shard))).await?;
    let used = states.iter().filter(|state| state.status != Status::Fresh).count();
    let longest = states.iter().map(|state| state.log_len).max().unwrap_or_default();
    let (all, cap) = (states.len(), store.link.options().log_cap);
    let mut findings = vec![Finding::ok(
        "history",
        format!(
            "shards in use: {used} of {all}, the longest log has {longest} changes, and about {cap} are kept"
        ),
    )];
    let damaged = states.into_iter().filter(|state| state.status == Status::Damaged);
    let damaged: Vec<_> = damaged.map(|state| state.name).collect();
    if !damaged.is_empty() {
        let message = format!(
            "shards that lost a key, by eviction or by somebody's hand: {}",
            damaged.join(", ")
        );
        let advice = "find out who deletes keys; who is alive registers again by itself";
        findings.push(Finding::error("shards", message, advice));
    }
    Ok(findings)
}

/// How a shard was found.
struct Inspected {
    /// What its keys begin with.
    name: String,
    status: Status,
    log_len: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    /// Nobody used it yet.
    Fresh,
    Whole,
    Damaged,
}

impl Inspected {
    async fn of(store: &Store, shard: Shard) -> Result<Self, Fault> {
        let (status, revision, first): (String, u64, u64) =
            store.link.run(&scripts::INSPECT, shard, &[]).await?;
        let status = match status.as_str() {
            "FRESH" => Status::Fresh,
            "WHOLE" => Status::Whole,
            "DAMAGED" => Status::Damaged,
            _ => return Err(Fault::Reply(status)),
        };
        let [meta, ..] = store.link.keyspace().keys(Home::Shard(shard)) else {
            unreachable!("a shard has keys")
        };
        let name = meta.trim_end_matches(":meta").to_owned();
        // Revisions are dense. A log that is empty has no first.
        let log_len = if first == 0 { 0 } else { (revision + 1).saturating_sub(first) };
        Ok(Self { name, status, log_len })
    }
}

pub(super) async fn records(store: &Store) -> Result<Vec<Finding>> {
    let services = store.services().await?;
    let count = services.len();
    let surveys =
        stream::iter(services).map(|service| async move { load::survey(store, &service).await });
    let surveys: Vec<_> = surveys.buffered(AT_ONCE).try_collect().await?;
    let instances: usize = surveys.iter().map(|survey| survey.instances).sum();
    let unreadable: Vec<_> = surveys.into_iter().flat_map(|survey| survey.unreadable).collect();
    let unreadable = unreadable.iter().map(|name| format!("`{name}`"));
    let advice = "find out who writes them; they go when their ttl has passed";
    Ok(diagnosis::records(count, instances, unreadable, advice))
}
