//! Claims: the lease id, ttl and takeover of a registration.

use crate::{Error, ErrorKind, Holder, LeaseId, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The minimum ttl. A lease is renewed over the network every third of its ttl.
pub const MIN_TTL: Duration = Duration::from_millis(100);

/// The maximum ttl. A crashed instance may stay listed for this long.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The ttl of registrations and views if neither their options nor the store's URL set one.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);

/// Returns the default silence timeout of a store: two thirds of its [default ttl](crate::Registry::default_ttl). A
/// view thus becomes stale before leases expire that could not be renewed during the silence.
///
/// ```
/// use registry_core::silence_timeout;
/// use std::time::Duration;
///
/// assert_eq!(silence_timeout(Some(Duration::from_secs(6))), Duration::from_secs(4));
/// ```
pub fn silence_timeout(default_ttl: Option<Duration>) -> Duration {
    default_ttl.unwrap_or(DEFAULT_TTL) * 2 / 3
}

/// The lease id, ttl and takeover of a call to [`register`](crate::Registry::register).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    lease: LeaseId,
    ttl: Duration,
    takeover: Takeover,
}

impl Claim {
    /// Returns a claim with a new lease id and without takeover.
    ///
    /// Create one claim for each registration, and repeat a failed `register` with the same claim.
    ///
    /// # Errors
    ///
    /// `Invalid` unless `ttl` is within [`MIN_TTL`] and [`MAX_TTL`].
    pub fn new(ttl: Duration) -> Result<Self> {
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            let message =
                format!("the ttl is not within {MIN_TTL:?} to {MAX_TTL:?}, got=`{ttl:?}`");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(Self { lease: LeaseId::random(), ttl, takeover: Takeover::No })
    }

    /// Sets the lease id.
    #[must_use]
    pub fn with_lease(mut self, lease: LeaseId) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the holder that the claim may displace.
    #[must_use]
    pub fn with_takeover(mut self, takeover: Takeover) -> Self {
        self.takeover = takeover;
        self
    }

    /// Returns the lease id to register under.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Returns the requested ttl: how long the registration outlives its last renewal.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns the holder that the claim may displace.
    pub fn takeover(&self) -> Takeover {
        self.takeover
    }
}

/// The permission of a claim to displace the current holder of its id.
///
/// ```
/// use registry_core::{CallOptions, Claim, ErrorKind, Instance, Registry, Takeover};
/// use registry_mem::MemRegistry;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> registry_core::Result<()> {
/// let (registry, options) = (MemRegistry::new(), CallOptions::default());
/// let instance = Instance::from_parts("user.rpc".parse()?, "node-1".parse()?, "10.0.0.1:8080".parse()?);
/// let old = registry.register(&instance, &Claim::new(Duration::from_secs(10))?, &options).await?;
///
/// // A new incarnation reads the holder of the id and displaces exactly that one.
/// let holder = registry.holder(&instance, &options).await?.expect("the id is held");
/// let claim = Claim::new(Duration::from_secs(10))?.with_takeover(Takeover::From(holder));
/// registry.register(&instance, &claim, &options).await?;
///
/// let lost = registry.keep_alive(&old, &options).await.unwrap_err();
/// assert_eq!(lost.kind(), ErrorKind::LeaseLost);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_enums)] // a store that does not know a kind would displace the wrong one
pub enum Takeover {
    /// No takeover: the id must be vacant or held by the claim's own lease.
    #[default]
    No,
    /// Takeover from exactly this holder. If another one holds the id by then, the claim changes nothing.
    From(Holder),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Revision;

    #[test]
    fn a_ttl_out_of_range_is_refused() {
        for bad in [Duration::ZERO, Duration::from_millis(99), MAX_TTL + Duration::from_millis(1)] {
            assert_eq!(Claim::new(bad).unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert!(Claim::new(MIN_TTL).is_ok() && Claim::new(MAX_TTL).is_ok());
    }

    #[test]
    fn a_claim_with_a_holder_round_trips_through_json() {
        let holder = Holder::new(Some(LeaseId::new(7).unwrap()), Some(Revision::new(3)));
        let claim = Claim::new(MIN_TTL).unwrap().with_takeover(Takeover::From(holder));
        let written = serde_json::to_string(&claim).unwrap();
        assert_eq!(serde_json::from_str::<Claim>(&written).unwrap(), claim);
        assert_eq!(holder.to_string(), "lease 7, since revision 3");
        assert_eq!(Holder::new(None, None).to_string(), "no lease");
    }
}
