//! The ways to use a store that are compared: the registry, and the raw client beside it.

pub mod etcd;
pub mod ours;
pub mod redis;

use anyhow::{Result, bail};
use futures_util::stream::{self, LocalBoxStream, StreamExt, TryStreamExt};
use registry_core::encoding::{self, Stored};
use registry_core::{Change, Claim, Instance, InstanceId, Record, ServiceName};
use registry_engine::View;
use std::time::Duration;

/// How long leases are asked for: longer than any run, so that nothing is renewed and nothing expires
/// but what is measured.
pub const TTL: Duration = Duration::from_secs(60 * 60);

/// What is asked of a store. The caller draws the lease id and builds the instance in every arm, so
/// neither is measured; to encode the record is.
#[derive(Debug)]
pub struct Request {
    /// What to register.
    pub instance: Instance,
    /// Under which lease.
    pub claim: Claim,
}

impl Request {
    /// Encodes the record, as every arm writes it.
    ///
    /// # Errors
    ///
    /// If the instance is too large.
    pub fn record(&self) -> Result<Vec<u8>> {
        let record = Record::new(self.instance.clone()).with_ttl(self.claim.ttl());
        Ok(encoding::encode(&record)?)
    }
}

/// Decodes a record that a raw arm read.
///
/// # Errors
///
/// If it is no record of an instance that is registered.
pub fn decoded(service: &ServiceName, id: &InstanceId, record: &[u8]) -> Result<Record> {
    match encoding::decode(service, id, record)? {
        Stored::Live(record) => Ok(record),
        Stored::Withdrawn(_) => bail!("a raw arm withdraws nothing"),
    }
}

/// One way to use a store, on connections of its own. A clone shares them.
///
/// What a raw arm leaves out stands with its type.
#[expect(async_fn_in_trait, reason = "everything here runs on one thread")]
pub trait Arm: Clone + 'static {
    /// The handle to renew and end a registration.
    type Lease;
    /// A point in the history of a service.
    type Cursor;
    /// An open stream of changes.
    type Watch: 'static;

    /// Registers an instance under a lease.
    async fn register(&self, request: &Request) -> Result<Self::Lease>;

    /// Renews a registration for its whole ttl.
    async fn keep_alive(&self, lease: &Self::Lease) -> Result<()>;

    /// Ends a registration.
    async fn deregister(&self, lease: Self::Lease) -> Result<()>;

    /// Reads and decodes all instances of a service, and says how many there are.
    async fn load(&self, service: &ServiceName) -> Result<usize>;

    /// Returns the current point, to watch from.
    async fn cursor(&self, service: &ServiceName) -> Result<Self::Cursor>;

    /// Opens a stream of the changes after `cursor`.
    async fn watch(&self, service: &ServiceName, cursor: &Self::Cursor) -> Result<Self::Watch>;

    /// Waits for the next changes, decoded. There may be none, one or several.
    async fn next(&self, watch: &mut Self::Watch) -> Result<Vec<Change>>;

    /// Returns a view for many subscribers in this process. A raw client has none: its user fans a watch out.
    fn view(&self, _: &ServiceName) -> Option<View> {
        None
    }

    /// Compacts all changes of a service until now. Registrations stay.
    async fn compact(&self, _: &ServiceName) -> Result<()> {
        bail!("this arm cannot compact its store")
    }

    /// Watches from a compacted cursor, gets the error, loads and decodes all instances, and watches from there.
    /// Returns how many instances there are, and the watch.
    async fn resync(&self, _: &ServiceName, _: &Self::Cursor) -> Result<(usize, Self::Watch)> {
        bail!("this arm does not detect a compaction")
    }

    /// Opens a stream of the instances whose lease expired.
    async fn expirations(&self, service: &ServiceName) -> Result<Expirations> {
        let watch = self.watch(service, &self.cursor(service).await?).await?;
        let changes = stream::try_unfold((self.clone(), watch), async |(arm, mut watch)| {
            let changes = arm.next(&mut watch).await?;
            anyhow::Ok(Some((stream::iter(changes.into_iter().map(anyhow::Ok)), (arm, watch))))
        });
        let deleted = changes.try_flatten().try_filter_map(async |change| {
            Ok(if let Change::Delete(deleted) = change { Some(deleted.id().clone()) } else { None })
        });
        Ok(deleted.boxed_local())
    }
}

/// The expired instances, as they are seen.
pub type Expirations = LocalBoxStream<'static, Result<InstanceId>>;
