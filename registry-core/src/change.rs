//! Changes: what one revision did to one instance.

use crate::{InstanceId, Record};

/// A change to one instance of a service. Exhaustive: a reader that skips a kind diverges.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Change {
    /// The instance is registered, for the first time or with other data.
    Put(Record),
    /// The instance is gone: withdrawn, expired, or overwritten by a record that cannot be decoded.
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

/// An instance that is gone, and why, if the store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    id: InstanceId,
    reason: Option<DeleteReason>,
}

impl Deleted {
    /// A deletion for an unknown reason.
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

    /// Returns the reason. `None` if the store does not know it: the record was deleted or overwritten by
    /// others, or its lease was revoked. A difference between two loads has no reason either.
    pub fn reason(&self) -> Option<DeleteReason> {
        self.reason
    }
}

/// Why an instance is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeleteReason {
    /// Its owner [deregistered](crate::Registry::deregister) it.
    Withdrawn,
    /// Its lease was not renewed for its ttl.
    Expired,
}
