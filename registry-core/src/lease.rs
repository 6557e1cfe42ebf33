//! The right to keep an instance registered: asked for by a claim, granted as a lease.

use crate::{Error, ErrorKind, Instance, Result, Revision};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroI64;
use std::time::Duration;

/// The shortest ttl that can be asked for. A lease is renewed every third of it, over a network.
pub const MIN_TTL: Duration = Duration::from_millis(100);

/// The longest ttl that can be asked for. So long may an instance that died be listed.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The identity of one registration: 1 to `i64::MAX`, drawn by the caller.
///
/// It is the incarnation of an instance and the key to idempotence: to register again under the same
/// id is to repeat, to register under another is to compete.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct LeaseId(NonZeroI64);

impl LeaseId {
    /// Wraps a number.
    ///
    /// # Errors
    ///
    /// `Invalid` unless it is 1 or more: etcd takes 0 to mean that it should choose one.
    pub fn new(id: i64) -> Result<Self> {
        let id = NonZeroI64::new(id).filter(|id| id.get() > 0);
        id.map(Self).ok_or_else(|| Error::new(ErrorKind::Invalid, "a lease id is 1 to 2^63-1"))
    }

    /// Draws 63 bits from the operating system's random source.
    ///
    /// # Panics
    ///
    /// If the operating system has no random source.
    #[must_use]
    pub fn random() -> Self {
        loop {
            let bits = getrandom::u64().expect("the operating system has a random source");
            if let Ok(id) = Self::new(bits.cast_signed() & i64::MAX) {
                return id;
            }
        }
    }

    /// The number.
    pub fn get(self) -> i64 {
        self.0.get()
    }
}

impl TryFrom<i64> for LeaseId {
    type Error = Error;

    fn try_from(id: i64) -> Result<Self> {
        Self::new(id)
    }
}

impl From<LeaseId> for i64 {
    fn from(id: LeaseId) -> Self {
        id.get()
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({self})")
    }
}

/// What a caller asks of [`register`](crate::Registry::register), besides the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    lease: LeaseId,
    ttl: Duration,
    takeover: bool,
}

impl Claim {
    /// A claim with a new lease id, that takes nothing over.
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
        Ok(Self { lease: LeaseId::random(), ttl, takeover: false })
    }

    /// Sets the lease id.
    #[must_use]
    pub fn with_lease(mut self, lease: LeaseId) -> Self {
        self.lease = lease;
        self
    }

    /// Sets whether to displace another lease that holds the instance id.
    #[must_use]
    pub fn with_takeover(mut self, takeover: bool) -> Self {
        self.takeover = takeover;
        self
    }

    /// The lease id to register under.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// How long the registration outlives its last renewal.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Whether to displace another lease that holds the instance id.
    pub fn takeover(&self) -> bool {
        self.takeover
    }
}

/// What a store granted: the right to keep one instance registered.
///
/// Plain data. To drop it withdraws nothing; the instance then goes when its ttl has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    id: LeaseId,
    ttl: Duration,
    instance: Instance,
    revision: Revision,
}

impl Lease {
    /// A lease as granted. For authors of stores: `revision` is the one at which the record was
    /// last written, by which the store later knows that it still stands as acknowledged.
    pub fn new(id: LeaseId, ttl: Duration, instance: Instance, revision: Revision) -> Self {
        Self { id, ttl, instance, revision }
    }

    /// The id it was claimed under.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// The ttl granted: never shorter than the one asked for.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The instance it keeps registered, as last acknowledged.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The revision at which the instance was last written.
    pub fn revision(&self) -> Revision {
        self.revision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_id_is_positive() {
        assert!(LeaseId::new(0).is_err());
        assert!(LeaseId::new(-1).is_err());
        assert_eq!(LeaseId::new(i64::MAX).unwrap().to_string(), "9223372036854775807");
        assert!(serde_json::from_str::<LeaseId>("0").is_err());
        assert_ne!(LeaseId::random(), LeaseId::random());
    }

    #[test]
    fn a_ttl_is_bounded() {
        for bad in [Duration::ZERO, Duration::from_millis(99), MAX_TTL + Duration::from_millis(1)] {
            assert_eq!(Claim::new(bad).unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert!(Claim::new(MIN_TTL).is_ok() && Claim::new(MAX_TTL).is_ok());
    }
}
