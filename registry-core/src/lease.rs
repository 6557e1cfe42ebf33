//! Leases: they keep instances registered.

use crate::{Error, ErrorKind, Instance, LeaseId, Result, Revision};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

impl LeaseId {
    /// Wraps a number.
    ///
    /// # Errors
    ///
    /// `Invalid` if `id` is below 1. For etcd, 0 means that the server chooses the id.
    pub fn new(id: i64) -> Result<Self> {
        let invalid = || {
            let message = format!("the lease id is not within 1 to 2^63-1, got=`{id}`");
            Error::new(ErrorKind::Invalid, message)
        };
        Self::from_number(id).ok_or_else(invalid)
    }
}

impl TryFrom<i64> for LeaseId {
    type Error = Error;

    fn try_from(id: i64) -> Result<Self> {
        Self::new(id)
    }
}

/// A lease that a store granted: it keeps one instance registered as long as it is renewed.
///
/// A lease is plain data. Dropping it withdraws nothing; the instance expires when its ttl has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    id: LeaseId,
    ttl: Duration,
    instance: Instance,
    revision: Revision,
    proof: Option<Arc<str>>,
}

impl Lease {
    /// Returns a granted lease. For authors of stores: `revision` is that of the last write of the record. The store
    /// uses it to detect that the record is no longer the acknowledged one.
    pub fn new(id: LeaseId, ttl: Duration, instance: Instance, revision: Revision) -> Self {
        Self { id, ttl, instance, revision, proof: None }
    }

    /// Adds a proof that distinguishes the record from another one with the same revision after a rollback. For authors
    /// of stores.
    #[must_use]
    pub fn with_proof(mut self, proof: impl fmt::Display) -> Self {
        self.proof = Some(proof.to_string().into());
        self
    }

    /// Returns the lease id of the claim.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// Returns the granted ttl, which is never shorter than the requested one.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns the registered instance, as last acknowledged.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Returns the revision at which the instance was last written.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the proof that the store [added](Self::with_proof).
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
