//! Whether the record of a lease is still stored as acknowledged.
//!
//! A lease that renews does not show that its key is still there: someone may have deleted or
//! overwritten it, and etcd before 3.4.38 and 3.5.23 may renew a lease it has revoked.

use crate::client::{Answered, Client};
use crate::layout::keyspace::Keyspace;
use etcd_client::{GetOptions, Txn, TxnOp};
use registry_core::{Error, ErrorKind, Lease, Result};

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
