//! Holders of instance ids.

use crate::{LeaseId, Revision};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who holds an id, as the store named it in a `Superseded` [error](crate::Error::holder) or in an answer of
/// [`holder`](crate::Registry::holder).
///
/// Opaque, and made to be kept: it can be written down with serde. A record that cannot be decoded, or
/// that has no lease, has a holder too.
///
/// A lease that holds an id anew, after a deletion, is another holder. A store may not tell this if the lease was only
/// displaced, and took the id back from its successor without a deletion between: etcd does not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holder {
    lease: Option<LeaseId>,
    claimed: Option<Revision>,
}

impl Holder {
    /// Names a holder. For authors of stores: `lease` is the one under which the record is stored, and
    /// `claimed` the revision since which the id has had this holder without interruption.
    pub fn new(lease: Option<LeaseId>, claimed: Option<Revision>) -> Self {
        Self { lease, claimed }
    }

    /// Returns the lease under which the record is stored.
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
