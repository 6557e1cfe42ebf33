//! The operations: each is one call of one script.

use crate::error::Fault;
use crate::feed::Feed;
use crate::history::{Digest, Entry, Gap, Position, RawEntry};
use crate::link::Link;
use crate::renewals::Renewals;
use crate::scripts;
use crate::shard::{Shard, member};
use futures_util::future::try_join_all;
use registry_core::{Claim, Instance, Lease, Origin, Revision, ServiceName, record};
use std::collections::BTreeSet;
use std::time::Duration;

/// A prefix on a server: what a registry and its feed share.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) link: Link,
    pub(crate) renewals: Renewals,
    /// One for all shards, or in a cluster one for each: those of one server are read in one go.
    feeds: Box<[Feed]>,
}

/// A part of a shard's log.
#[derive(Debug)]
pub(crate) struct Page {
    /// What follows the position asked for, checked to do so without a gap.
    pub(crate) entries: Vec<Entry>,
    /// The shard's last revision.
    pub(crate) end: u64,
    /// When the shard's next lease falls due, if it has any.
    pub(crate) due: Option<Duration>,
}

impl Store {
    pub(crate) fn new(link: Link) -> Self {
        let shards = link.keyspace().len();
        let feeds = if link.is_cluster() { shards } else { 1 };
        let feeds = (0..feeds).map(|_| Feed::default()).collect();
        Self { link, renewals: Renewals::new(shards), feeds }
    }

    /// The feed that reads the log of `shard`.
    pub(crate) fn feed(&self, shard: Shard) -> &Feed {
        &self.feeds[self.link.keyspace().index(shard) % self.feeds.len()]
    }

    pub(crate) async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
    ) -> Result<Lease, Fault> {
        let ttl = millis(claim.ttl());
        let (status, detail): (String, String) = self
            .link
            .write(
                &scripts::REGISTER,
                self.link.keyspace().shard_of(instance.service()),
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
                let revision = revision.parse().map_err(|_| Fault::Reply(detail))?;
                let (id, ttl) = (claim.lease(), Duration::from_millis(ttl));
                Ok(Lease::new(id, ttl, instance.clone(), Revision::new(revision)))
            }
            ("SUPERSEDED", _) => Err(Fault::Superseded),
            ("INVALID", "ttl") => Err(Fault::OtherTtl),
            ("INVALID", "instance") => Err(Fault::OtherInstance),
            _ => Err(Fault::Reply(status)),
        }
    }

    pub(crate) async fn deregister(&self, lease: &Lease) -> Result<(), Fault> {
        let shard = self.link.keyspace().shard_of(lease.instance().service());
        let id = lease.id().to_string();
        let status: String = self.link.write(&scripts::DEREGISTER, shard, &[id.as_bytes()]).await?;
        if status == "OK" { Ok(()) } else { Err(Fault::Reply(status)) }
    }

    pub(crate) async fn services(&self) -> Result<BTreeSet<ServiceName>, Fault> {
        let names = self.link.keyspace().shards().map(|shard| self.services_in(shard));
        let names = try_join_all(names).await?;
        Ok(names.into_iter().flatten().filter_map(|name| ServiceName::new(name).ok()).collect())
    }

    pub(crate) async fn services_in(&self, shard: Shard) -> Result<Vec<String>, Fault> {
        let seed = Digest::random().to_string();
        loop {
            let (status, names): (String, Vec<String>) =
                self.link.run(&scripts::SERVICES, shard, &[seed.as_bytes()]).await?;
            match status.as_str() {
                "OK" => return Ok(names),
                "DUE" => {}
                _ => return Err(Fault::Reply(status)),
            }
        }
    }

    /// Checks that the history of `shard` goes through `at`, and reads up to `len` entries after it.
    /// Leases that are due expire at that.
    pub(crate) async fn open(&self, shard: Shard, at: Position, len: usize) -> Result<Page, Fault> {
        let (revision, digest) = (at.revision.to_string(), at.digest.to_string());
        let args = [revision.as_bytes(), digest.as_bytes(), &len.to_string().into_bytes()];
        let (status, due, end, entries): (String, i64, u64, Vec<RawEntry>) =
            self.link.run(&scripts::OPEN, shard, &args).await?;
        match status.as_str() {
            "OK" => Ok(Page {
                entries: follow(at, entries)?,
                end,
                due: u64::try_from(due).ok().map(Duration::from_millis),
            }),
            "COMPACTED" => Err(Fault::Compacted),
            "DIVERGED" => Err(Fault::Diverged),
            _ => Err(Fault::Reply(status)),
        }
    }

    /// What the cursors of `service` belong to.
    pub(crate) fn origin(&self, service: &ServiceName) -> Origin {
        Origin::new("redis", self.link.keyspace().prefix(), service)
    }
}

/// A ttl in milliseconds, never shorter than what was asked for.
pub(crate) fn millis(ttl: Duration) -> u64 {
    let millis = ttl.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or_else(|_| unreachable!("a ttl is at most a day"))
}

/// Reads entries, each of which must lead on from the one before.
fn follow(mut at: Position, entries: Vec<RawEntry>) -> Result<Vec<Entry>, Gap> {
    let read = |raw| {
        let entry = Entry::parse(raw)?;
        at.step(&entry)?;
        Ok(entry)
    };
    entries.into_iter().map(read).collect()
}
