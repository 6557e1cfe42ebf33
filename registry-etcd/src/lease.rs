//! The lease an instance hangs on: granted under the id of its claim, renewed, revoked.

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
    /// Whether it was granted just now. Otherwise an earlier call was granted it, and it is not renewed yet.
    pub(crate) is_new: bool,
}

/// Grants the lease of `claim`, or finds the one that an earlier call was granted.
///
/// # Errors
///
/// `Invalid` if the lease has another ttl, or holds another key than those of `desired`.
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
                // It expired meanwhile.
                None => Ok(Granted { ttl: grant(client, claim).await?, is_new: true }),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Grants the lease of `claim`. Gives its ttl.
pub(crate) async fn grant(client: &Client, claim: &Claim) -> Result<Duration> {
    let requested = whole_seconds(claim.ttl());
    Ok(as_ttl(client.grant(claim.lease(), requested).await?, requested)?)
}

/// Checks that `lease` has the `requested` ttl and no keys other than the desired ones. Gives its ttl, or `None` if
/// the lease does not exist any more.
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

/// Renews `lease` for its whole ttl. Gives whether it is still there.
pub(crate) async fn renew_existing(client: &Client, lease: LeaseId) -> Result<bool> {
    match client.renew(lease).await {
        Ok(_) => Ok(true),
        Err(error) if error.reason() == Reason::LeaseNotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What etcd grants who asks for `asked`: that, or its minimum if that is longer.
///
/// The minimum hangs on the server's election timeout and is told nowhere, so it is tried out, with
/// a lease that holds nothing. That is needed only to repeat a claim whose ttl was raised. Of two
/// claims whose ttls are both raised to the minimum it cannot be told which one was first: they
/// count as the same.
async fn probe_granted_ttl(client: &Client, requested: i64) -> Result<i64> {
    let trial = LeaseId::random();
    let granted = client.grant(trial, requested).await?;
    revoke_best_effort(client, trial).await;
    Ok(granted)
}

/// Renews `lease` for its whole ttl. Gives the ttl granted.
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

/// Renews `lease`, and looks at the same time whether its record is still in its place. Gives the ttl granted.
///
/// # Errors
///
/// `LeaseLost` if either says so, whatever becomes of the other.
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
            // The lease may stay. Its claim can put the record under it again.
            if renewed.is_ok() {
                leases.record(lease, false);
                leases.demand_check(lease.id());
            }
            Err(error)
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
        (Ok(granted), Ok(_)) => Ok(granted),
    }
}

/// Revokes `lease`, and with it the keys that hang on it. One that is gone is fine.
pub(crate) async fn revoke(client: &Client, lease: LeaseId) -> Result<()> {
    match client.revoke(lease).await {
        Err(error) if error.reason() != Reason::LeaseNotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Revokes a lease that nothing hangs on any more, or nothing that counts. If that fails it goes by
/// its ttl.
pub(crate) async fn revoke_best_effort(client: &Client, lease: LeaseId) {
    if let Err(error) = revoke(client, lease).await {
        tracing::debug!(%lease, %error, "a lease without a purpose is left to expire");
    }
}

/// Returns the ttl that etcd granted, in seconds, for at least `requested`. It raises short ones to one and a half
/// election timeouts.
///
/// # Errors
///
/// `Internal` if it is shorter, or longer than any ttl that can be requested.
fn as_ttl(granted: i64, requested: i64) -> Result<Duration, EtcdError> {
    if !(requested..=whole_seconds(MAX_TTL)).contains(&granted) {
        return Err(EtcdError::Malformed("a ttl that can have been requested"));
    }
    Ok(Duration::from_secs(granted.unsigned_abs()))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ttl of 2^63 seconds overflowed where it was doubled, and one of 0 was renewed without a pause.
    #[test]
    fn ttl_that_cannot_have_been_requested_is_an_error() {
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
