//! Faults on the way to a memory store, for tests of what is built on a registry.
//!
//! A [`FaultyRegistry`] is one client's connection to a [`MemRegistry`]. It keeps the whole
//! contract of [`Registry`], until a [`Fault`] is injected. Others who use the same store, directly
//! or over a connection of their own, notice only what is done to the store itself.
//!
//! This is a unit test of a program that follows a service while its store goes down:
//!
//! ```
//! use futures_util::StreamExt;
//! use registry_core::{Change, Claim, ErrorKind, Instance, Registry, ServiceName};
//! use registry_mem::{Fault, FaultyRegistry, MemRegistry};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> registry_core::Result<()> {
//! let store = MemRegistry::new();
//! let flaky = FaultyRegistry::new(store.clone());
//! let service: ServiceName = "user.rpc".parse()?;
//!
//! // The program under test uses `flaky`. Here it is these two lines.
//! let mut view = flaky.load(&service).await?;
//! let mut watch = flaky.watch(&service, view.cursor()).await?;
//!
//! flaky.inject(Fault::Outage);
//! let error = watch.next().await.expect("it says why it ends").unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Unavailable);
//! assert!(flaky.load(&service).await.is_err());
//!
//! // Meanwhile another client, who is not cut off, registers an instance.
//! let instance = Instance::new(service.clone(), "node-1".parse()?, "10.0.0.1:8080".parse()?);
//! store.register(&instance, &Claim::new(Duration::from_secs(10))?).await?;
//!
//! flaky.heal();
//! let mut watch = flaky.watch(&service, watch.cursor()).await?;
//! let batch = watch.next().await.expect("it goes on")?;
//! assert_eq!(batch.changes, [Change::Put(instance)]);
//! view.apply(batch);
//! assert_eq!(view.instances().len(), 1);
//!
//! // The test would prove nothing if the fault had hit nothing.
//! assert_eq!(flaky.hits().watches_ended, 1);
//! assert_eq!(flaky.hits().calls_refused, 1);
//! # Ok(())
//! # }
//! ```
//!
//! A whole course of faults is a [`Script`], which [`play`](FaultyRegistry::play)s on tokio's
//! clock; a random one is drawn from a seed, and drawn again from the same seed when it found
//! something. Injected faults take effect at once, and time passes only on tokio's clock: with a
//! paused clock, a test takes no time and does the same every time.

mod carried;
mod dice;
mod fault;
mod link;
mod script;

pub use self::fault::{Fault, Hits};
pub use self::script::Script;

use self::link::{Call, Link};
use crate::{MemRegistry, Model, random};
use async_trait::async_trait;
use registry_core::{
    Claim, Cursor, Instance, Lease, Registry, Result, Revision, ServiceName, Snapshot, Watch,
};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::{Instant, sleep_until};

/// One client's connection to a memory store, on which faults are scripted. A clone is the same
/// connection; another client is another `FaultyRegistry` over the same store.
///
/// The [module](self) shows how to use it.
#[derive(Clone)]
pub struct FaultyRegistry {
    store: MemRegistry,
    link: Arc<Link>,
    checkpoint: Arc<Mutex<Option<Model>>>,
}

impl FaultyRegistry {
    /// A connection to `store`, on which nothing is wrong yet. Its draws are those of the seed 0.
    pub fn new(store: MemRegistry) -> Self {
        Self::with_seed(store, 0)
    }

    /// A connection whose latencies, and choice of leases to lose, are drawn from `seed`.
    pub fn with_seed(store: MemRegistry, seed: u64) -> Self {
        Self { store, link: Arc::new(Link::new(seed)), checkpoint: Arc::default() }
    }

    /// Lets `fault` happen: from now on if it is an ongoing one, else now.
    pub fn inject(&self, fault: Fault) {
        match fault {
            Fault::Latency { .. }
            | Fault::Outage
            | Fault::Silence
            | Fault::LostReplies
            | Fault::SlowWatch { .. } => self.link.begin(fault),
            Fault::Cut => self.link.cut(),
            Fault::LeaseLost => self.lose_lease(),
            Fault::Compaction => self.compact(),
            Fault::Rollback => self.roll_back(),
            Fault::Checkpoint => *self.remembered() = Some(self.store.backup()),
        }
    }

    /// Ends all ongoing faults. What hung in a [silence](Fault::Silence) then fails `Unavailable`.
    pub fn heal(&self) {
        self.link.heal();
    }

    /// Plays `script` from now on, and returns when its last step is done.
    ///
    /// Dropped before that it stops where it is, and what is ongoing then goes on:
    /// [heal](Self::heal).
    pub async fn play(&self, script: &Script) {
        let start = Instant::now();
        for step in script.steps() {
            sleep_until(start + step.at).await;
            match step.fault {
                Some(fault) => self.inject(fault),
                None => self.heal(),
            }
        }
    }

    /// How often the faults of this connection took effect so far.
    pub fn hits(&self) -> Hits {
        self.link.hits()
    }
}

impl FaultyRegistry {
    /// One call: there and back, over whatever is wrong.
    async fn call<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let mut call = Call::begin(&self.link)?;
        call.travel().await?;
        let reply = request.await;
        call.travel().await?;
        call.end(reply)
    }

    fn lose_lease(&self) {
        let lost = self.store.shared.with(|now, model| {
            // In order of what they hold: the lease ids themselves are random.
            let mut held = model.held(now).into_values();
            let nth = self.link.below(held.len() as u64);
            let lease = held.nth(usize::try_from(nth).unwrap_or_default());
            lease.inspect(|lease| model.revoke(now, *lease))
        });
        self.link.hit(|hits| hits.leases_ended += u64::from(lost.is_some()));
    }

    fn compact(&self) {
        let forgotten = self.store.shared.with(|_, model| {
            let any = model.committed_after(Revision::new(0)).next().is_some();
            model.compact(model.revision());
            any
        });
        self.link.hit(|hits| hits.compactions += u64::from(forgotten));
    }

    fn roll_back(&self) {
        let checkpoint = self.remembered().clone();
        let blank = || self.store.shared.with(|_, model| model.blank(random()));
        self.store.restore(checkpoint.unwrap_or_else(blank));
        self.link.hit(|hits| hits.rollbacks += 1);
    }

    fn remembered(&self) -> MutexGuard<'_, Option<Model>> {
        self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Registry for FaultyRegistry {
    async fn register(&self, instance: &Instance, claim: &Claim) -> Result<Lease> {
        self.call(self.store.register(instance, claim)).await
    }

    async fn keep_alive(&self, lease: &Lease) -> Result<()> {
        self.call(self.store.keep_alive(lease)).await
    }

    async fn deregister(&self, lease: &Lease) -> Result<()> {
        self.call(self.store.deregister(lease)).await
    }

    async fn load(&self, service: &ServiceName) -> Result<Snapshot> {
        self.call(self.store.load(service)).await
    }

    async fn watch(&self, service: &ServiceName, after: &Cursor) -> Result<Watch> {
        let inner = self.call(self.store.watch(service, after)).await?;
        carried::carry(&self.link, inner, after)
    }

    async fn services(&self) -> Result<BTreeSet<ServiceName>> {
        self.call(self.store.services()).await
    }
}

impl fmt::Debug for FaultyRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyRegistry")
            .field("store", &self.store)
            .field("weather", &self.link.weather())
            .field("hits", &self.hits())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt};

    #[tokio::test]
    async fn a_dropped_watch_leaves_nothing_behind() {
        let store = MemRegistry::new();
        let flaky = FaultyRegistry::new(store.clone());
        let service = "a".parse().unwrap();
        let snapshot = flaky.load(&service).await.unwrap();
        let open = || store.shared.with_state(|_, state| state.watches.len());
        for fault in [None, Some(Fault::Silence), Some(Fault::LostReplies)] {
            let mut watch = flaky.watch(&service, snapshot.cursor()).await.unwrap();
            assert_eq!(open(), 1);
            if let Some(fault) = fault {
                flaky.inject(fault);
            }
            assert!(watch.next().now_or_never().is_none());
            let _ = flaky.watch(&service, snapshot.cursor()).now_or_never();
            drop(watch);
            assert_eq!(open(), 0, "{fault:?}");
            flaky.heal();
        }
        assert_eq!(flaky.hits().watches_ended, 0, "none was open when the silence ended");
    }
}
