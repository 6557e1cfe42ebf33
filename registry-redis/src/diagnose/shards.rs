//! Checks the shards of a prefix and their records.

use crate::error::StoreError;
use crate::load;
use crate::scripts;
use crate::shard::{KeyGroup, Shard};
use crate::store::Store;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use registry_core::diagnosis::{self, Finding};
use registry_core::{Error, Result, ServiceName};
use std::collections::BTreeSet;

/// How many services are read concurrently.
const CONCURRENCY: usize = 16;

pub(super) async fn check_shards(store: &Store) -> Result<Vec<Finding>> {
    let keyspace = store.client.keyspace();
    let inspections = keyspace
        .shards()
        .map(|shard| async move { (shard, ShardState::inspect(store, shard).await) });
    let (mut states, mut failures) = (Vec::new(), Failures::default());
    for (shard, inspected) in join_all(inspections).await {
        match inspected {
            Ok(state) => states.push((keyspace.hash_tag(shard), state)),
            Err(error) => failures.add(keyspace.hash_tag(shard), error),
        }
    }
    let used = states.iter().filter(|(_, state)| state.status != Status::Fresh).count();
    let longest = states.iter().map(|(_, state)| state.log_len).max().unwrap_or_default();
    let (all, cap) = (keyspace.len(), store.client.options().log_cap);
    let mut findings = Vec::new();
    if !states.is_empty() {
        findings.push(Finding::ok(
            "history",
            format!(
                "shards in use: {used} of {all}, longest log: {longest} changes, kept: about {cap}"
            ),
        ));
    }
    for (name, state) in &states {
        findings.extend(state.problem(name));
    }
    findings.extend(failures.findings("shards"));
    Ok(findings)
}

/// The shards that could not be checked, by error.
#[derive(Default)]
struct Failures<'a>(Vec<(Error, BTreeSet<&'a str>)>);

impl<'a> Failures<'a> {
    fn add(&mut self, shard: &'a str, error: impl Into<Error>) {
        let error = error.into();
        let text = error.chain().to_string();
        match self.0.iter_mut().find(|(known, _)| known.chain().to_string() == text) {
            Some((_, shards)) => _ = shards.insert(shard),
            None => self.0.push((error, BTreeSet::from([shard]))),
        }
    }

    /// Returns one finding per error.
    fn findings(self, check: &'static str) -> impl Iterator<Item = Finding> {
        self.0.into_iter().map(move |(error, shards)| {
            let shards = shards.into_iter().collect::<Vec<_>>().join(", ");
            Finding::from_error(check, &error).with_subject(shards)
        })
    }
}

/// The state of a shard.
struct ShardState {
    status: Status,
    log_len: u64,
    /// The keys with a wrong type.
    wrong: Vec<String>,
    /// The number of log entries that another program wrote.
    foreign: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    /// The shard has never been used.
    Fresh,
    Whole,
    Damaged,
}

impl ShardState {
    async fn inspect(store: &Store, shard: Shard) -> Result<Self, StoreError> {
        let (status, revision, first, wrong, foreign): (String, u64, u64, String, u64) =
            store.client.run(&scripts::INSPECT, shard, &[]).await?;
        let status = match status.as_str() {
            "FRESH" => Status::Fresh,
            "WHOLE" => Status::Whole,
            "DAMAGED" => Status::Damaged,
            _ => return Err(StoreError::UnexpectedReply(status)),
        };
        // Revisions are dense. An empty log has no first revision.
        let log_len = if first == 0 { 0 } else { revision.saturating_add(1).saturating_sub(first) };
        let keys = store.client.keyspace().keys(KeyGroup::Shard(shard)).iter().zip("1234".chars());
        let wrong = keys.filter(|(_, number)| wrong.contains(*number));
        Ok(Self { status, log_len, wrong: wrong.map(|(key, _)| key.clone()).collect(), foreign })
    }

    /// Returns the problem of the shard named `name`, and how to repair it.
    fn problem(&self, name: &str) -> Option<Finding> {
        let (message, advice) = if !self.wrong.is_empty() {
            let keys = self.wrong.join(" ");
            let message = format!("another program wrote keys of the registry: {keys}");
            let advice = format!(
                "find out which program; `redis-cli DEL {keys}` repairs the shard: the missing data is restored from the other keys"
            );
            (message, advice)
        } else if self.status == Status::Damaged {
            let advice = "find out what deletes keys; `registryctl ls` repairs the shard: the next load restores missing data from the other keys, and live instances register again by themselves";
            ("a shard lost a key, by eviction or manual deletion, or its members are out of order".into(), advice.into())
        } else if self.foreign > 0 {
            let message =
                format!("another program wrote to the log of a shard, entries=`{}`", self.foreign);
            let advice =
                "find out which program; `registryctl watch` or the next registration deletes them";
            (message, advice.into())
        } else {
            return None;
        };
        Some(Finding::error("shards", message, advice).with_subject(name))
    }
}

pub(super) async fn check_records(store: &Store) -> Result<Vec<Finding>> {
    let keyspace = store.client.keyspace();
    let listed = keyspace.shards().map(|shard| async move {
        let services = store.services_in(shard).await;
        (keyspace.hash_tag(shard), services)
    });
    let (mut services, mut failures) = (BTreeSet::new(), Failures::default());
    for (shard, listed) in join_all(listed).await {
        match listed {
            Ok(listed) => services.extend(listed.into_iter().flat_map(ServiceName::new)),
            Err(error) => failures.add(shard, error),
        }
    }
    // The futures own the names, since borrowed names would make them not `Send`.
    let surveys = stream::iter(services.clone()).map(|service| async move {
        let survey = load::survey(store, &service).await;
        (keyspace.hash_tag(keyspace.shard_of(&service)), survey)
    });
    let surveys: Vec<_> = surveys.buffered(CONCURRENCY).collect().await;
    let (mut instances, mut unreadable) = (0, Vec::new());
    for (shard, survey) in surveys {
        match survey {
            Ok(survey) => {
                instances += survey.instances;
                unreadable.extend(survey.unreadable);
            }
            Err(error) => failures.add(shard, error),
        }
    }
    let unreadable = unreadable.iter().map(|name| format!("`{name}`"));
    let advice = "find out which program writes them; they expire after their ttl";
    let mut findings = diagnosis::records(services.len(), instances, unreadable, advice);
    findings.extend(failures.findings("records"));
    Ok(findings)
}
