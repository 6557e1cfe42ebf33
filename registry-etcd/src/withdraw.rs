//! Withdrawal: the record is put as withdrawn, so that watches know the reason, and then its lease is revoked.

use crate::client::Client;
use crate::holding::if_any;
use crate::layout::keyspace::Keyspace;
use crate::lease;
use registry_core::{CallOptions, Lease, Result};

/// Withdraws the record of `lease`, and revokes the lease. Neither request changes the keys of a successor.
///
/// The first request gets half of the caller's timeout. If it fails, the lease is revoked all the same: the record is
/// then deleted without a reason. If the connection was silent for a second by then, the revocation is sent over
/// another one.
pub(crate) async fn deregister(
    client: &Client,
    keyspace: &Keyspace,
    lease: &Lease,
    options: &CallOptions,
) -> Result<()> {
    let first = options.timeout.map_or(*options, |timeout| options.with_timeout(timeout / 2));
    if let Err(error) = Box::pin(first.limit(put_withdrawn(client, keyspace, lease))).await {
        let lease = lease.id();
        tracing::debug!(%lease, error = %error.chain(), "an instance is deleted without a reason");
    }
    lease::revoke(client, lease.id()).await
}

async fn put_withdrawn(client: &Client, keyspace: &Keyspace, lease: &Lease) -> Result<()> {
    let Some(desired) = keyspace.withdrawn(lease)? else { return Ok(()) };
    let lease = lease.id().get();
    client.txn(if_any(desired.is_held_by(lease), &desired.changes(lease), Vec::new())).await?;
    Ok(())
}
