//! The ways to use a store that are compared: the registry, and the raw client beside it.

pub mod etcd;
pub mod ours;
pub mod redis;

use anyhow::Result;
use registry_core::{Change, Claim, Instance, ServiceName};
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
    type Watch;

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
}
