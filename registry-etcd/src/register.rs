//! Registration: one transaction that a repeat passes without a trace.

use crate::client::{Client, cluster_and_revision};
use crate::error::{EtcdError, Reason};
use crate::layout::keyspace::{Keyspace, Record, SideRecord};
use crate::lease;
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};
use registry_core::{Claim, Error, ErrorKind, Instance, Lease, LeaseId, Result, Revision};

/// Puts the record of `instance` under the lease of `claim`, unless it is there already or another
/// lease holds the id.
pub(crate) async fn register(
    client: &Client,
    keyspace: &Keyspace,
    instance: &Instance,
    claim: &Claim,
) -> Result<Lease> {
    let record = keyspace.record(instance)?;
    let ttl = lease::grant_or_renew(client, claim, &record).await?;
    let answer = client.txn(transaction(&record, claim)).await;
    let answer = answer.map_err(|error| match error.reason() {
        // It was held a moment ago, so this process or the network stood still for a ttl. Nothing
        // was written, and a repeat is granted the lease anew.
        Reason::LeaseNotFound => {
            let message = "the lease expired before the record was written: repeat";
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        }
        _ => error.into(),
    })?;
    let revision = match outcome(&answer, claim.lease())? {
        Outcome::Present(revision) => revision,
        Outcome::TakenOver(previous, revision) => {
            // So that its holder hears `LeaseLost` from its next renewal, not only from its next
            // presence check. It is that check which the takeover relies on: this may fail, and
            // a takeover whose answer was lost is repeated as one that has been made. Should the
            // holder take the id back under the same lease just now, that goes too; it hears
            // `LeaseLost` and registers anew.
            Box::pin(lease::revoke_best_effort(client, previous)).await;
            revision
        }
        Outcome::Superseded => {
            // The key is another's, and at most its side key, which counts for nobody, is on our
            // lease: nothing goes with it.
            Box::pin(lease::revoke_best_effort(client, claim.lease())).await;
            let (service, id) = (instance.service(), instance.id());
            let message = format!("another lease holds the id, service=`{service}`, id=`{id}`");
            return Err(Error::new(ErrorKind::Superseded, message));
        }
    };
    Ok(Lease::new(claim.lease(), ttl, instance.clone(), Revision::new(revision)))
}

/// ```text
/// if it is there as claimed: read it
/// else, a claim that takes over: put it
/// else if it is ours, or if nothing is there: put it
/// else: read it
/// ```
///
/// With a side key, that is there as claimed too, and is put with it or deleted. The first
/// operation of each branch is about the key itself.
fn transaction(record: &Record, claim: &Claim) -> Txn {
    let Record { key, value, side } = record;
    let lease = claim.lease().get();
    let ours = || Compare::lease(&**key, CompareOp::Equal, lease);
    let mut as_claimed = vec![ours(), Compare::value(&**key, CompareOp::Equal, &**value)];
    let options = PutOptions::new().with_lease(lease);
    let mut put = vec![TxnOp::put(&**key, &**value, Some(options.clone().with_prev_key()))];
    if let Some(SideRecord { key, value }) = side {
        if let Some(value) = value {
            as_claimed.push(Compare::lease(&**key, CompareOp::Equal, lease));
            as_claimed.push(Compare::value(&**key, CompareOp::Equal, &**value));
            put.push(TxnOp::put(&**key, &**value, Some(options)));
        } else {
            as_claimed.push(Compare::create_revision(&**key, CompareOp::Equal, 0));
            put.push(TxnOp::delete(&**key, None));
        }
    }
    let vacant = Compare::create_revision(&**key, CompareOp::Equal, 0);
    let read = || TxnOp::get(&**key, None);
    let change = if claim.takeover() {
        put
    } else {
        let unless_held = Txn::new().when([vacant]).and_then(put.clone()).or_else([read()]);
        let unless_ours = Txn::new().when([ours()]).and_then(put);
        vec![TxnOp::txn(unless_ours.or_else([TxnOp::txn(unless_held)]))]
    };
    Txn::new().when(as_claimed).and_then([read()]).or_else(change)
}

/// What a transaction found or made.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The record is stored, written at this revision.
    Present(u64),
    /// The record is stored, written at this revision over that of another lease.
    TakenOver(LeaseId, u64),
    /// The record of another lease is stored.
    Superseded,
}

fn outcome(answer: &TxnResponse, ours: LeaseId) -> Result<Outcome, EtcdError> {
    let (_, revision) = cluster_and_revision(answer.header())?;
    let mut operations = answer.op_responses();
    loop {
        return match operations.into_iter().next() {
            Some(TxnOpResponse::Txn(inner)) => {
                operations = inner.op_responses();
                continue;
            }
            Some(TxnOpResponse::Put(put)) => {
                // Lease 0 is no lease: someone put the key by hand.
                let previous = put.prev_key().and_then(|kv| LeaseId::new(kv.lease()).ok());
                Ok(match previous.filter(|previous| *previous != ours) {
                    Some(previous) => Outcome::TakenOver(previous, revision),
                    None => Outcome::Present(revision),
                })
            }
            Some(TxnOpResponse::Get(get)) => match get.kvs().first() {
                Some(kv) if kv.lease() == ours.get() => {
                    Ok(Outcome::Present(kv.mod_revision().cast_unsigned()))
                }
                Some(_) => Ok(Outcome::Superseded),
                None => Err(EtcdError::Malformed("the record that a transaction found")),
            },
            _ => Err(EtcdError::Malformed("the outcome of a transaction")),
        };
    }
}
