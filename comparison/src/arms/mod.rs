//! The ways to use a store that are compared: the registry, and the raw client beside it.

pub mod etcd;
pub mod ours;
pub mod redis;

use anyhow::{Result, bail};
use futures_util::stream::{self, LocalBoxStream, StreamExt, TryStreamExt};
use registry_core::{Change, Claim, Instance, InstanceId, ServiceName};
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

/// One way to use a store, on connections of its own. A clone shares them.
///
/// What a raw arm leaves out stands with its type.
#[expect(async_fn_in_trait, reason = "everything here runs on one thread")]
pub trait Arm: Clone + 'static {
    /// What a registration is renewed and withdrawn by.
    type Held;
    /// A point in the history of a service.
    type Mark;
    /// An open stream of changes.
    type Watch: 'static;

    /// Registers an instance under a lease.
    async fn register(&self, request: &Request) -> Result<Self::Held>;

    /// Renews a registration for its whole ttl.
    async fn keep_alive(&self, held: &Self::Held) -> Result<()>;

    /// Withdraws a registration.
    async fn deregister(&self, held: Self::Held) -> Result<()>;

    /// Reads and decodes all instances of a service, and says how many there are.
    async fn load(&self, service: &ServiceName) -> Result<usize>;

    /// The present, to watch after.
    async fn mark(&self, service: &ServiceName) -> Result<Self::Mark>;

    /// Opens a stream of what changed after `mark`.
    async fn watch(&self, service: &ServiceName, mark: &Self::Mark) -> Result<Self::Watch>;

    /// Waits for what comes next, decoded. It may be nothing, and it may be several changes.
    async fn next(&self, watch: &mut Self::Watch) -> Result<Vec<Change>>;

    /// A view that many in this process can subscribe to. A raw client has none: who needs it hands a
    /// watch on by himself.
    fn view(&self, _: &ServiceName) -> Option<View> {
        None
    }

    /// Has the store forget all changes of a service until now. What is registered stays.
    async fn forget(&self, _: &ServiceName) -> Result<()> {
        bail!("nobody can have this store forget")
    }

    /// Watches after a mark that the store has forgotten, is told so, reads and decodes all instances,
    /// and watches from there. How many there are, and the watch.
    async fn resync(&self, _: &ServiceName, _: &Self::Mark) -> Result<(usize, Self::Watch)> {
        bail!("nobody is told here what was forgotten")
    }

    /// Opens a stream of who is gone since the lease was not renewed.
    async fn deaths(&self, service: &ServiceName) -> Result<Deaths> {
        let watch = self.watch(service, &self.mark(service).await?).await?;
        let changes = stream::try_unfold((self.clone(), watch), async |(arm, mut watch)| {
            let changes = arm.next(&mut watch).await?;
            anyhow::Ok(Some((stream::iter(changes.into_iter().map(anyhow::Ok)), (arm, watch))))
        });
        let gone = changes.try_flatten().try_filter_map(async |change| {
            Ok(if let Change::Delete(id) = change { Some(id) } else { None })
        });
        Ok(gone.boxed_local())
    }
}

/// Who is gone, as it is seen.
pub type Deaths = LocalBoxStream<'static, Result<InstanceId>>;
