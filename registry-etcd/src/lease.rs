//! The lease of an instance: granted under the id of its claim, renewed, revoked.

use crate::client::Client;
use crate::error::{EtcdError, Reason};
use crate::layout::keyspace::{DesiredKeys, Keyspace};
use crate::lease_table::LeaseTable;
use crate::presence;
use crate::ttl::whole_seconds;
use futures_util::future;
use registry_core::{Claim, Error, ErrorKind, Lease, LeaseId, MAX_TTL, Result};
use std::time::Duration;

/// The lease of a claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granted {
    pub(crate) ttl: Duration,
    /// Whether this call granted it. If not, an earlier call did, and it still needs a renewal.
    pub(crate) is_new: bool,
}

/// Grants the lease of `claim`, or finds the one that an earlier call granted.
///
/// # Errors
///
/// `Invalid` if the lease has another ttl, or keys other than the `desired` ones.
pub(crate) async fn grant_or_find(
    client: &Client,
    claim: &Claim,
    desired: &DesiredKeys,
) -> Result<Granted> {
    let requested = whole_seconds(claim.ttl());
    match client.grant(claim.lease(), requested).await {
        Ok(granted) => Ok(Granted { ttl: as_ttl(granted, requested)?, is_new: true }),
        Err(error) if error.reason() == Reason::LeaseExists => {
            match Box::pin(find(client, claim.lease(), requested, desired)).await? {
                Some(granted) => Ok(Granted { ttl: as_ttl(granted, requested)?, is_new: false }),
                // It expired between the two requests.
                None => Ok(Granted { ttl: grant(client, claim).await?, is_new: true }),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Grants the lease of `claim`. Returns its ttl.
pub(crate) async fn grant(client: &Client, claim: &Claim) -> Result<Duration> {
    let requested = whole_seconds(claim.ttl());
    Ok(as_ttl(client.grant(claim.lease(), requested).await?, requested)?)
}

/// Checks that `lease` has the `requested` ttl and no keys other than the desired ones. Returns its ttl in
/// seconds, or `None` if the lease no longer exists.
async fn find(
    client: &Client,
    lease: LeaseId,
    requested: i64,
    desired: &DesiredKeys,
) -> Result<Option<i64>> {
    let Some(existing) = client.lease_info(lease).await? else { return Ok(None) };
    if existing.keys().iter().any(|attached| !desired.has(attached)) {
        return Err(invalid("the lease id is in use for another instance"));
    }
    let granted = existing.granted_ttl();
    if granted != requested
        && (granted < requested || granted != probe_granted_ttl(client, requested).await?)
    {
        let message = format!("the lease id is in use with another ttl, ttl=`{granted}s`");
        return Err(invalid(message));
    }
    Ok(Some(granted))
}

/// Renews `lease` for its whole ttl. Returns whether it still exists.
pub(crate) async fn renew_existing(client: &Client, lease: LeaseId) -> Result<bool> {
    match client.renew(lease).await {
        Ok(_) => Ok(true),
        Err(error) if error.reason() == Reason::LeaseNotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns the ttl that etcd grants for `requested`: that, or its minimum if that is longer.
///
/// The minimum depends on the server's election timeout, which no request returns, so a lease without keys is
/// granted to find out. This is needed only to repeat a claim whose ttl was raised. Two claims whose ttls are
/// both raised to the minimum are indistinguishable and count as the same.
async fn probe_granted_ttl(client: &Client, requested: i64) -> Result<i64> {
    let trial = LeaseId::random();
    let granted = client.grant(trial, requested).await?;
    revoke_best_effort(client, trial).await;
    Ok(granted)
}

/// Renews `lease` for its whole ttl. Returns the granted ttl.
pub(crate) async fn renew(client: &Client, leases: &LeaseTable, lease: &Lease) -> Result<Duration> {
    match client.renew(lease.id()).await {
        Ok(Some(granted)) => Ok(as_ttl(granted, 1)?),
        Ok(None) => Ok(lease.ttl()),
        Err(error) => {
            if error.reason() == Reason::LeaseNotFound {
                leases.remove(lease.id());
            }
            Err(error.into())
        }
    }
}

/// Renews `lease`, and checks the presence of its record at the same time. Returns the granted ttl.
///
/// # Errors
///
/// `LeaseLost` if either request finds a loss, whatever the outcome of the other.
pub(crate) async fn renew_and_verify(
    client: &Client,
    keyspace: &Keyspace,
    leases: &LeaseTable,
    lease: &Lease,
) -> Result<Duration> {
    let (renewed, verified) =
        future::join(renew(client, leases, lease), presence::verify(client, keyspace, lease)).await;
    match (renewed, verified) {
        (renewed, Err(error)) if error.kind() == ErrorKind::LeaseLost => {
            // The lease may still exist. Its claim can put the record under it again.
            if renewed.is_ok() {
                leases.record(lease, false);
                leases.require_check(lease.id());
            }
            Err(error)
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
        (Ok(granted), Ok(_)) => Ok(granted),
    }
}

/// Revokes `lease`, which deletes its keys. A lease that does not exist is no error.
pub(crate) async fn revoke(client: &Client, lease: LeaseId) -> Result<()> {
    match client.revoke(lease).await {
        Err(error) if error.reason() != Reason::LeaseNotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Revokes a lease that is not needed any more. If that fails, the lease expires after its ttl.
pub(crate) async fn revoke_best_effort(client: &Client, lease: LeaseId) {
    if let Err(error) = revoke(client, lease).await {
        tracing::debug!(%lease, %error, "could not revoke an unused lease: it will expire");
    }
}

/// Returns the ttl for the `granted` seconds. etcd raises a short ttl to one and a half election timeouts.
///
/// # Errors
///
/// `Internal` if it is shorter than `requested`, or longer than any ttl that can be requested.
fn as_ttl(granted: i64, requested: i64) -> Result<Duration, EtcdError> {
    if !(requested..=whole_seconds(MAX_TTL)).contains(&granted) {
        return Err(EtcdError::Malformed("a ttl within the requested range"));
    }
    Ok(Duration::from_secs(granted.unsigned_abs()))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a ttl of 2^63 seconds overflowed when doubled, and a ttl of 0 caused renewals without pause.
    #[test]
    fn ttl_out_of_range_is_an_error() {
        let day = whole_seconds(MAX_TTL);
        for (granted, requested) in
            [(i64::MIN, 1), (-1, 1), (0, 1), (9, 10), (day + 1, 10), (i64::MAX, day)]
        {
            let error = as_ttl(granted, requested).unwrap_err();
            assert_eq!(error.reason(), Reason::Internal, "{granted} for {requested}");
        }
        for (granted, requested) in [(1, 1), (75, 2), (day, day)] {
            assert_eq!(as_ttl(granted, requested).unwrap().as_secs().cast_signed(), granted);
        }
    }
}
