//! Holders of instance ids.

use crate::{LeaseId, Revision};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The holder of an instance id, as a `Superseded` [error](crate::Error::holder) or
/// [`Registry::holder`](crate::Registry::holder) names it.
///
/// A holder is opaque and can be stored with serde. A record that cannot be decoded, or that has no lease, also has a
/// holder.
///
/// If a lease registers an id again after a deletion, it counts as a new holder. If a displaced lease takes the id back
/// from its successor without a deletion in between, a store may report the old holder again: etcd does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holder {
    lease: Option<LeaseId>,
    claimed: Option<Revision>,
}

impl Holder {
    /// Returns a holder. For authors of stores: `lease` is the lease of the stored record, and `claimed` is the
    /// revision since which the id has had this holder without interruption.
    pub fn new(lease: Option<LeaseId>, claimed: Option<Revision>) -> Self {
        Self { lease, claimed }
    }

    /// Returns the lease of the stored record, if it has one.
    pub fn lease(&self) -> Option<LeaseId> {
        self.lease
    }

    /// Returns the revision since which the id has had this holder. For authors of stores.
    pub fn claimed(&self) -> Option<Revision> {
        self.claimed
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Holder({self})")
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lease {
            Some(lease) => write!(f, "lease {lease}")?,
            None => f.write_str("no lease")?,
        }
        match self.claimed {
            Some(claimed) => write!(f, ", since revision {claimed}"),
            None => Ok(()),
        }
    }
}
