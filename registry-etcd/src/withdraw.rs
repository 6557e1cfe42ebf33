//! Withdrawal: the record is put as withdrawn, so that watches know why it goes, and then its lease is revoked.

use crate::client::Client;
use crate::holding::if_any;
use crate::layout::keyspace::Keyspace;
use crate::lease;
use registry_core::{Lease, Result};

/// Withdraws what is registered under `lease`, and revokes the lease. Neither touches the keys of a successor.
///
/// Should the first step fail, the second is made all the same: the record is gone, and no watch knows why.
pub(crate) async fn deregister(client: &Client, keyspace: &Keyspace, lease: &Lease) -> Result<()> {
    if let Err(error) = Box::pin(put_withdrawn(client, keyspace, lease)).await {
        let lease = lease.id();
        tracing::debug!(%lease, error = %error.chain(), "an instance goes without its reason");
    }
    lease::revoke(client, lease.id()).await
}

async fn put_withdrawn(client: &Client, keyspace: &Keyspace, lease: &Lease) -> Result<()> {
    let Some(desired) = keyspace.withdrawn(lease)? else { return Ok(()) };
    let lease = lease.id().get();
    client.txn(if_any(desired.is_held_by(lease), &desired.changes(lease), Vec::new())).await?;
    Ok(())
}
