//! Helpers for scenarios: short names, and a deadline on every await.

use crate::lag::{self, Lag};
use crate::{LostWrites, Subject, Traits};
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use registry_core::{
    Batch, CallOptions, Change, Claim, Deleted, Error, ErrorKind, Holder, Instance, InstanceId,
    Lease, Registry, Result, ServiceName, Snapshot, Takeover, Watch,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The timeout of anything that should happen at once. Scheduling lag extends it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A ttl that does not expire within a test.
pub const LONG: Duration = Duration::from_secs(600);

/// Waits for `future`, and panics after [`PATIENCE`].
pub async fn within<F: Future>(future: F) -> F::Output {
    lag::timeout(PATIENCE, future).await.expect("the operation hangs")
}

/// Repeats a call while it fails with `Unavailable`, and expects it to succeed. A disconnect may fail the next calls.
pub async fn retry<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> T {
    try_again(call).await.unwrap()
}

/// Repeats a call while it fails with `Unavailable`.
pub async fn try_again<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    within(async {
        loop {
            match call().await {
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    tokio::task::yield_now().await;
                }
                outcome => return outcome,
            }
        }
    })
    .await
}

/// A store, as a scenario uses it.
#[allow(missing_debug_implementations)]
pub struct Case<'a> {
    /// The store under test, for the operator's actions.
    pub subject: &'a dyn Subject,
    /// The properties that the store claims.
    pub traits: Traits,
    /// The registry under test.
    pub registry: Arc<dyn Registry>,
    /// The scheduling lag, which extends time bounds. Zero on a paused clock.
    pub lag: Lag,
}

impl<'a> Case<'a> {
    /// Creates a case over `subject` for a run with this `lag`.
    pub fn new(subject: &'a dyn Subject, traits: Traits, lag: Lag) -> Self {
        // An `Arc` of the `Arc`, so that the blanket impl is tested, too.
        Self { subject, traits, registry: Arc::new(subject.registry()), lag }
    }

    /// Registers `instance` with the ttl [`LONG`].
    pub async fn register(&self, instance: &Instance) -> Lease {
        self.claim(instance, &long()).await.unwrap()
    }

    /// Registers `count` instances of `service` with the ttl [`LONG`], 50 at a time. Their ids are numbers.
    pub async fn register_many(&self, service: &ServiceName, count: usize) {
        let instances: Vec<_> = (0..count).map(|n| instance(service, &n.to_string())).collect();
        for instances in instances.chunks(50) {
            join_all(instances.iter().map(|instance| self.register(instance))).await;
            tokio::task::yield_now().await; // lets a reader keep up with a store that never suspends
        }
    }

    /// Registers `instance` with `claim`.
    pub async fn claim(&self, instance: &Instance, claim: &Claim) -> Result<Lease> {
        within(self.registry.register(instance, claim, &CallOptions::DEFAULT)).await
    }

    /// Reads the holder of the id of `instance`.
    pub async fn holder(&self, instance: &Instance) -> Option<Holder> {
        within(self.registry.holder(instance, &CallOptions::DEFAULT)).await.unwrap()
    }

    /// Registers `instance` with `claim`, and takes the id over from its current holder.
    pub async fn take_over(&self, instance: &Instance, claim: &Claim) -> Result<Lease> {
        within(take_over(&self.registry, instance, claim)).await
    }

    /// Renews `lease`.
    pub async fn keep_alive(&self, lease: &Lease) -> Result<Duration> {
        within(self.registry.keep_alive(lease, &CallOptions::DEFAULT)).await
    }

    /// Withdraws `lease`.
    pub async fn deregister(&self, lease: &Lease) {
        within(self.registry.deregister(lease, &CallOptions::DEFAULT)).await.unwrap();
    }

    /// Loads `service`.
    pub async fn load(&self, service: &ServiceName) -> Snapshot {
        within(self.registry.load(service, &CallOptions::DEFAULT)).await.unwrap()
    }

    /// Loads `service`, and returns the ids.
    pub async fn ids(&self, service: &ServiceName) -> Vec<String> {
        self.load(service).await.records().ids().map(ToString::to_string).collect()
    }

    /// Loads `service`, and returns the instances.
    pub async fn instances(&self, service: &ServiceName) -> Vec<Instance> {
        self.load(service).await.instances().cloned().collect()
    }

    /// Watches `service` from the cursor of `snapshot`.
    pub async fn watch(&self, service: &ServiceName, snapshot: &Snapshot) -> Watch {
        within(self.registry.watch(service, snapshot.cursor(), &CallOptions::DEFAULT))
            .await
            .unwrap()
    }

    /// Loads `service`, and watches it from the snapshot's cursor.
    pub async fn follow(&self, service: &ServiceName) -> (Snapshot, Watch) {
        let snapshot = self.load(service).await;
        let watch = self.watch(service, &snapshot).await;
        (snapshot, watch)
    }

    /// Watches from the cursor of `snapshot`, and returns the kind of the error that opening the watch or its
    /// first item fails with.
    pub async fn refusal(&self, service: &ServiceName, snapshot: &Snapshot) -> Option<ErrorKind> {
        let mut watch =
            match within(self.registry.watch(service, snapshot.cursor(), &CallOptions::DEFAULT))
                .await
            {
                Err(error) => return Some(error.kind()),
                Ok(watch) => watch,
            };
        // A watch without changes would stay pending. The error must come before the probe's change.
        let probe = self.register(&instance(service, "probe")).await;
        let item = within(watch.next()).await.expect("a watch has no bare end");
        self.deregister(&probe).await;
        item.err().map(|error| error.kind())
    }

    /// Renews every third of the ttl until a renewal fails, and returns the kind of the error. Returns `None` if
    /// no renewal fails until the store's next presence check.
    pub async fn first_failure(&self, lease: &Lease) -> Option<ErrorKind> {
        let tries = match self.traits.lost_writes {
            LostWrites::NoticedAtOnce => 1,
            LostWrites::NoticedOncePerTtl => 5,
        };
        for n in 0..tries {
            if n > 0 {
                pass(lease.ttl() / 3).await;
            }
            if let Err(error) = self.keep_alive(lease).await {
                return Some(error.kind());
            }
        }
        None
    }
}

/// Lets time pass, for an effect of time itself such as an expiry. Never use it to wait for an event.
pub async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Parses a service name.
pub fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

/// Parses an instance id.
pub fn id(id: &str) -> InstanceId {
    id.parse().unwrap()
}

/// Creates an instance with a fixed address.
pub fn instance(service: &ServiceName, id: &str) -> Instance {
    Instance::from_parts(service.clone(), id.parse().unwrap(), "10.0.0.1:8080".parse().unwrap())
}

/// Creates an instance with `version` in its metadata.
pub fn version(service: &ServiceName, id: &str, version: usize) -> Instance {
    instance(service, id).with_metadata([("version", version.to_string())])
}

/// Creates a claim with the ttl [`LONG`].
pub fn long() -> Claim {
    Claim::new(LONG).unwrap()
}

/// Registers `instance` with `claim`, and takes the id over from its current holder, if it has one.
pub async fn take_over(
    registry: &dyn Registry,
    instance: &Instance,
    claim: &Claim,
) -> Result<Lease> {
    let options = CallOptions::default();
    let holder = registry.holder(instance, &options).await?;
    let claim = claim.with_takeover(holder.map_or(Takeover::No, Takeover::From));
    registry.register(instance, &claim, &options).await
}

/// Returns the next batch with changes. Skips progress.
pub async fn next(watch: &mut Watch) -> Arc<Batch> {
    next_item(watch).await.unwrap()
}

/// Returns the next batch with changes, or the error that ends the watch.
pub async fn next_item(watch: &mut Watch) -> Result<Arc<Batch>> {
    loop {
        match within(watch.next()).await.expect("a watch has no bare end") {
            Ok(batch) if batch.is_progress() => {}
            item => return item,
        }
    }
}

/// Polls `watch` until it is pending, so that a missing wake-up is detected. Expects nothing but progress.
pub fn park(watch: &mut Watch) {
    while let Some(item) = watch.next().now_or_never() {
        let batch = item.expect("a watch has no bare end").unwrap();
        assert!(batch.is_progress(), "unexpected change: {batch:?}");
    }
}

/// Returns the error that ends `watch`. Skips all batches before it.
pub async fn end(watch: &mut Watch) -> Error {
    loop {
        if let Err(error) = next_item(watch).await {
            return error;
        }
    }
}

/// Returns the batches of `watch` up to the first one that changes `last`.
pub async fn until(watch: &mut Watch, last: &InstanceId) -> Vec<Arc<Batch>> {
    let mut batches = Vec::new();
    loop {
        let batch = next(watch).await;
        let found = batch.changes.iter().any(|change| change.id() == last);
        batches.push(batch);
        if found {
            return batches;
        }
    }
}

/// Returns the change of a batch, which must have exactly one.
#[allow(clippy::needless_pass_by_value)] // callers do not need the batch any more
pub fn only(batch: Arc<Batch>) -> Change {
    let [change] =
        <[Change; 1]>::try_from(batch.changes.clone()).expect("the batch must have one change");
    change
}

/// Returns the instance of a batch, which must have one put and no other change.
pub fn put(batch: Arc<Batch>) -> Instance {
    match only(batch) {
        Change::Put(record) => record.into_instance(),
        Change::Delete(deleted) => panic!("expected a put, got {deleted:?}"),
    }
}

/// Returns the id that a batch deletes, which must have one delete and no other change.
pub fn deleted(batch: Arc<Batch>) -> InstanceId {
    deletion(batch).id().clone()
}

/// Returns the delete of a batch, which must have no other change.
pub fn deletion(batch: Arc<Batch>) -> Deleted {
    match only(batch) {
        Change::Delete(deleted) => deleted,
        Change::Put(record) => panic!("expected a delete, got {record:?}"),
    }
}

/// Returns how long `future` takes, by tokio's clock, and its output.
pub async fn timed<F: Future>(future: F) -> (Duration, F::Output) {
    let start = Instant::now();
    let output = future.await;
    (start.elapsed(), output)
}
