//! Records: instances as a store holds them.

use crate::{Instance, InstanceId, LeaseId, Revision};
use std::fmt;
use std::time::Duration;

/// An instance as a store holds it, with the lease that keeps it registered.
///
/// `lease`, `ttl` and `revision` are `None` if the store or its layout does not have them. For example, a key that was
/// written by hand has no lease, and the value that go-zero stores has no ttl.
///
/// ```
/// use registry_core::{CallOptions, Claim, Instance, Registry, ServiceName};
/// use registry_mem::MemRegistry;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> registry_core::Result<()> {
/// let (registry, options) = (MemRegistry::new(), CallOptions::default());
/// let service: ServiceName = "user.rpc".parse()?;
/// let instance = Instance::from_parts(service.clone(), "node-1".parse()?, "10.0.0.1:8080".parse()?);
/// let claim = Claim::new(Duration::from_secs(10))?;
/// registry.register(&instance, &claim, &options).await?;
///
/// let snapshot = registry.load(&service, &options).await?;
/// let record = &snapshot.records()[0];
/// assert_eq!(record.instance(), &instance);
/// assert_eq!(record.lease(), Some(claim.lease()));
/// assert_eq!(record.ttl(), Some(Duration::from_secs(10)));
/// # Ok(())
/// # }
/// ```
// Each change to a shared snapshot copies its list of records, so a record is kept to 32 bytes: 0 encodes `None` for
// `revision` and `ttl_ms`.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    instance: Instance,
    lease: Option<LeaseId>,
    revision: u64,
    ttl_ms: u32,
}

impl Record {
    /// Returns a record of `instance` without a lease, ttl or revision.
    pub fn new(instance: Instance) -> Self {
        Self { instance, lease: None, revision: 0, ttl_ms: 0 }
    }

    /// Sets the lease of the record.
    #[must_use]
    pub fn with_lease(mut self, lease: LeaseId) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Sets the granted ttl, stored in whole milliseconds and at most 49 days.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl_ms = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX);
        self
    }

    /// Sets the revision at which the record was last written.
    #[must_use]
    pub fn with_revision(mut self, revision: Revision) -> Self {
        self.revision = revision.get();
        self
    }

    /// Returns the instance.
    #[inline]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Returns the instance, without the lease, ttl and revision.
    #[must_use]
    pub fn into_instance(self) -> Instance {
        self.instance
    }

    /// Returns the id of the instance.
    #[inline]
    pub fn id(&self) -> &InstanceId {
        self.instance.id()
    }

    /// Returns the lease of the record.
    pub fn lease(&self) -> Option<LeaseId> {
        self.lease
    }

    /// Returns the ttl that the store granted: how long the record outlives its last renewal.
    pub fn ttl(&self) -> Option<Duration> {
        (self.ttl_ms > 0).then(|| Duration::from_millis(self.ttl_ms.into()))
    }

    /// Returns the revision at which the record was last written. A renewal does not change it.
    pub fn revision(&self) -> Option<Revision> {
        (self.revision > 0).then(|| Revision::new(self.revision))
    }
}

impl From<Instance> for Record {
    fn from(instance: Instance) -> Self {
        Self::new(instance)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, lease, .. } = self;
        f.debug_struct("Record")
            .field("instance", instance)
            .field("lease", lease)
            .field("ttl", &self.ttl())
            .field("revision", &self.revision())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_takes_32_bytes_and_returns_none_for_unset_fields() {
        let instance = Instance::from_parts(
            "a".parse().unwrap(),
            "1".parse().unwrap(),
            "h:1".parse().unwrap(),
        );
        let bare = Record::new(instance);
        assert_eq!((bare.lease(), bare.ttl(), bare.revision()), (None, None, None));
        let lease = LeaseId::new(7).unwrap();
        let full = bare
            .with_lease(lease)
            .with_ttl(Duration::from_millis(1500))
            .with_revision(Revision::new(3));
        assert_eq!(full.lease(), Some(lease));
        assert_eq!(full.ttl(), Some(Duration::from_millis(1500)));
        assert_eq!(full.revision(), Some(Revision::new(3)));
        assert!(size_of::<Record>() <= 32, "{} bytes", size_of::<Record>());
    }
}
