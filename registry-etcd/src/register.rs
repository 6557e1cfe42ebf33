//! Registration: one transaction that a repeat passes without a trace.

use crate::client::{Answered, Client};
use crate::error::{EtcdError, Reason};
use crate::holding::{Found, if_any};
use crate::layout::keyspace::{Keyspace, Written};
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

/// Puts the record of `instance` under the lease of `claim`, unless it is there already or another one holds
/// the id that the claim does not name.
///
/// The lease of a superseded claim is not revoked. The claim may be repeated with a takeover, and a revocation that
/// arrives late would delete what the repeat has put. Nothing hangs on the lease, and it goes by its ttl.
pub(crate) async fn register(
    client: &Client,
    keyspace: &Keyspace,
    instance: &Instance,
    claim: &Claim,
) -> Result<Lease> {
    let mut written = written(keyspace, instance, claim, claim.ttl())?;
    let Granted { ttl, is_new } = lease::grant_or_find(client, claim, &written).await?;
    if ttl != claim.ttl() {
        written = self::written(keyspace, instance, claim, ttl)?;
    }
    let put = || Box::pin(put(client, keyspace, instance, claim, &written));
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

/// Puts `written`. Gives the revision that it was put at.
async fn put(
    client: &Client,
    keyspace: &Keyspace,
    instance: &Instance,
    claim: &Claim,
    written: &Written,
) -> Result<Revision> {
    let mut step = Step::First;
    for _ in 0..MAX_TRIES {
        let answer = client.txn(transaction(written, claim, step)).await;
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
                // With it would stay the revision since which the lease held the id before.
                client.txn(written.deletion_of_side(found.is_still(written))).await?;
                step = Step::First;
                continue;
            }
        } else if let Some(holder) = holder {
            return Err(superseded(instance, holder));
        }
        step = Step::Over(found.is_still(written));
    }
    let message = "the keys of the instance changed while it was registered: repeat";
    Err(Error::new(ErrorKind::Unavailable, message))
}

/// What the next transaction is to do.
enum Step {
    First,
    /// Puts the record though it is there: its keys were not put together.
    Rewrite,
    /// Puts the record, too, if this holds: what is there holds nothing.
    Over(Vec<Compare>),
}

/// What is written for `instance`, which was granted `ttl`.
fn written(
    keyspace: &Keyspace,
    instance: &Instance,
    claim: &Claim,
    ttl: Duration,
) -> Result<Written> {
    keyspace.written(&Record::new(instance.clone()).with_lease(claim.lease()).with_ttl(ttl))
}

/// ```text
/// if it is there as claimed: read it
/// else, if it is ours, if nothing is there, or if the claim takes over from the holder: put it
/// else: read it
/// ```
fn transaction(written: &Written, claim: &Claim, step: Step) -> Txn {
    let lease = claim.lease().get();
    let mut may_put = written.is_held_for_put(lease);
    may_put.push(written.is_vacant());
    if let Takeover::From(holder) = claim.takeover() {
        may_put.extend(written.is_held_since(&holder));
    }
    let is_rewritten = matches!(step, Step::Rewrite);
    if let Step::Over(left_over) = step {
        may_put.push(left_over);
    }
    let put = [TxnOp::txn(if_any(may_put, &written.changes(lease), written.reads()))];
    if is_rewritten {
        return Txn::new().and_then(put);
    }
    Txn::new().when(written.is_written(lease)).and_then(written.reads()).or_else(put)
}

/// What a transaction found or made.
#[derive(Debug)]
enum Outcome {
    /// The record is stored, written at this revision.
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
