//! Responses to transactions. etcd-client's own accessor panics if an operation lacks its result.

use crate::error::EtcdError;
use etcd_client::proto::{PbTxnOpResponse, PbTxnResponse};
use etcd_client::{KeyValue, TxnResponse};

/// The deepest nesting of transactions that is followed.
const MAX_DEPTH: usize = 16;

/// What the innermost executed transaction did.
#[derive(Debug)]
pub(crate) enum Branch {
    /// It put keys.
    Put,
    /// It only deleted keys.
    Deleted,
    /// It read keys.
    Read {
        /// What each read found.
        found: Vec<Option<KeyValue>>,
        /// Whether its comparisons held.
        succeeded: bool,
    },
}

/// Follows the nested transactions of a response to the innermost one.
pub(crate) fn last_branch(answer: &TxnResponse) -> Result<Branch, EtcdError> {
    let mut txn = &answer.0;
    for _ in 0..MAX_DEPTH {
        match &txn.responses[..] {
            [one] => match &one.response {
                Some(PbTxnOpResponse::ResponseTxn(inner)) => txn = inner,
                _ => return branch(txn),
            },
            _ => return branch(txn),
        }
    }
    Err(EtcdError::Malformed("an outcome"))
}

/// Returns what each read of a read-only transaction found.
pub(crate) fn reads(answer: &TxnResponse) -> Result<Vec<Option<KeyValue>>, EtcdError> {
    match branch(&answer.0)? {
        Branch::Read { found, .. } => Ok(found),
        Branch::Put | Branch::Deleted => Err(EtcdError::Malformed("the keys that it read")),
    }
}

fn branch(txn: &PbTxnResponse) -> Result<Branch, EtcdError> {
    let (mut found, mut has_deleted) = (Vec::new(), false);
    for operation in &txn.responses {
        match &operation.response {
            Some(PbTxnOpResponse::ResponseRange(range)) => {
                found.push(range.kvs.last().cloned().map(KeyValue));
            }
            Some(PbTxnOpResponse::ResponsePut(_)) => return Ok(Branch::Put),
            Some(PbTxnOpResponse::ResponseDeleteRange(_)) => has_deleted = true,
            Some(PbTxnOpResponse::ResponseTxn(_)) | None => {
                return Err(EtcdError::Malformed("the outcome of an operation"));
            }
        }
    }
    if has_deleted {
        return Ok(Branch::Deleted);
    }
    Ok(Branch::Read { found, succeeded: txn.succeeded })
}
