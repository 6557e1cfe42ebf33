//! The shards of a prefix, and the records in them.

use crate::error::Fault;
use crate::load;
use crate::scripts;
use crate::shard::Shard;
use crate::store::Store;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use registry_core::diagnosis::{self, Finding};
use registry_core::{Error, Result, ServiceName};
use std::collections::BTreeSet;

/// How many services are read at a time.
const AT_ONCE: usize = 16;

pub(super) async fn shards(store: &Store) -> Result<Vec<Finding>> {
    let keyspace = store.link.keyspace();
    let inspected =
        keyspace.shards().map(|shard| async move { (shard, Inspected::of(store, shard).await) });
    let (mut states, mut lost) = (Vec::new(), Lost::default());
    for (shard, inspected) in join_all(inspected).await {
        match inspected {
            Ok(state) => states.push((keyspace.name(shard), state)),
            Err(fault) => lost.add(keyspace.name(shard), fault),
        }
    }
    let used = states.iter().filter(|(_, state)| state.status != Status::Fresh).count();
    let longest = states.iter().map(|(_, state)| state.log_len).max().unwrap_or_default();
    let (all, cap) = (keyspace.len(), store.link.options().log_cap);
    let mut findings = Vec::new();
    if !states.is_empty() {
        findings.push(Finding::ok(
            "history",
            format!(
                "shards in use: {used} of {all}, the longest log has {longest} changes, and about {cap} are kept"
            ),
        ));
    }
    let damaged = states.iter().filter(|(_, state)| state.status == Status::Damaged);
    let damaged: Vec<_> = damaged.map(|(name, _)| *name).collect();
    if !damaged.is_empty() {
        let message = format!(
            "shards that lost a key, by eviction or by somebody's hand: {}",
            damaged.join(", ")
        );
        let advice = "find out who deletes keys; who is alive registers again by itself";
        findings.push(Finding::error("shards", message, advice));
    }
    findings.extend(lost.findings("shards"));
    Ok(findings)
}

/// The shards that could not be looked at. One of them hides none of the others.
#[derive(Default)]
struct Lost<'a>(Vec<(Error, BTreeSet<&'a str>)>);

impl<'a> Lost<'a> {
    fn add(&mut self, name: &'a str, why: impl Into<Error>) {
        let why = why.into();
        let told = why.chain().to_string();
        match self.0.iter_mut().find(|(error, _)| error.chain().to_string() == told) {
            Some((_, names)) => _ = names.insert(name),
            None => self.0.push((why, BTreeSet::from([name]))),
        }
    }

    /// One for each reason.
    fn findings(self, check: &'static str) -> impl Iterator<Item = Finding> {
        self.0.into_iter().map(move |(why, names)| {
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            Finding::unanswered(check, &why).about(names)
        })
    }
}

/// How a shard was found.
struct Inspected {
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
        // Revisions are dense. A log that is empty has no first.
        let log_len = if first == 0 { 0 } else { (revision + 1).saturating_sub(first) };
        Ok(Self { status, log_len })
    }
}

pub(super) async fn records(store: &Store) -> Result<Vec<Finding>> {
    let keyspace = store.link.keyspace();
    let named = keyspace.shards().map(|shard| async move {
        let services = store.services_in(shard).await;
        (keyspace.name(shard), services)
    });
    let (mut services, mut lost) = (BTreeSet::new(), Lost::default());
    for (name, named) in join_all(named).await {
        match named {
            Ok(named) => services.extend(named.into_iter().flat_map(ServiceName::new)),
            Err(fault) => lost.add(name, fault),
        }
    }
    let surveys = stream::iter(&services).map(|service| async move {
        let survey = load::survey(store, service).await;
        (keyspace.name(keyspace.shard_of(service)), survey)
    });
    let surveys: Vec<_> = surveys.buffered(AT_ONCE).collect().await;
    let (mut instances, mut unreadable) = (0, Vec::new());
    for (name, survey) in surveys {
        match survey {
            Ok(survey) => {
                instances += survey.instances;
                unreadable.extend(survey.unreadable);
            }
            Err(fault) => lost.add(name, fault),
        }
    }
    let unreadable = unreadable.iter().map(|name| format!("`{name}`"));
    let advice = "find out who writes them; they go when their ttl has passed";
    let mut findings = diagnosis::records(services.len(), instances, unreadable, advice);
    findings.extend(lost.findings("records"));
    Ok(findings)
}
