//! The presence check: whether the record of a lease is still stored as acknowledged.
//!
//! A lease that renews does not prove that its key still exists: the key may have been deleted or
//! overwritten, and etcd before 3.4.38 and 3.5.23 may renew a revoked lease.

use crate::client::{Answered, Client};
use crate::layout::keyspace::Keyspace;
use etcd_client::{GetOptions, Txn, TxnOp};
use registry_core::{Error, ErrorKind, Lease, Result};

/// Compares the stored keys of `lease` with the acknowledged ones, in one read.
///
/// The values are compared as well as the revision, since a rollback may give the revision to another record.
///
/// # Errors
///
/// `LeaseLost` unless the keys hold the record last acknowledged for this lease.
pub(crate) async fn verify(
    client: &Client,
    keyspace: &Keyspace,
    lease: &Lease,
) -> Result<Answered> {
    let desired = keyspace.acknowledged(lease)?;
    let compares = desired.is_acknowledged(lease.id().get(), lease.revision().get().cast_signed());
    // Without a read, the member would answer from its own state, without a quorum.
    let read = || [TxnOp::get(&*desired.key.name, Some(GetOptions::new().with_keys_only()))];
    let answer = client.txn(Txn::new().when(compares).and_then(read()).or_else(read())).await?;
    if answer.succeeded() {
        return Ok(Answered::by(answer.header())?);
    }
    let message = "the stored record is missing or not the one last acknowledged";
    Err(Error::new(ErrorKind::LeaseLost, message))
}
