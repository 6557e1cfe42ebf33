//! Registration: a lease, and one transaction under it. A repeat of the transaction makes no revision.

use crate::client::{Answered, Client};
use crate::error::{EtcdError, Reason};
use crate::holding::{Found, if_any};
use crate::layout::keyspace::{DesiredKeys, Keyspace};
use crate::lease::{self, Granted};
use etcd_client::{Compare, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse};
use futures_util::future;
use registry_core::{
    Claim, Error, ErrorKind, Holder, Instance, Lease, Record, Result, Revision, Takeover,
};
use std::time::Duration;

/// How many transactions one call makes. More than one is needed only where the keys of a withdrawn record, or
/// one key of two, are left over.
const MAX_TRIES: usize = 4;

/// Puts the record of `instance` under the lease of `claim`, unless it is stored already.
///
/// `Superseded` if another holder has the id, and the claim does not name it.
///
/// The lease of a superseded claim is not revoked. The claim may be repeated with a takeover, and a revocation that
/// arrives late would delete the record of the repeat. The lease has no keys, and expires by its ttl.
pub(crate) async fn register(
    client: &Client,
    keyspace: &Keyspace,
    instance: &Instance,
    claim: &Claim,
) -> Result<Lease> {
    let mut desired = desired_keys(keyspace, instance, claim, claim.ttl())?;
    let Granted { ttl, is_new } = lease::grant_or_find(client, claim, &desired).await?;
    if ttl != claim.ttl() {
        desired = desired_keys(keyspace, instance, claim, ttl)?;
    }
    let put = || Box::pin(put(client, keyspace, instance, claim, &desired));
    let put_at = if is_new {
        put().await?
    } else {
        // The claim is repeated, or this is an update.
        match future::join(lease::renew_existing(client, claim.lease()), put()).await {
            (_, Err(error)) if error.kind() == ErrorKind::Superseded => return Err(error),
            (Ok(true), outcome) => outcome?,
            // It expired meanwhile, so that this is no longer a repeat.
            (Ok(false), _) => {
                lease::grant(client, claim).await?;
                put().await?
            }
            (Err(error), _) => return Err(error),
        }
    };
    Ok(Lease::new(claim.lease(), ttl, instance.clone(), put_at))
}

/// Reads who holds the id of `instance`, in one transaction: `Superseded` would name the same holder.
pub(crate) async fn holder(
    client: &Client,
    keyspace: &Keyspace,
    instance: &Instance,
) -> Result<Option<Holder>> {
    // etcd serves a transaction of linearizable reads with a quorum.
    let answer = client.txn(Txn::new().and_then(keyspace.keys_of_id(instance)?.reads())).await?;
    let found = answer.op_responses().into_iter().map(|operation| match operation {
        TxnOpResponse::Get(mut get) => Ok(get.take_kvs().pop()),
        _ => Err(EtcdError::Malformed("the keys that it read")),
    });
    let found = found.collect::<Result<Vec<_>, _>>()?;
    if found.iter().all(Option::is_none) {
        return Ok(None);
    }
    let service = keyspace.service(instance.service())?;
    Ok(Found::new(&found).holder(&service, instance.id())?)
}

/// Puts the keys as desired. Returns the revision at which they were put.
async fn put(
    client: &Client,
    keyspace: &Keyspace,
    instance: &Instance,
    claim: &Claim,
    desired: &DesiredKeys,
) -> Result<Revision> {
    let mut step = Step::First;
    for _ in 0..MAX_TRIES {
        let answer = client.txn(transaction(desired, claim, step)).await;
        let answer = answer.map_err(|error| match error.reason() {
            // It was held a moment ago, so this process or the network stood still for a ttl. Nothing
            // was written, and a repeat is granted the lease anew.
            Reason::LeaseNotFound => {
                let message = "the lease expired before the record was written: repeat";
                Error::new(ErrorKind::Unavailable, message).with_source(error)
            }
            _ => error.into(),
        })?;
        let found = match outcome(&answer)? {
            Outcome::Stored(revision) => return Ok(Revision::new(revision)),
            Outcome::Torn => {
                step = Step::Rewrite;
                continue;
            }
            Outcome::Refused(found) => found,
        };
        let found = Found::new(&found);
        let holder = found.holder(&keyspace.service(instance.service())?, instance.id())?;
        if found.is_side_of(claim.lease().get()) {
            if holder.is_none() {
                // The create revision of the side key would name the earlier holder.
                client.txn(desired.deletion_of_side(found.is_unchanged(desired))).await?;
                step = Step::First;
                continue;
            }
        } else if let Some(holder) = holder {
            return Err(superseded(instance, holder));
        }
        step = Step::OverwriteIfUnchanged(found.is_unchanged(desired));
    }
    let message = "the keys of the instance changed while it was registered: repeat";
    Err(Error::new(ErrorKind::Unavailable, message))
}

/// What the next transaction does.
enum Step {
    First,
    /// Puts the record again: its keys are stored as desired, but at different revisions.
    Rewrite,
    /// Also overwrites keys that hold no id, if these comparisons find them unchanged.
    OverwriteIfUnchanged(Vec<Compare>),
}

/// Returns the keys of `instance` with a lease that was granted for `ttl`.
fn desired_keys(
    keyspace: &Keyspace,
    instance: &Instance,
    claim: &Claim,
    ttl: Duration,
) -> Result<DesiredKeys> {
    keyspace.desired_keys(&Record::new(instance.clone()).with_lease(claim.lease()).with_ttl(ttl))
}

/// ```text
/// if it is there as claimed: read it
/// else, if it is ours, if nothing is there, or if the claim takes over from the holder: put it
/// else: read it
/// ```
fn transaction(desired: &DesiredKeys, claim: &Claim, step: Step) -> Txn {
    let lease = claim.lease().get();
    let mut may_put = desired.is_held_for_put(lease);
    may_put.push(desired.is_vacant());
    if let Takeover::From(holder) = claim.takeover() {
        may_put.extend(desired.is_held_since(&holder));
    }
    let is_rewrite = matches!(step, Step::Rewrite);
    if let Step::OverwriteIfUnchanged(unchanged) = step {
        may_put.push(unchanged);
    }
    let put = [TxnOp::txn(if_any(may_put, &desired.changes(lease), desired.reads()))];
    if is_rewrite {
        return Txn::new().and_then(put);
    }
    Txn::new().when(desired.is_stored(lease)).and_then(desired.reads()).or_else(put)
}

/// What a transaction found or made.
#[derive(Debug)]
enum Outcome {
    /// The record is stored, and was put at this revision.
    Stored(u64),
    /// The record is stored, but its keys were put by different revisions.
    Torn,
    /// Something else is stored: what each key shows.
    Refused(Vec<Option<KeyValue>>),
}

fn outcome(answer: &TxnResponse) -> Result<Outcome, EtcdError> {
    let revision = Answered::by(answer.header())?.revision;
    let mut operations = answer.op_responses();
    let mut is_nested = false;
    while let [TxnOpResponse::Txn(inner)] = &operations[..] {
        operations = inner.op_responses();
        is_nested = true;
    }
    let mut found = Vec::new();
    for operation in operations {
        match operation {
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) => {
                return Ok(Outcome::Stored(revision));
            }
            TxnOpResponse::Get(mut get) => found.push(get.take_kvs().pop()),
            TxnOpResponse::Txn(_) => return Err(EtcdError::Malformed("the outcome")),
        }
    }
    if is_nested {
        return Ok(Outcome::Refused(found));
    }
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
        format!("another one holds the id, service=`{service}`, id=`{id}`, holder=`{holder}`");
    Error::new(ErrorKind::Superseded, message).with_holder(holder)
}
