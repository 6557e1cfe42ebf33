//! Registration: a lease, and one transaction under it. Repeating the transaction creates no revision.

use crate::client::{Answered, Client};
use crate::error::{EtcdError, Reason};
use crate::holding::{Found, if_any};
use crate::layout::keyspace::{DesiredKeys, Keyspace};
use crate::lease::{self, Granted};
use crate::lease_table::{Acknowledged, KnownLease, LeaseTable};
use crate::txn::{self, Branch};
use etcd_client::{Compare, KeyValue, Txn, TxnOp, TxnResponse};
use futures_util::future;
use registry_core::{
    Claim, Error, ErrorKind, Holder, Instance, Lease, Record, Result, Revision, Takeover,
};
use std::time::Duration;

/// The limit of transactions per call. A second one is needed only after a withdrawn record or half of a key
/// pair is found.
const MAX_TRIES: usize = 4;

/// Puts the record of `instance` under the lease of `claim`, unless it is stored already.
///
/// If this process knows the lease, the transaction is sent at once, with a concurrent renewal. Otherwise, or
/// if the known lease is gone, the lease is granted or looked up first.
///
/// Fails `Superseded` if another holder has the id and the claim does not name it.
///
/// The lease of a superseded claim is not revoked: the claim may be repeated with a takeover, and a late
/// revocation would delete the new record. The lease has no keys and expires after its ttl.
pub(crate) async fn register(
    client: &Client,
    keyspace: &Keyspace,
    leases: &LeaseTable,
    instance: &Instance,
    claim: &Claim,
) -> Result<Lease> {
    instance.check()?;
    let mut known = leases.find(claim, instance);
    for _ in 0..2 {
        let (found, is_new) = match known.take() {
            Some(known) => (known, false),
            None => Box::pin(acquire(client, keyspace, leases, instance, claim)).await?,
        };
        let registration = Registration {
            client,
            keyspace,
            instance,
            claim,
            desired: desired_keys(keyspace, instance, claim, found.ttl)?,
            is_new,
            acknowledged: found.acknowledged,
        };
        let is_hidden = registration.desired.key.value.is_none();
        let Some(put_at) = Box::pin(registration.put_and_renew()).await? else {
            leases.remove(claim.lease());
            continue;
        };
        let lease = Lease::new(claim.lease(), found.ttl, instance.clone(), put_at);
        leases.acknowledge(&lease, is_hidden);
        return Ok(lease);
    }
    // The lease was granted a moment ago, so this process or the network was paused for a ttl. Nothing was written.
    let message = "the lease expired before the record was written: retry";
    Err(Error::new(ErrorKind::Unavailable, message))
}

/// Grants the lease of `claim`, or finds it. Returns also whether it is new.
async fn acquire(
    client: &Client,
    keyspace: &Keyspace,
    leases: &LeaseTable,
    instance: &Instance,
    claim: &Claim,
) -> Result<(KnownLease, bool)> {
    let desired = desired_keys(keyspace, instance, claim, claim.ttl())?;
    let Granted { ttl, is_new } = lease::grant_or_find(client, claim, &desired).await?;
    leases.add(claim, instance, ttl);
    Ok((KnownLease { ttl, acknowledged: None }, is_new))
}

/// Returns the holder of the id of `instance`, as `Superseded` would report it.
pub(crate) async fn holder(
    client: &Client,
    keyspace: &Keyspace,
    instance: &Instance,
) -> Result<Option<Holder>> {
    // etcd serves linearizable reads in a transaction with a quorum.
    let answer = client.txn(Txn::new().and_then(keyspace.keys_of_id(instance)?.reads())).await?;
    let found = txn::reads(&answer)?;
    if found.iter().all(Option::is_none) {
        return Ok(None);
    }
    let service = keyspace.service(instance.service())?;
    Ok(Found::new(&found).holder(&service, instance.id())?)
}

/// A registration whose lease was granted.
struct Registration<'a> {
    client: &'a Client,
    keyspace: &'a Keyspace,
    instance: &'a Instance,
    claim: &'a Claim,
    desired: DesiredKeys,
    /// Whether the lease was granted by this call, so it has no keys yet.
    is_new: bool,
    acknowledged: Option<Acknowledged>,
}

impl Registration<'_> {
    /// Puts the keys as desired, and renews a lease that is not new at the same time. Returns the revision at which
    /// they were put; `None` if the lease is gone.
    async fn put_and_renew(&self) -> Result<Option<Revision>> {
        if self.is_new {
            return self.put().await;
        }
        let renewal = async {
            match lease::renew_existing(self.client, self.claim.lease()).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(None),
                Err(error) => Err(Some(error)),
            }
        };
        let put = async {
            match self.put().await {
                Ok(put_at) => put_at.ok_or(None),
                Err(error) => Err(Some(error)),
            }
        };
        // The renewal of a lease that is gone may block for seconds, until etcd has revoked the lease.
        match future::try_join(put, renewal).await {
            Ok((put_at, ())) => Ok(Some(put_at)),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    /// Puts the keys as desired. Returns the revision at which they were put; `None` if the lease is gone.
    async fn put(&self) -> Result<Option<Revision>> {
        let Self { client, desired, claim, instance, .. } = self;
        let mut step = Step::First;
        for _ in 0..MAX_TRIES {
            let answer = match client.txn(self.transaction(step)).await {
                Ok(answer) => answer,
                Err(error) if error.reason() == Reason::LeaseNotFound => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let found = match outcome(&answer)? {
                Outcome::Stored(revision) => return Ok(Some(Revision::new(revision))),
                Outcome::Torn => {
                    step = Step::Rewrite;
                    continue;
                }
                Outcome::Cleared => {
                    step = Step::First;
                    continue;
                }
                Outcome::Refused(found) => found,
            };
            let found = Found::new(&found);
            let service = self.keyspace.service(instance.service())?;
            let holder = found.holder(&service, instance.id())?;
            if found.is_side_of(claim.lease().get()) {
                if holder.is_none() {
                    // Overwriting the side key would keep its create revision, which identifies the earlier holder.
                    client.txn(desired.deletion_of_side(found.is_unchanged(desired))).await?;
                    step = Step::First;
                    continue;
                }
            } else if let Some(holder) = holder {
                return Err(superseded(instance, holder));
            }
            step = Step::OverwriteIfUnchanged(found.is_unchanged(desired));
        }
        let message = "the keys of the instance changed during its registration: retry";
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// ```text
    /// if the keys are as expected, and not as claimed: put
    /// else if the keys are stored as claimed: read
    /// else if this lease holds the id, no key exists, or the claim takes over from the holder: put
    /// else if only the side key of the acknowledged record is left: delete it
    /// else: read
    /// ```
    ///
    /// The first put is not nested, since etcd 3.4 checks neither permissions nor its quota inside a nested
    /// transaction.
    fn transaction(&self, step: Step) -> Txn {
        let Self { desired, claim, .. } = self;
        let lease = claim.lease().get();
        let changes = desired.changes(lease);
        let mut may_put = vec![desired.is_vacant()];
        if let Takeover::From(holder) = claim.takeover() {
            may_put.extend(desired.is_held_since(&holder));
        }
        may_put.extend(desired.is_held_for_put(lease));
        let expected = match step {
            Step::First => self.expected(),
            Step::OverwriteIfUnchanged(unchanged) => unchanged,
            Step::Rewrite => return if_any(may_put, &changes, desired.reads()),
        };
        let mut last = desired.reads();
        if let Some(Acknowledged { revision, is_hidden: false }) = self.acknowledged
            && let Some(deletion) = desired.deletion_of_orphan(lease, revision)
        {
            last = vec![TxnOp::txn(deletion.or_else(last))];
        }
        let put = TxnOp::txn(if_any(may_put, &changes, last));
        let otherwise = Txn::new().when(desired.is_stored(lease)).and_then(desired.reads());
        let otherwise = [TxnOp::txn(otherwise.or_else([put]))];
        Txn::new().when(expected).and_then(changes).or_else(otherwise)
    }

    /// Compares: the keys are in the usual state before this registration, and do not hold the record yet.
    fn expected(&self) -> Vec<Compare> {
        let Self { desired, claim, .. } = self;
        match (self.is_new, claim.takeover()) {
            (true, Takeover::From(holder)) => {
                let mut held = desired.is_held_since(&holder);
                if held.is_empty() { desired.is_vacant() } else { held.swap_remove(0) }
            }
            (true, _) => desired.is_vacant(),
            (false, _) => {
                let acknowledged = self.acknowledged.filter(|acknowledged| acknowledged.is_hidden);
                let hidden_at = acknowledged.map(|acknowledged| acknowledged.revision);
                desired.is_updatable(claim.lease().get(), hidden_at)
            }
        }
    }
}

/// What the next transaction does.
enum Step {
    First,
    /// Puts the record again: its keys are stored as desired, but at different revisions.
    Rewrite,
    /// Also overwrites keys that hold no id, if these comparisons find them unchanged.
    OverwriteIfUnchanged(Vec<Compare>),
}

/// Returns the keys of `instance` under a lease with the granted `ttl`.
fn desired_keys(
    keyspace: &Keyspace,
    instance: &Instance,
    claim: &Claim,
    ttl: Duration,
) -> Result<DesiredKeys> {
    keyspace.desired_keys(&Record::new(instance.clone()).with_lease(claim.lease()).with_ttl(ttl))
}

/// What a transaction found or did.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The record is stored; it was put at this revision.
    Stored(u64),
    /// The record is stored, but its keys were put at different revisions.
    Torn,
    /// An orphaned side key was deleted, so the id is vacant.
    Cleared,
    /// Something else is stored: the found keys.
    Refused(Vec<Option<KeyValue>>),
}

pub(crate) fn outcome(answer: &TxnResponse) -> Result<Outcome, EtcdError> {
    let revision = Answered::by(answer.header())?.revision;
    let found = match txn::last_branch(answer)? {
        Branch::Put => return Ok(Outcome::Stored(revision)),
        Branch::Deleted => return Ok(Outcome::Cleared),
        Branch::Read { found, succeeded: false } => return Ok(Outcome::Refused(found)),
        Branch::Read { found, succeeded: true } => found,
    };
    let mut put_at = found.iter().flatten().map(|kv| kv.mod_revision().cast_unsigned());
    let first = put_at.next().ok_or(EtcdError::Malformed("the record that it found"))?;
    Ok(if put_at.all(|revision| revision == first) {
        Outcome::Stored(first)
    } else {
        Outcome::Torn
    })
}

fn superseded(instance: &Instance, holder: Holder) -> Error {
    let (service, id) = (instance.service(), instance.id());
    let message =
        format!("another holder has the id, service=`{service}`, id=`{id}`, holder=`{holder}`");
    Error::new(ErrorKind::Superseded, message).with_holder(holder)
}
