//! The operations on a prefix: each is one call of one script.

use crate::client::Client;
use crate::error::StoreError;
use crate::history::{Digest, Entry, Gap, Position, RawEntry};
use crate::scripts;
use crate::shard::{Shard, member};
use futures_util::future::try_join_all;
use registry_core::{Claim, Instance, Lease, Origin, Revision, ServiceName, record};
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
    /// The entries after the position asked for, checked to follow it without a gap.
    pub(crate) entries: Vec<Entry>,
    /// The shard's last revision.
    pub(crate) end: u64,
    /// In what time the shard's next lease expires, if it has any.
    pub(crate) due: Option<Duration>,
}

impl Store {
    pub(crate) async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
    ) -> Result<Lease, StoreError> {
        let ttl = millis(claim.ttl());
        let (status, detail): (String, String) = self
            .client
            .write(
                &scripts::REGISTER,
                self.client.keyspace().shard_of(instance.service()),
                &[
                    member(instance).as_bytes(),
                    claim.lease().to_string().as_bytes(),
                    ttl.to_string().as_bytes(),
                    if claim.takeover() { b"1" } else { b"0" },
                    &record::encode(instance),
                    Digest::random().to_string().as_bytes(),
                ],
            )
            .await?;
        match (status.as_str(), detail.as_str()) {
            ("OK", revision) => {
                let revision = revision.parse().map_err(|_| StoreError::UnexpectedReply(detail))?;
                let (id, ttl) = (claim.lease(), Duration::from_millis(ttl));
                Ok(Lease::new(id, ttl, instance.clone(), Revision::new(revision)))
            }
            ("SUPERSEDED", _) => Err(StoreError::Superseded),
            ("INVALID", "ttl") => Err(StoreError::TtlMismatch),
            ("INVALID", "instance") => Err(StoreError::InstanceMismatch),
            _ => Err(StoreError::UnexpectedReply(status)),
        }
    }

    pub(crate) async fn deregister(&self, lease: &Lease) -> Result<(), StoreError> {
        let shard = self.client.keyspace().shard_of(lease.instance().service());
        let id = lease.id().to_string();
        let status: String =
            self.client.write(&scripts::DEREGISTER, shard, &[id.as_bytes()]).await?;
        if status == "OK" { Ok(()) } else { Err(StoreError::UnexpectedReply(status)) }
    }

    pub(crate) async fn services(&self) -> Result<BTreeSet<ServiceName>, StoreError> {
        let names = self.client.keyspace().shards().map(|shard| self.services_in(shard));
        let names = try_join_all(names).await?;
        Ok(names.into_iter().flatten().filter_map(|name| ServiceName::new(name).ok()).collect())
    }

    pub(crate) async fn services_in(&self, shard: Shard) -> Result<Vec<String>, StoreError> {
        let seed = Digest::random().to_string();
        loop {
            let (status, names): (String, Vec<String>) =
                self.client.run(&scripts::SERVICES, shard, &[seed.as_bytes()]).await?;
            match status.as_str() {
                "OK" => return Ok(names),
                "DUE" => {}
                _ => return Err(StoreError::UnexpectedReply(status)),
            }
        }
    }

    /// Checks that the history of `shard` contains `at`, and reads up to `len` entries after it. Also
    /// deletes expired leases.
    pub(crate) async fn read_log(
        &self,
        shard: Shard,
        at: Position,
        len: usize,
    ) -> Result<Page, StoreError> {
        let (revision, digest) = (at.revision.to_string(), at.digest.to_string());
        let args = [revision.as_bytes(), digest.as_bytes(), &len.to_string().into_bytes()];
        let (status, due, end, entries): (String, i64, u64, Vec<RawEntry>) =
            self.client.run(&scripts::READ_LOG, shard, &args).await?;
        match status.as_str() {
            "OK" => Ok(Page {
                entries: parse_entries(at, entries)?,
                end,
                due: u64::try_from(due).ok().map(Duration::from_millis),
            }),
            "COMPACTED" => Err(StoreError::Compacted),
            "DIVERGED" => Err(StoreError::Diverged),
            _ => Err(StoreError::UnexpectedReply(status)),
        }
    }

    /// Returns the origin of the cursors of `service`.
    pub(crate) fn origin(&self, service: &ServiceName) -> Origin {
        Origin::new("redis", self.client.keyspace().prefix(), service)
    }
}

/// Converts a ttl to milliseconds, rounded up.
pub(crate) fn millis(ttl: Duration) -> u64 {
    let millis = ttl.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or_else(|_| unreachable!("a ttl is at most a day"))
}

/// Parses entries, each of which must follow the one before.
fn parse_entries(mut at: Position, entries: Vec<RawEntry>) -> Result<Vec<Entry>, Gap> {
    let parse = |raw| {
        let entry = Entry::parse(raw)?;
        at.advance(&entry)?;
        Ok(entry)
    };
    entries.into_iter().map(parse).collect()
}
