//! What the scenarios have in common: short names, and a deadline on every await.

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

/// How long anything may take that should happen at once, the lag aside.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A ttl that does not run out within a test.
pub const LONG: Duration = Duration::from_secs(600);

/// Waits for `future`, and panics rather than hangs.
pub async fn within<F: Future>(future: F) -> F::Output {
    lag::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// Repeats what fails `Unavailable`, as the law allows: a connection that was cut fails a call or two.
pub async fn retry<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> T {
    try_again(call).await.unwrap()
}

/// Repeats what fails `Unavailable`, until it ends otherwise.
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

/// One scenario's view of the store.
#[allow(missing_debug_implementations)]
pub struct Case<'a> {
    /// The store's operator.
    pub subject: &'a dyn Subject,
    /// What the store states of itself.
    pub traits: Traits,
    /// The registry.
    pub registry: Arc<dyn Registry>,
    /// The scheduling lag, by which time bounds are put off. None on a paused clock.
    pub lag: Lag,
}

impl<'a> Case<'a> {
    /// A case over `subject`, in a run with this `lag`.
    pub fn new(subject: &'a dyn Subject, traits: Traits, lag: Lag) -> Self {
        // Through the blanket impl, so that a handle's handle is tested too.
        Self { subject, traits, registry: Arc::new(subject.registry()), lag }
    }

    /// Registers `instance` for long.
    pub async fn register(&self, instance: &Instance) -> Lease {
        self.claim(instance, &long()).await.unwrap()
    }

    /// Registers `count` instances of `service` for long, some at a time. Their ids are numbers.
    pub async fn register_many(&self, service: &ServiceName, count: usize) {
        let instances: Vec<_> = (0..count).map(|n| instance(service, &n.to_string())).collect();
        for instances in instances.chunks(50) {
            join_all(instances.iter().map(|instance| self.register(instance))).await;
            tokio::task::yield_now().await; // a reader keeps up, even of a store that answers at once
        }
    }

    /// Registers `instance` as `claim` says.
    pub async fn claim(&self, instance: &Instance, claim: &Claim) -> Result<Lease> {
        within(self.registry.register(instance, claim, &CallOptions::DEFAULT)).await
    }

    /// Reads who holds the id of `instance`.
    pub async fn holder(&self, instance: &Instance) -> Option<Holder> {
        within(self.registry.holder(instance, &CallOptions::DEFAULT)).await.unwrap()
    }

    /// Registers `instance` as `claim` says, and displaces the present holder.
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

    /// The ids that a load of `service` shows.
    pub async fn ids(&self, service: &ServiceName) -> Vec<String> {
        self.load(service).await.records().ids().map(ToString::to_string).collect()
    }

    /// The instances that a load of `service` shows.
    pub async fn instances(&self, service: &ServiceName) -> Vec<Instance> {
        self.load(service).await.instances().cloned().collect()
    }

    /// Watches what `snapshot` is of, from there.
    pub async fn watch(&self, service: &ServiceName, snapshot: &Snapshot) -> Watch {
        within(self.registry.watch(service, snapshot.cursor(), &CallOptions::DEFAULT))
            .await
            .unwrap()
    }

    /// A snapshot of `service`, and a watch from there.
    pub async fn follow(&self, service: &ServiceName) -> (Snapshot, Watch) {
        let snapshot = self.load(service).await;
        let watch = self.watch(service, &snapshot).await;
        (snapshot, watch)
    }

    /// The kind of the error that a watch after `snapshot` gives, at once or as its first item.
    pub async fn refusal(&self, service: &ServiceName, snapshot: &Snapshot) -> Option<ErrorKind> {
        let mut watch =
            match within(self.registry.watch(service, snapshot.cursor(), &CallOptions::DEFAULT))
                .await
            {
                Err(error) => return Some(error.kind()),
                Ok(watch) => watch,
            };
        // A watch with nothing to say says nothing: what it says of this, it says before that.
        let probe = self.register(&instance(service, "probe")).await;
        let item = within(watch.next()).await.expect("a watch has no bare end");
        self.deregister(&probe).await;
        item.err().map(|error| error.kind())
    }

    /// Renews until it fails, as an owner does who renews every third of the ttl. The store has
    /// until its next presence check.
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

/// Lets time pass. For what depends on the time itself, never to wait for something to happen.
pub async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// A service name.
pub fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

/// An instance id.
pub fn id(id: &str) -> InstanceId {
    id.parse().unwrap()
}

/// A plain instance.
pub fn instance(service: &ServiceName, id: &str) -> Instance {
    Instance::from_parts(service.clone(), id.parse().unwrap(), "10.0.0.1:8080".parse().unwrap())
}

/// The `version`th form of an instance.
pub fn version(service: &ServiceName, id: &str, version: usize) -> Instance {
    instance(service, id).with_metadata([("version", version.to_string())])
}

/// A new claim for long.
pub fn long() -> Claim {
    Claim::new(LONG).unwrap()
}

/// Registers `instance` as `claim` says, and displaces the present holder, if it is still there by then.
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

/// The next batch that changes something. Progress is passed over.
pub async fn next(watch: &mut Watch) -> Arc<Batch> {
    next_item(watch).await.unwrap()
}

/// The next batch that changes something, or why there is none.
pub async fn next_item(watch: &mut Watch) -> Result<Arc<Batch>> {
    loop {
        match within(watch.next()).await.expect("a watch has no bare end") {
            Ok(batch) if batch.is_progress() => {}
            item => return item,
        }
    }
}

/// Polls `watch` until it waits, so that a wake-up that is missing shows. It has nothing to say but
/// progress.
pub fn park(watch: &mut Watch) {
    while let Some(item) = watch.next().now_or_never() {
        let batch = item.expect("a watch has no bare end").unwrap();
        assert!(batch.is_progress(), "out of nowhere: {batch:?}");
    }
}

/// The error that ends `watch`, whatever it still says before.
pub async fn end(watch: &mut Watch) -> Error {
    loop {
        if let Err(error) = next_item(watch).await {
            return error;
        }
    }
}

/// The batches of `watch` up to the one that changes `last`.
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

/// The one change of a batch.
#[allow(clippy::needless_pass_by_value)] // it is the last use, and `&` would be noise
pub fn only(batch: Arc<Batch>) -> Change {
    let [change] = <[Change; 1]>::try_from(batch.changes.clone()).expect("one change");
    change
}

/// The instance that a batch puts, and nothing else.
pub fn put(batch: Arc<Batch>) -> Instance {
    match only(batch) {
        Change::Put(record) => record.into_instance(),
        Change::Delete(deleted) => panic!("a put was expected: {deleted:?}"),
    }
}

/// The id of the instance that a batch deletes, and nothing else.
pub fn deleted(batch: Arc<Batch>) -> InstanceId {
    deletion(batch).id().clone()
}

/// The deletion that a batch makes, and nothing else.
pub fn deletion(batch: Arc<Batch>) -> Deleted {
    match only(batch) {
        Change::Delete(deleted) => deleted,
        Change::Put(record) => panic!("a deletion was expected: {record:?}"),
    }
}

/// How long `future` takes, by the clock that leases run on.
pub async fn timed<F: Future>(future: F) -> (Duration, F::Output) {
    let start = Instant::now();
    let output = future.await;
    (start.elapsed(), output)
}
