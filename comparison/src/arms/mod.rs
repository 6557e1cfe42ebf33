//! The arms: the registry and its alternatives, one per file. All arms write and decode the same records.

pub mod channels;
pub mod etcd;
pub mod keyspace;
pub mod ours;
pub mod publish;
pub mod redis;

pub use self::channels::{Caller, ChannelArm};
pub use self::etcd::RawEtcd;
pub use self::keyspace::Keyspace;
pub use self::ours::Ours;
pub use self::publish::Publish;
pub use self::redis::RawRedis;

use anyhow::{Error, Result, bail};
use registry_core::encoding::{self, Stored};
use registry_core::{Change, Claim, Instance, InstanceId, Record, ServiceName};
use registry_engine::View;
use std::ops::Deref;
use std::time::Duration;

/// A ttl that is longer than any run.
pub const TTL: Duration = Duration::from_secs(60 * 60);

/// A request to register. Its construction is not measured, but the encoding of its record is.
#[derive(Clone, Debug)]
pub struct Request {
    pub instance: Instance,
    pub claim: Claim,
}

impl Request {
    pub fn new(service: &ServiceName, id: &str, ttl: Duration) -> Result<Self> {
        let instance = Instance::from_parts(service.clone(), id.parse()?, "10.0.0.1:8080".parse()?);
        Ok(Self { instance, claim: Claim::new(ttl)? })
    }

    pub fn record(&self) -> Result<Vec<u8>> {
        let record = Record::new(self.instance.clone()).with_ttl(self.claim.ttl());
        Ok(encoding::encode(&record)?)
    }

    pub fn ttl_millis(&self) -> Result<u64> {
        Ok(u64::try_from(self.claim.ttl().as_millis())?)
    }
}

/// Decodes a record that a raw arm read.
pub fn decoded(service: &ServiceName, id: &InstanceId, record: &[u8]) -> Result<Record> {
    match encoding::decode(service, id, record)? {
        Stored::Live(record) => Ok(record),
        Stored::Withdrawn(_) => bail!("a raw arm read a withdrawn record, which no arm writes"),
    }
}

/// How an observer recovers from a lost connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// It subscribes again, and misses the changes in between.
    Subscribe,
    /// It subscribes again and reads everything, because it cannot detect missed changes.
    Reread,
    /// It resumes from its position, and reads everything only if the store reports a gap.
    Resume,
}

/// A way to use a store, with its own connections, which clones share.
#[expect(async_fn_in_trait, reason = "everything here runs on one thread")]
pub trait Arm: Clone + 'static {
    /// The handle to renew and end a registration.
    type Lease;
    /// A position in the history of a service.
    type Cursor: Clone;
    type Watch: 'static;
    type Loaded: Deref<Target = [Record]>;

    const RECOVERY: Recovery = Recovery::Resume;

    async fn register(&self, request: &Request) -> Result<Self::Lease>;

    /// Updates a registered instance under its lease.
    async fn update(&self, _: &Self::Lease, request: &Request) -> Result<Self::Lease> {
        self.register(request).await
    }

    async fn keep_alive(&self, lease: &Self::Lease) -> Result<()>;

    async fn deregister(&self, lease: Self::Lease) -> Result<()>;

    async fn load(&self, service: &ServiceName) -> Result<Self::Loaded>;

    /// Returns the current position, to watch from.
    async fn cursor(&self, service: &ServiceName) -> Result<Self::Cursor>;

    /// Opens a stream of the changes after `cursor`.
    async fn watch(&self, service: &ServiceName, cursor: &Self::Cursor) -> Result<Self::Watch>;

    /// Waits for the next changes, possibly none, and decodes them.
    async fn next(&self, watch: &mut Self::Watch) -> Result<Vec<Change>>;

    /// Returns the position after the last change that the watch returned.
    fn position(&self, watch: &Self::Watch) -> Self::Cursor;

    /// Returns whether an error of a watch reports missed changes.
    fn is_gap(_: &Error) -> bool {
        false
    }

    /// Returns a view. A raw client has none.
    fn view(&self, _: &ServiceName) -> Option<View> {
        None
    }
}
