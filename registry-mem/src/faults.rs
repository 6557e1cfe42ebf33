//! Faults between a client and a memory store, for tests of programs that use a registry.
//!
//! A [`FaultyRegistry`] is one client's connection to a [`MemRegistry`]. It fulfils the whole contract of
//! [`Registry`] until a [`Fault`] is injected. Other clients of the same store, with or without a faulty
//! connection of their own, are affected only by faults of the store itself.
//!
//! This unit test checks a program that follows a service while its store is down:
//!
//! ```
//! use futures_util::StreamExt;
//! use registry_core::{CallOptions, Claim, ErrorKind, Instance, Registry, ServiceName};
//! use registry_mem::{Fault, FaultyRegistry, MemRegistry};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> registry_core::Result<()> {
//! let store = MemRegistry::new();
//! let (flaky, options) = (FaultyRegistry::new(store.clone()), CallOptions::default());
//! let service: ServiceName = "user.rpc".parse()?;
//!
//! // The program under test uses `flaky`. Here it is these two lines.
//! let mut view = flaky.load(&service, &options).await?;
//! let mut watch = flaky.watch(&service, view.cursor(), &options).await?;
//!
//! flaky.inject(Fault::Outage);
//! let error = watch.next().await.expect("a watch ends with an error").unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Unavailable);
//! assert!(flaky.load(&service, &options).await.is_err());
//!
//! // Meanwhile another client, which the fault does not affect, registers an instance.
//! let instance = Instance::from_parts(service.clone(), "node-1".parse()?, "10.0.0.1:8080".parse()?);
//! store.register(&instance, &Claim::new(Duration::from_secs(10))?, &options).await?;
//!
//! flaky.heal();
//! let mut watch = flaky.watch(&service, watch.cursor(), &options).await?;
//! let batch = watch.next().await.expect("the watch continues")?;
//! view.apply(&batch)?;
//! assert_eq!(view.instances().len(), 1);
//!
//! // Without this, the test would pass even if the fault had no effect.
//! assert_eq!(flaky.hits().watches_ended, 1);
//! assert_eq!(flaky.hits().calls_refused, 1);
//! # Ok(())
//! # }
//! ```
//!
//! A [`Script`] is a schedule of faults that [`play`](FaultyRegistry::play)s on tokio's clock. A random script is
//! determined by its seed, so that a failure can be reproduced. Injected faults take effect at once, and time passes
//! only on tokio's clock. So with a paused clock, a test takes no time and is deterministic.

mod connection;
mod fault;
mod faulty_watch;
mod rng;
mod script;

pub use self::fault::{Fault, Hits};
pub use self::script::Script;

use self::connection::{Call, Connection};
use self::faulty_watch::faulty_watch;
use crate::{MemRegistry, Model, random};
use async_trait::async_trait;
use registry_core::{
    CallOptions, Claim, Cursor, Holder, Instance, Lease, Registry, Result, Revision, ServiceName,
    Snapshot, Watch, silence_timeout,
};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// One client's connection to a memory store, on which a test injects faults. A clone is a handle to the same
/// connection. For another client, create another `FaultyRegistry` over the same store.
///
/// The [module](self) has an example.
#[derive(Clone)]
pub struct FaultyRegistry {
    store: MemRegistry,
    connection: Arc<Connection>,
    checkpoint: Arc<Mutex<Option<Model>>>,
    silence_timeout: Duration,
}

impl FaultyRegistry {
    /// Connects to `store`, without faults and with the seed 0.
    pub fn new(store: MemRegistry) -> Self {
        Self::with_seed(store, 0)
    }

    /// Connects to `store`. The `seed` determines the latencies and the lost leases.
    pub fn with_seed(store: MemRegistry, seed: u64) -> Self {
        let silence_timeout = silence_timeout(store.default_ttl());
        let connection = Arc::new(Connection::new(seed));
        Self { store, connection, checkpoint: Arc::default(), silence_timeout }
    }

    /// Sets how long a watch waits in a [silence](Fault::Silence) before it ends `Unavailable`. Defaults to
    /// the [`silence_timeout`] for the store's default ttl.
    #[must_use]
    pub fn with_silence_timeout(mut self, timeout: Duration) -> Self {
        self.silence_timeout = timeout;
        self
    }

    /// Injects `fault`. An ongoing fault stays active until it is [healed](Self::heal).
    pub fn inject(&self, fault: Fault) {
        match fault {
            Fault::Latency { .. }
            | Fault::Outage
            | Fault::Silence
            | Fault::LostReplies
            | Fault::SlowWatch { .. } => self.connection.begin(fault),
            Fault::Cut => self.connection.cut(),
            Fault::LeaseLost => self.lose_lease(),
            Fault::Compaction => self.compact(),
            Fault::Rollback => self.roll_back(),
            Fault::Checkpoint => *self.saved_checkpoint() = Some(self.store.backup()),
        }
    }

    /// Ends all ongoing faults. Calls that hung in a [silence](Fault::Silence) then fail `Unavailable`.
    pub fn heal(&self) {
        self.connection.heal();
    }

    /// Plays `script` from now on, and returns after its last step.
    ///
    /// If the future is dropped earlier, active faults stay active until they are [healed](Self::heal).
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

    /// Returns the counters of the effects of this connection's faults.
    pub fn hits(&self) -> Hits {
        self.connection.hits()
    }
}

impl FaultyRegistry {
    /// Makes a call under the active faults.
    async fn call<T>(
        &self,
        options: &CallOptions,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut call = Call::begin(&self.connection)?;
        let answer = async {
            call.transit().await?;
            let reply = request.await;
            call.transit().await?;
            call.finish(reply)
        };
        options.limit(answer).await
    }

    fn lose_lease(&self) {
        let lost = self.store.shared.with(|now, model| {
            // In the order of their instances, since lease ids are random.
            let mut leases = model.leases(now).into_values();
            let nth = self.connection.draw_below(leases.len() as u64);
            let lease = leases.nth(usize::try_from(nth).unwrap_or_default());
            lease.inspect(|lease| model.revoke(now, *lease))
        });
        self.connection.hit(|hits| hits.leases_ended += u64::from(lost.is_some()));
    }

    fn compact(&self) {
        let dropped = self.store.shared.with(|_, model| {
            let any = model.committed_after(Revision::new(0)).next().is_some();
            model.compact(model.revision());
            any
        });
        self.connection.hit(|hits| hits.compactions += u64::from(dropped));
    }

    fn roll_back(&self) {
        let checkpoint = self.saved_checkpoint().clone();
        let empty = || self.store.shared.with(|_, model| model.emptied(random()));
        self.store.restore(checkpoint.unwrap_or_else(empty));
        self.connection.hit(|hits| hits.rollbacks += 1);
    }

    fn saved_checkpoint(&self) -> MutexGuard<'_, Option<Model>> {
        self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Registry for FaultyRegistry {
    async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
        options: &CallOptions,
    ) -> Result<Lease> {
        self.call(options, self.store.register(instance, claim, options)).await
    }

    async fn holder(&self, instance: &Instance, options: &CallOptions) -> Result<Option<Holder>> {
        self.call(options, self.store.holder(instance, options)).await
    }

    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> Result<Duration> {
        self.call(options, self.store.keep_alive(lease, options)).await
    }

    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> Result<()> {
        self.call(options, self.store.deregister(lease, options)).await
    }

    async fn load(&self, service: &ServiceName, options: &CallOptions) -> Result<Snapshot> {
        self.call(options, self.store.load(service, options)).await
    }

    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> Result<Watch> {
        let inner = self.call(options, self.store.watch(service, after, options)).await?;
        faulty_watch(&self.connection, inner, self.silence_timeout)
    }

    async fn watch_record(&self, lease: &Lease, options: &CallOptions) -> Result<Watch> {
        let inner = self.call(options, self.store.watch_record(lease, options)).await?;
        faulty_watch(&self.connection, inner, self.silence_timeout)
    }

    async fn services(&self, options: &CallOptions) -> Result<BTreeSet<ServiceName>> {
        self.call(options, self.store.services(options)).await
    }

    fn default_ttl(&self) -> Option<Duration> {
        self.store.default_ttl()
    }
}

impl fmt::Debug for FaultyRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyRegistry")
            .field("store", &self.store)
            .field("conditions", &self.connection.conditions())
            .field("hits", &self.hits())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt};

    #[tokio::test]
    async fn dropped_watch_leaves_nothing_behind() {
        let store = MemRegistry::new();
        let flaky = FaultyRegistry::new(store.clone());
        let service = "a".parse().unwrap();
        let snapshot = flaky.load(&service, &CallOptions::DEFAULT).await.unwrap();
        let open = || store.shared.with_state(|_, state| state.watches.len());
        for fault in [None, Some(Fault::Silence), Some(Fault::LostReplies)] {
            let mut watch =
                flaky.watch(&service, snapshot.cursor(), &CallOptions::DEFAULT).await.unwrap();
            assert_eq!(open(), 1);
            if let Some(fault) = fault {
                flaky.inject(fault);
            }
            assert!(watch.next().now_or_never().is_none());
            let _ = flaky.watch(&service, snapshot.cursor(), &CallOptions::DEFAULT).now_or_never();
            drop(watch);
            assert_eq!(open(), 0, "{fault:?}");
            flaky.heal();
        }
        assert_eq!(flaky.hits().watches_ended, 0, "no watch was open when the silence ended");
    }
}
