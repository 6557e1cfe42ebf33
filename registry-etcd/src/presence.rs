//! Whether the record of a lease is still stored as acknowledged, and when that was last looked at.
//!
//! A lease that renews does not show that its key is still there: someone may have deleted or
//! overwritten it, and etcd before 3.4.38 and 3.5.23 may renew a lease it has revoked.

use crate::client::{Answered, Client};
use crate::layout::keyspace::Keyspace;
use etcd_client::{GetOptions, Txn, TxnOp};
use registry_core::{Error, ErrorKind, Lease, LeaseId, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Compares the keys of `lease` with what was acknowledged to it, in one read.
///
/// A revision alone does not tell that: after a rollback another record may have got it. So the values are
/// compared, too.
///
/// # Errors
///
/// `LeaseLost` unless they hold the record last acknowledged to this lease.
pub(crate) async fn verify(
    client: &Client,
    keyspace: &Keyspace,
    lease: &Lease,
) -> Result<Answered> {
    let desired = keyspace.acknowledged(lease)?;
    let compares = desired.is_acknowledged(lease.id().get(), lease.revision().get().cast_signed());
    // Without a read, etcd would answer from its own state alone, without a quorum.
    let read = || [TxnOp::get(&*desired.key.name, Some(GetOptions::new().with_keys_only()))];
    let answer = client.txn(Txn::new().when(compares).and_then(read()).or_else(read())).await?;
    if answer.succeeded() {
        return Ok(Answered::by(answer.header())?);
    }
    Err(Error::new(ErrorKind::LeaseLost, "the record is not the one last acknowledged"))
}

/// When the record of each lease was last seen in its place, shared by all clones of a registry.
///
/// To forget a lease is always safe: its next renewal looks again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presence(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    last_seen: HashMap<LeaseId, Seen>,
    /// How many entries there may be until those that nobody renews any more are looked for.
    limit: usize,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    ttl: Duration,
}

impl Presence {
    /// Whether it is a ttl or longer since the record of `lease` was seen, or it never was.
    pub(crate) fn is_due(&self, lease: &Lease) -> bool {
        self.lock().last_seen.get(&lease.id()).is_none_or(|seen| seen.at.elapsed() >= seen.ttl)
    }

    /// Notes that the record of `lease` was seen just now.
    pub(crate) fn record_seen(&self, lease: &Lease) {
        let seen = Seen { at: Instant::now(), ttl: lease.ttl() };
        let mut inner = self.lock();
        inner.last_seen.insert(lease.id(), seen);
        if inner.last_seen.len() > inner.limit {
            inner.sweep();
        }
    }

    /// Forgets `lease`.
    pub(crate) fn forget(&self, lease: LeaseId) {
        self.lock().last_seen.remove(&lease);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Drops what was abandoned without a word: a lease that is renewed is seen at least every two
    /// ttls. Each sweep is paid for by as many entries added as it looks at.
    fn sweep(&mut self) {
        self.last_seen.retain(|_, seen| seen.at.elapsed() < 2 * seen.ttl);
        self.limit = (2 * self.last_seen.len()).max(64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry_core::{Instance, Revision};

    fn lease(id: i64) -> Lease {
        let address = "10.0.0.1:80".parse().unwrap();
        let instance = Instance::new("a".parse().unwrap(), "1".parse().unwrap(), address);
        let ttl = Duration::from_secs(10);
        Lease::new(LeaseId::new(id).unwrap(), ttl, instance, Revision::new(1))
    }

    #[tokio::test(start_paused = true)]
    async fn presence_check_is_due_once_per_ttl() {
        let presence = Presence::default();
        assert!(presence.is_due(&lease(1)), "of a lease from elsewhere nothing is known");
        presence.record_seen(&lease(1));
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert!(!presence.is_due(&lease(1)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(presence.is_due(&lease(1)));
        presence.record_seen(&lease(1));
        presence.forget(lease(1).id());
        assert!(presence.is_due(&lease(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn abandoned_leases_are_forgotten() {
        let presence = Presence::default();
        for round in 0..100 {
            for id in 1..=100 {
                presence.record_seen(&lease(round * 100 + id));
            }
            tokio::time::advance(Duration::from_secs(21)).await;
        }
        assert!(presence.lock().last_seen.len() <= 300, "{}", presence.lock().last_seen.len());
    }
}
