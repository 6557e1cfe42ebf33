//! The operations on a prefix, each of which is one script call.

use crate::client::Client;
use crate::deadline::millis;
use crate::digest::Digest;
use crate::error::StoreError;
use crate::history::{self, Entry, Gap, Position, RawEntry};
use crate::scripts;
use crate::shard::{Shard, member};
use crate::value;
use futures_util::future::try_join_all;
use registry_core::{
    Claim, Holder, Instance, Lease, Lineage, Origin, Revision, ServiceName, Takeover,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// The operations on a prefix.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) client: Client,
}

/// A part of a shard's log.
#[derive(Debug)]
pub(crate) struct Page {
    /// The entries after the requested position, checked to follow it without a gap.
    pub(crate) entries: Vec<Entry>,
    /// The shard's last revision.
    pub(crate) end: u64,
    /// The time until the shard's next lease expires, if it has one.
    pub(crate) due: Option<Duration>,
    pub(crate) lineage: Lineage,
}

/// The end of a shard's log, at which the record of a lease is the last acknowledged one.
#[derive(Debug)]
pub(crate) struct RecordPosition {
    pub(crate) at: Position,
    /// The time until the shard's next lease expires.
    pub(crate) due: Option<Duration>,
    pub(crate) lineage: Lineage,
}

/// How many log entries one call reads. At 64 KiB each, the largest reply has 64 MiB.
const LOG_PAGE: usize = 1000;

/// The reply of the script that reads the log: status, time to the next expiry, revision, lineage, entries.
pub(crate) type RawPage = (String, i64, u64, String, Vec<RawEntry>);

/// How many service names one call reads, and the limit of calls per shard.
const NAMES_PAGE: usize = 1000;
const MAX_NAME_PAGES: usize = 1000;

/// The limit of calls until all expired leases are deleted; each deletes a hundred.
pub(crate) const MAX_DUE_CALLS: usize = 10_000;

/// The longest accepted time until a lease expires, above any ttl.
pub(crate) const MAX_DUE: u64 = 86_400_000 * 2;

impl Store {
    pub(crate) async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
    ) -> Result<Lease, StoreError> {
        let ttl = millis(claim.ttl());
        instance.check().map_err(StoreError::Unusable)?;
        let record = value::encode(instance, ttl).map_err(StoreError::Unusable)?;
        let holder = match claim.takeover() {
            Takeover::No => String::new(),
            Takeover::From(holder) => value::holder_arg(&holder),
        };
        let (status, first, second): (String, String, String) = self
            .client
            .write(
                &scripts::REGISTER,
                self.client.keyspace().shard_of(instance.service()),
                &[
                    member(instance).as_bytes(),
                    claim.lease().to_string().as_bytes(),
                    ttl.to_string().as_bytes(),
                    holder.as_bytes(),
                    &record,
                ],
            )
            .await?;
        match (status.as_str(), first.as_str()) {
            ("OK", revision) => {
                let unexpected = || StoreError::UnexpectedReply(format!("{first} {second}"));
                let revision = revision.parse().map_err(|_| unexpected())?;
                let digest: Digest = second.parse().map_err(|_| unexpected())?;
                let (id, ttl) = (claim.lease(), Duration::from_millis(ttl));
                let lease = Lease::new(id, ttl, instance.clone(), Revision::new(revision));
                Ok(lease.with_proof(digest))
            }
            ("SUPERSEDED", lease) => {
                Err(StoreError::Superseded(value::parse_holder(lease, &second)))
            }
            ("INVALID", "ttl") => Err(StoreError::TtlMismatch),
            ("INVALID", "instance") => Err(StoreError::InstanceMismatch),
            _ => Err(StoreError::UnexpectedReply(status)),
        }
    }

    pub(crate) async fn holder(&self, instance: &Instance) -> Result<Option<Holder>, StoreError> {
        let shard = self.client.keyspace().shard_of(instance.service());
        let member = member(instance);
        let args = [member.as_bytes(), b""];
        let (status, lease, claimed): (String, String, String) =
            self.client.run(&scripts::HOLDER, shard, &args).await?;
        match status.as_str() {
            "HELD" => Ok(Some(value::parse_holder(&lease, &claimed))),
            "VACANT" => Ok(None),
            _ => Err(StoreError::UnexpectedReply(status)),
        }
    }

    pub(crate) async fn deregister(&self, lease: &Lease) -> Result<(), StoreError> {
        let shard = self.client.keyspace().shard_of(lease.instance().service());
        let (member, id) = (member(lease.instance()), lease.id().to_string());
        let args = [member.as_bytes(), id.as_bytes()];
        let status: String = self.client.write(&scripts::DEREGISTER, shard, &args).await?;
        if status == "OK" { Ok(()) } else { Err(StoreError::UnexpectedReply(status)) }
    }

    /// Checks that the record of `lease` is the last acknowledged one. Returns the position at which it was checked.
    ///
    /// Fails `LeaseLost` if the record is missing or another one.
    pub(crate) async fn find_record(&self, lease: &Lease) -> Result<RecordPosition, StoreError> {
        let shard = self.client.keyspace().shard_of(lease.instance().service());
        let member = member(lease.instance());
        let expected = value::acknowledged_prefix(lease, millis(lease.ttl()));
        let args = [member.as_bytes(), b"", expected.as_bytes()];
        let (status, due, revision, digest, lineage): (String, i64, u64, String, String) =
            self.client.run(&scripts::FIND_RECORD, shard, &args).await?;
        match status.as_str() {
            "OK" => {
                let digest = digest.parse().map_err(|_| StoreError::UnexpectedReply(digest))?;
                Ok(RecordPosition {
                    at: Position { revision, digest },
                    due: parse_due(due),
                    lineage: Lineage::new(lineage),
                })
            }
            "LOST" => Err(StoreError::LeaseLost),
            _ => Err(StoreError::UnexpectedReply(status)),
        }
    }

    pub(crate) async fn services(&self) -> Result<BTreeSet<ServiceName>, StoreError> {
        let names = self.client.keyspace().shards().map(|shard| self.services_in(shard));
        let names = try_join_all(names).await?;
        Ok(names.into_iter().flatten().filter_map(|name| ServiceName::new(name).ok()).collect())
    }

    pub(crate) async fn services_in(&self, shard: Shard) -> Result<Vec<String>, StoreError> {
        let len = NAMES_PAGE.to_string();
        let (mut names, mut due_calls) = (Vec::<String>::new(), 0);
        while names.len() < NAMES_PAGE * MAX_NAME_PAGES {
            let last = names.last().map(String::as_str).unwrap_or_default();
            let args = [b"", b"", len.as_bytes(), last.as_bytes()];
            let (status, page): (String, Vec<String>) =
                self.client.run(&scripts::SERVICES, shard, &args).await?;
            match status.as_str() {
                // A member of another program may have an empty name.
                "OK" if !names.is_empty() && page.first().is_some_and(|first| **first <= *last) => {
                    break;
                }
                "OK" => {
                    let is_last = page.len() < NAMES_PAGE;
                    names.extend(page);
                    if is_last {
                        return Ok(names);
                    }
                }
                "DUE" if due_calls < MAX_DUE_CALLS => due_calls += 1,
                _ => return Err(StoreError::UnexpectedReply(status)),
            }
        }
        Err(StoreError::Endless("names of services"))
    }

    /// Checks that the history of `shard` contains `at`. The returned page has the next entry, if there is
    /// one. Also deletes expired leases.
    pub(crate) async fn check_log(&self, shard: Shard, at: Position) -> Result<Page, StoreError> {
        let (revision, digest) = (at.revision.to_string(), at.digest.to_string());
        let args = [b"", b"", revision.as_bytes(), digest.as_bytes()];
        let reply = self.client.run(&scripts::READ_LOG, shard, &args).await?;
        parse_page(at, reply, None)
    }

    /// Does the same, and reads more entries. The page is empty only at the end of the log.
    pub(crate) async fn read_log(&self, shard: Shard, at: Position) -> Result<Page, StoreError> {
        let (revision, digest) = (at.revision.to_string(), at.digest.to_string());
        let args = [b"", b"", revision.as_bytes(), digest.as_bytes()];
        let mut entries = redis::cmd("XRANGE");
        // A script would take several times as long to return them.
        let next = at.revision.saturating_add(1);
        entries.arg(self.client.keyspace().log(shard)).arg(format!("{next}-0")).arg("+");
        entries.arg("COUNT").arg(LOG_PAGE);
        let (reply, entries) =
            self.client.run_with(&scripts::READ_LOG, shard, &args, &entries).await?;
        parse_page(at, reply, Some(entries))
    }

    /// Returns the origin of the cursors of `service`.
    pub(crate) fn origin(&self, service: &ServiceName) -> Origin {
        Origin::new("redis", self.client.keyspace().prefix(), service)
    }
}

/// Parses the time in ms until the next lease expires. A negative number means that there is no lease.
fn parse_due(due: i64) -> Option<Duration> {
    u64::try_from(due).ok().map(|due| Duration::from_millis(due.min(MAX_DUE)))
}

/// Parses the reply of the script that reads the log at `at`. If `entries` were read separately, they replace
/// those in the reply.
pub(crate) fn parse_page(
    at: Position,
    (status, due, end, lineage, first): RawPage,
    entries: Option<Vec<RawEntry>>,
) -> Result<Page, StoreError> {
    match status.as_str() {
        "OK" => Ok(Page {
            entries: parse_entries(at, end, entries.unwrap_or(first))?,
            end,
            due: parse_due(due),
            lineage: Lineage::new(lineage),
        }),
        "COMPACTED" => Err(StoreError::Compacted),
        "DIVERGED" => Err(StoreError::Diverged),
        _ => Err(StoreError::UnexpectedReply(status)),
    }
}

/// Parses entries up to the revision `end`, each of which must follow the previous one. Entries of another
/// program are left out: between ours they have other ids, and ahead of ours no owner has deleted them yet.
fn parse_entries(mut at: Position, end: u64, entries: Vec<RawEntry>) -> Result<Vec<Entry>, Gap> {
    let parse = |raw| {
        let entry = Entry::parse(raw)?;
        at.advance(&entry)?;
        Ok(entry)
    };
    entries.into_iter().filter(|raw| history::is_ours(raw, end)).map(parse).collect()
}
