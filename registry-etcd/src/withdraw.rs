//! Withdrawal: marks the record as withdrawn, so that watches know the reason, then revokes its lease.

use crate::client::Client;
use crate::holding::if_any;
use crate::layout::keyspace::Keyspace;
use crate::lease;
use registry_core::{CallOptions, Lease, Result};

/// Withdraws the record of `lease`, and revokes the lease. Neither request changes the keys of a successor.
///
/// The first request gets half of the caller's timeout. If it fails, the lease is revoked anyway, and the
/// record is deleted without a reason. If the connection was silent for a second by then, the revocation uses
/// another connection.
pub(crate) async fn deregister(
    client: &Client,
    keyspace: &Keyspace,
    lease: &Lease,
    options: &CallOptions,
) -> Result<()> {
    let first = options.timeout.map_or(*options, |timeout| options.with_timeout(timeout / 2));
    if let Err(error) = Box::pin(first.limit(put_withdrawn(client, keyspace, lease))).await {
        let lease = lease.id();
        tracing::debug!(%lease, error = %error.chain(), "could not mark a record as withdrawn");
    }
    lease::revoke(client, lease.id()).await
}

async fn put_withdrawn(client: &Client, keyspace: &Keyspace, lease: &Lease) -> Result<()> {
    let Some(desired) = keyspace.withdrawn(lease)? else { return Ok(()) };
    let lease = lease.id().get();
    client.txn(if_any(desired.is_held_by(lease), &desired.changes(lease), Vec::new())).await?;
    Ok(())
}
