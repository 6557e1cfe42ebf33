//! An in-memory service registry: exact, in process, without a server.
//!
//! It is for unit tests, examples, and single-process programs. It fulfils the whole contract of
//! [`Registry`], so a program tested with it behaves the same with etcd and Redis. It runs on tokio's clock,
//! so a test that pauses the clock never waits for a ttl.
//!
//! ```
//! use registry_core::{CallOptions, Claim, Instance, Registry, ServiceName};
//! use registry_mem::MemRegistry;
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> registry_core::Result<()> {
//! let (registry, options) = (MemRegistry::new(), CallOptions::default());
//! let service: ServiceName = "user.rpc".parse()?;
//! let instance = Instance::from_parts(service.clone(), "node-1".parse()?, "10.0.0.1:8080".parse()?);
//!
//! registry.register(&instance, &Claim::new(Duration::from_secs(10))?, &options).await?;
//! assert_eq!(registry.load(&service, &options).await?.instances().len(), 1);
//!
//! tokio::time::sleep(Duration::from_secs(10)).await; // takes no time: the clock is paused
//! assert!(registry.load(&service, &options).await?.records().is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # Faults
//!
//! How does your program behave when the store is down, silent or slow? A [`FaultyRegistry`] is one client's
//! connection to a memory store, on which a test injects such [faults]. One client can be partitioned while
//! another is not.
//!
//! # Specification
//!
//! The [`Model`] is the executable specification of the contract.

mod branches;
mod connector;
pub mod faults;
mod model;
mod names;
mod shared;

pub use self::connector::MemConnector;
pub use self::faults::{Fault, FaultyRegistry, Hits, Script};
pub use self::model::{DEFAULT_HISTORY_LIMIT, Model};

use self::shared::{Shared, Subscription, Watches};

use async_trait::async_trait;
use registry_core::{
    Batch, CallOptions, Claim, Cursor, Error, ErrorKind, Holder, Instance, InstanceId, Lease,
    LeaseId, Registry, Result, Revision, ServiceName, Snapshot, Target, Watch,
};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A registry that lives as long as its handles. A clone is another handle to the same registry.
#[derive(Clone)]
pub struct MemRegistry {
    shared: Arc<Shared>,
    default_ttl: Option<Duration>,
}

impl MemRegistry {
    /// Returns an empty registry that keeps the last [`DEFAULT_HISTORY_LIMIT`] batches of history.
    pub fn new() -> Self {
        Self::with_model(Model::new(random()))
    }

    /// Returns an empty registry that keeps the last `batches` of history for resuming watches.
    pub fn with_history_limit(batches: usize) -> Self {
        Self::with_model(Model::new(random()).with_history_limit(batches))
    }

    /// Returns a registry for a `mem://` URL. `mem://name` and `mem://name/namespace` are shared by all
    /// handles of that name in the process, as long as one of them exists. `mem://` is a new registry. The
    /// ttl of a URL applies only to its handle.
    ///
    /// ```
    /// use registry_mem::MemRegistry;
    ///
    /// # fn main() -> registry_core::Result<()> {
    /// let server = MemRegistry::connect(&"mem://demo?ttl=5s".parse()?)?;
    /// let client = MemRegistry::connect(&"mem://demo".parse()?)?; // sees what the server registers
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Invalid` if the URL has anything besides the scheme, a name, a namespace and a ttl.
    pub fn connect(target: &Target) -> Result<Self> {
        target.allow_options(&[])?;
        let has_port = target.hosts().iter().any(|host| host.port().is_some());
        let is_plain = !has_port && target.user().is_none();
        if target.scheme() != "mem" || target.hosts().len() > 1 || !is_plain {
            let message = format!(
                "a memory store URL is `mem://` or `mem://name` without port or user, got=`{target}`"
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let new = || Arc::new(Shared::new(Model::new(random())));
        let shared = match target.hosts() {
            [host] => names::find(&format!("{}/{}", host.name(), target.path()), new),
            _ => new(),
        };
        Ok(Self { shared, default_ttl: target.ttl() })
    }

    fn with_model(model: Model) -> Self {
        Self { shared: Arc::new(Shared::new(model)), default_ttl: None }
    }
}

/// Operator actions and failures.
impl MemRegistry {
    /// Drops the history up to `revision`.
    pub fn compact(&self, revision: Revision) {
        self.shared.with(|_, model| model.compact(revision));
    }

    /// Revokes a lease now and deletes its instance.
    pub fn revoke(&self, lease: LeaseId) {
        self.shared.with(|now, model| model.revoke(now, lease));
    }

    /// Deletes all instances of `service` at one revision, as `etcdctl del --prefix` does.
    pub fn evict(&self, service: &ServiceName) {
        self.shared.with(|now, model| model.evict(now, service));
    }

    /// Ends every open watch with `Unavailable`, as a lost connection does.
    pub fn cut(&self) {
        let watches = self.shared.with_state(|_, state| std::mem::take(&mut state.watches));
        fail_all(watches, || Error::new(ErrorKind::Unavailable, "the connection was cut"));
    }

    /// Returns the current state, to [restore](Self::restore) later.
    pub fn backup(&self) -> Model {
        self.shared.with(|_, model| model.clone())
    }

    /// Restores `backup`, as a failover to a lagging replica does. Open watches fail `Diverged`, and so do
    /// later ones from a cursor that the backup does not contain.
    pub fn restore(&self, backup: Model) {
        let watches = self.shared.with_state(|now, state| {
            state.model.restore(now, backup, random());
            state.published = state.model.revision();
            std::mem::take(&mut state.watches)
        });
        fail_all(watches, || {
            Error::new(ErrorKind::Diverged, "the store was rolled back: load again")
        });
    }
}

impl Default for MemRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revision = self.shared.with(|_, model| model.revision());
        f.debug_struct("MemRegistry").field("revision", &revision).finish_non_exhaustive()
    }
}

// The memory store answers at once, so a caller's timeout never passes.
#[async_trait]
impl Registry for MemRegistry {
    async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
        _options: &CallOptions,
    ) -> Result<Lease> {
        self.shared.with(|now, model| model.register(now, instance, claim))
    }

    async fn holder(&self, instance: &Instance, _options: &CallOptions) -> Result<Option<Holder>> {
        Ok(self.shared.with(|now, model| model.holder(now, instance)))
    }

    async fn keep_alive(&self, lease: &Lease, _options: &CallOptions) -> Result<Duration> {
        self.shared.with(|now, model| model.keep_alive(now, lease))
    }

    async fn deregister(&self, lease: &Lease, _options: &CallOptions) -> Result<()> {
        self.shared.with(|now, model| model.deregister(now, lease));
        Ok(())
    }

    async fn load(&self, service: &ServiceName, _options: &CallOptions) -> Result<Snapshot> {
        Ok(self.shared.with(|now, model| model.load(now, service)))
    }

    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        _options: &CallOptions,
    ) -> Result<Watch> {
        let after = after.clone();
        let open = Subscription::open(&self.shared, service, |_, _| Ok(after))?;
        Ok(open.into_watch(|batch| batch))
    }

    async fn watch_record(&self, lease: &Lease, _options: &CallOptions) -> Result<Watch> {
        let service = lease.instance().service();
        let after = |now, model: &mut Model| model.record_cursor(now, lease);
        let open = Subscription::open(&self.shared, service, after)?;
        let id = lease.instance().id().clone();
        Ok(open.into_watch(move |batch| own_changes(&batch, &id)))
    }

    async fn services(&self, _options: &CallOptions) -> Result<BTreeSet<ServiceName>> {
        Ok(self.shared.with(|now, model| model.services(now)))
    }

    fn default_ttl(&self) -> Option<Duration> {
        self.default_ttl
    }
}

/// Returns `batch` with only the changes of the instance `id`.
fn own_changes(batch: &Arc<Batch>, id: &InstanceId) -> Arc<Batch> {
    let own = batch.changes.iter().filter(|change| change.id() == id);
    Arc::new(Batch::new(batch.cursor.clone(), own.cloned().collect()))
}

fn fail_all(watches: Watches, error: impl Fn() -> Error) {
    for (_, publisher) in watches.into_values().flatten() {
        publisher.fail(error());
    }
}

fn random() -> u64 {
    getrandom::u64().expect("the operating system has a random source")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt};

    #[tokio::test(start_paused = true)]
    async fn watches_receive_all_deletes_of_an_operation_even_if_the_history_limit_is_lower() {
        let registry = MemRegistry::with_history_limit(1);
        let names: [ServiceName; 3] = ["a", "b", "c"].map(|name| name.parse().unwrap());
        let mut watches = Vec::new();
        for name in &names {
            let address = "10.0.0.1:80".parse().unwrap();
            let instance = Instance::from_parts(name.clone(), "1".parse().unwrap(), address);
            let claim = Claim::new(Duration::from_secs(1)).unwrap();
            registry.register(&instance, &claim, &CallOptions::DEFAULT).await.unwrap();
            let snapshot = registry.load(name, &CallOptions::DEFAULT).await.unwrap();
            let watch = registry.watch(name, snapshot.cursor(), &CallOptions::DEFAULT).await;
            watches.push(watch.unwrap());
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        // All three expire in one critical section.
        assert!(registry.services(&CallOptions::DEFAULT).await.unwrap().is_empty());
        for watch in &mut watches {
            let batch = watch.next().now_or_never().unwrap().unwrap().unwrap();
            assert_eq!(batch.changes.len(), 1);
        }
    }

    #[tokio::test]
    async fn dropped_watch_leaves_nothing_behind() {
        let registry = MemRegistry::new();
        let (one, two) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut open = Vec::new();
        for service in [&one, &two] {
            let snapshot = registry.load(service, &CallOptions::DEFAULT).await.unwrap();
            for polled in [false, true] {
                let mut watch = registry
                    .watch(service, snapshot.cursor(), &CallOptions::DEFAULT)
                    .await
                    .unwrap();
                if polled {
                    assert!(watch.next().now_or_never().is_none());
                }
                open.push(watch);
            }
        }
        let open_watches = || {
            registry
                .shared
                .with_state(|_, state| state.watches.values().map(Vec::len).sum::<usize>())
        };
        assert_eq!(open_watches(), 4);
        open.pop();
        assert_eq!(open_watches(), 3);
        drop(open);
        assert_eq!(open_watches(), 0);
        assert!(registry.shared.with_state(|_, state| state.watches.is_empty()));
    }
}
