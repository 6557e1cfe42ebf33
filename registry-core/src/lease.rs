//! Leases: the right to keep an instance registered.

use crate::{Error, ErrorKind, Instance, LeaseId, Result, Revision};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

impl LeaseId {
    /// Wraps a number.
    ///
    /// # Errors
    ///
    /// `Invalid` unless it is 1 or more: etcd takes 0 to mean that it should choose one.
    pub fn new(id: i64) -> Result<Self> {
        let invalid = || Error::new(ErrorKind::Invalid, "a lease id is 1 to 2^63-1");
        Self::from_number(id).ok_or_else(invalid)
    }
}

impl TryFrom<i64> for LeaseId {
    type Error = Error;

    fn try_from(id: i64) -> Result<Self> {
        Self::new(id)
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
