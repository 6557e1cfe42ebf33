//! Leases: the right to keep an instance registered.

use crate::{Error, ErrorKind, Instance, Result, Revision};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroI64;
use std::sync::Arc;
use std::time::Duration;

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

/// What a store granted: the right to keep one instance registered.
///
/// Plain data. To drop it withdraws nothing; the instance then goes when its ttl has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    id: LeaseId,
    ttl: Duration,
    instance: Instance,
    revision: Revision,
    proof: Option<Arc<str>>,
}

impl Lease {
    /// Returns a lease as granted. For authors of stores: `revision` is the one at which the record was
    /// last written, by which the store later knows that it still stands as acknowledged.
    pub fn new(id: LeaseId, ttl: Duration, instance: Instance, revision: Revision) -> Self {
        Self { id, ttl, instance, revision, proof: None }
    }

    /// Adds what tells the record from another one that has its revision after a rollback. For authors of
    /// stores.
    #[must_use]
    pub fn with_proof(mut self, proof: impl fmt::Display) -> Self {
        self.proof = Some(proof.to_string().into());
        self
    }

    /// Returns the id that it was claimed under.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// Returns the granted ttl: never shorter than the one that was asked for.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns the instance that it keeps registered, as last acknowledged.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Returns the revision at which the instance was last written.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns what the store [added](Self::with_proof).
    pub fn proof(&self) -> Option<&str> {
        self.proof.as_deref()
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
}
