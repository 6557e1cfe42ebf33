//! Changes to instances.

use crate::{InstanceId, Record};

/// A change to one instance of a service. The enum is exhaustive, since a reader that ignored a variant would diverge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Change {
    /// The instance was registered or updated.
    Put(Record),
    /// The instance was withdrawn, expired, deleted, or overwritten by a record that cannot be decoded.
    Delete(Deleted),
}

impl Change {
    /// Returns the id of the instance.
    pub fn id(&self) -> &InstanceId {
        match self {
            Self::Put(record) => record.id(),
            Self::Delete(deleted) => deleted.id(),
        }
    }
}

/// The deletion of an instance, with its reason if the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    id: InstanceId,
    reason: Option<DeleteReason>,
}

impl Deleted {
    /// Returns a deletion without a reason.
    pub fn new(id: InstanceId) -> Self {
        Self { id, reason: None }
    }

    /// Sets the reason.
    #[must_use]
    pub fn with_reason(mut self, reason: DeleteReason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Returns the id of the instance.
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Returns the reason. `None` if the store does not know it, such as for a record that others deleted or overwrote,
    /// for a revoked lease, and for a difference between two loads.
    pub fn reason(&self) -> Option<DeleteReason> {
        self.reason
    }
}

/// The reason of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeleteReason {
    /// Its owner [deregistered](crate::Registry::deregister) it.
    Withdrawn,
    /// Its lease was not renewed for its ttl.
    Expired,
}
