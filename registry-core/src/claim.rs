//! Claims: what a caller asks of a store when it registers.

use crate::{Error, ErrorKind, Holder, LeaseId, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The shortest ttl that can be asked for. A lease is renewed every third of it, over a network.
pub const MIN_TTL: Duration = Duration::from_millis(100);

/// The longest ttl that can be asked for. So long may an instance that died be listed.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The ttl of registrations and views where neither their options nor the store's URL state one.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);

/// Returns how long a watch of a store with this [default ttl](crate::Registry::default_ttl) waits for a
/// silent source, unless the store's options say otherwise: two thirds of the ttl. A view is then stale
/// before leases expire that nobody could renew.
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

/// What a caller asks of [`register`](crate::Registry::register), besides the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    lease: LeaseId,
    ttl: Duration,
    takeover: Takeover,
}

impl Claim {
    /// Returns a claim with a new lease id that displaces nobody.
    ///
    /// Draw it once for each registration, and repeat a failed `register` with the same one.
    ///
    /// # Errors
    ///
    /// `Invalid` unless `ttl` is within [`MIN_TTL`] and [`MAX_TTL`].
    pub fn new(ttl: Duration) -> Result<Self> {
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            let message = format!("a ttl is {MIN_TTL:?} to {MAX_TTL:?}, got=`{ttl:?}`");
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

    /// Sets whom the claim displaces.
    #[must_use]
    pub fn with_takeover(mut self, takeover: Takeover) -> Self {
        self.takeover = takeover;
        self
    }

    /// Returns the lease id to register under.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Returns how long the registration outlives its last renewal.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns whom the claim displaces.
    pub fn takeover(&self) -> Takeover {
        self.takeover
    }
}

/// Whom a claim may displace from the id that it claims.
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
/// // A new incarnation reads who holds the id, and displaces exactly that one.
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
    /// Nobody: the id must be vacant or held by the claim's own lease.
    #[default]
    No,
    /// Exactly this holder. If another one holds the id by now, the claim changes nothing.
    From(Holder),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Revision;

    #[test]
    fn a_ttl_is_bounded() {
        for bad in [Duration::ZERO, Duration::from_millis(99), MAX_TTL + Duration::from_millis(1)] {
            assert_eq!(Claim::new(bad).unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert!(Claim::new(MIN_TTL).is_ok() && Claim::new(MAX_TTL).is_ok());
    }

    #[test]
    fn a_claim_with_its_holder_can_be_written_down() {
        let holder = Holder::new(Some(LeaseId::new(7).unwrap()), Some(Revision::new(3)));
        let claim = Claim::new(MIN_TTL).unwrap().with_takeover(Takeover::From(holder));
        let written = serde_json::to_string(&claim).unwrap();
        assert_eq!(serde_json::from_str::<Claim>(&written).unwrap(), claim);
        assert_eq!(holder.to_string(), "lease 7, since revision 3");
        assert_eq!(Holder::new(None, None).to_string(), "no lease");
    }
}
