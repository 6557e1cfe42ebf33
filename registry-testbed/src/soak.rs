//! A long random run on a store with disturbed connections, checked against the laws.
//!
//! A scenario of the kit tests one clause. A soak run tests all of them for a long time: writers compete for few
//! ids, and readers are disconnected and resume. One reader on an undisturbed connection records the history that
//! all others must have seen.

use fastrand::Rng;
use futures_util::StreamExt;
use futures_util::future::{join_all, join3};
use registry_core::{
    Batch, CallOptions, Change, Claim, ErrorKind, Registry, ServiceName, Snapshot, Watch,
};
use registry_testkit::case::{LONG, id, instance, service, within};
use registry_testkit::contender::{Contender, retry_counted};
use registry_testkit::lag;
use registry_testkit::laws::{History, Reader, check};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::sleep;

const WRITERS: usize = 4;
const READERS: usize = 4;

/// The number of ids that the writers compete for.
const IDS: u8 = 8;

/// The number of operations of each writer in a round. The time of the checks is quadratic in it.
const OPERATIONS: usize = 150;

/// The timeout of a round.
const ROUND: Duration = Duration::from_secs(60);

/// A soak run.
#[allow(missing_debug_implementations)]
pub struct Soak<D> {
    /// The store over the disturbed connection.
    pub disturbed: Arc<dyn Registry>,
    /// The same store over an undisturbed connection, unless `disturb` disturbs the store itself.
    pub direct: Arc<dyn Registry>,
    /// Disturbs the connections, or the store, once.
    pub disturb: D,
    /// The minimum number of changes to check.
    pub changes: usize,
    /// The seed of all operations and of the pauses between disturbances.
    pub seed: u64,
}

/// The result of a soak run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SoakReport {
    /// The number of changes that the undisturbed reader saw. All are checked.
    pub changes: usize,
    /// The number of disturbances.
    pub disturbances: usize,
    /// The number of calls and watches that failed on the disturbed connection.
    pub failures: usize,
    /// The number of calls and watches that failed on the direct connection.
    pub direct_failures: usize,
}

impl<D: Fn()> Soak<D> {
    /// Runs rounds, each on its own service, until there were enough changes.
    ///
    /// # Panics
    ///
    /// Panics if a law is violated, a call fails for another reason than a disconnect, or a round takes too
    /// long. The message has the seed.
    pub async fn run(&self) -> SoakReport {
        let mut total = SoakReport::default();
        for round in 0.. {
            let run = lag::timeout(ROUND, self.round(round)).await;
            let seen = run.unwrap_or_else(|_| panic!("round {round} of {} hangs", self.seed));
            total.changes += seen.changes;
            total.disturbances += seen.disturbances;
            total.failures += seen.failures;
            total.direct_failures += seen.direct_failures;
            if total.changes >= self.changes {
                break;
            }
        }
        total
    }

    async fn round(&self, round: u64) -> SoakReport {
        let name = service(&format!("soak-{round}"));
        let mut random = Rng::with_seed(self.seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (failures, direct_failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let start =
            retry_counted(&direct_failures, || self.direct.load(&name, &CallOptions::DEFAULT))
                .await
                .unwrap();

        let seeds: Vec<u64> = (0..WRITERS + READERS).map(|_| random.u64(..)).collect();
        let (writers, readers) = seeds.split_at(WRITERS);
        let writing = async {
            let contender =
                |seed: &u64| Contender { ids: IDS, operations: OPERATIONS, seed: *seed };
            let writing =
                writers.iter().map(|seed| contender(seed).run(&*self.disturbed, &name, &failures));
            let acknowledged = join_all(writing).await.concat();
            let end = Claim::new(LONG).unwrap();
            let last = instance(&name, "end");
            retry_counted(&direct_failures, || {
                self.direct.register(&last, &end, &CallOptions::DEFAULT)
            })
            .await
            .unwrap();
            let load =
                retry_counted(&direct_failures, || self.direct.load(&name, &CallOptions::DEFAULT));
            (acknowledged, load.await.unwrap())
        };
        let canonical = self.read_canonical(&name, &start, &direct_failures);
        let reading = readers.iter().map(|seed| self.read(&name, &start, *seed, &failures));
        let mut work = pin!(join3(canonical, writing, join_all(reading)));
        let mut disturbances = 0;
        let (canonical, (acknowledged, end), readers) = loop {
            tokio::select! {
                done = &mut work => break done,
                () = sleep(Duration::from_millis(random.u64(5..150))) => {
                    (self.disturb)();
                    disturbances += 1;
                }
            }
        };
        let changes = canonical.iter().map(|batch| batch.changes.len()).sum();
        assert!(changes > OPERATIONS, "too few writes succeeded: {changes} changes");
        let (loads, end) = (Vec::new(), Some(end));
        let history = History { canonical, readers, acknowledged, loads, end };
        if let Err(violation) = check(&history) {
            panic!("round {round} of seed {}: {violation:?}", self.seed);
        }
        let [failures, direct_failures] =
            [&failures, &direct_failures].map(|count| count.load(Ordering::Relaxed));
        SoakReport { changes, disturbances, failures, direct_failures }
    }

    /// Reads all batches to the end, over the direct connection.
    async fn read_canonical(
        &self,
        name: &ServiceName,
        start: &Snapshot,
        failures: &AtomicUsize,
    ) -> Vec<Arc<Batch>> {
        let (mut batches, mut cursor) = (Vec::new(), start.cursor().clone());
        loop {
            let mut watch =
                retry_counted(failures, || self.direct.watch(name, &cursor, &CallOptions::DEFAULT))
                    .await
                    .unwrap();
            while read_one(&mut watch, &mut batches, failures).await {
                if batches.last().is_some_and(|batch| is_end(batch)) {
                    return batches;
                }
            }
            cursor = watch.cursor().clone();
        }
    }

    /// Reads all batches to the end, over the disturbed connection. Resumes after each disconnect, and now and then
    /// drops the watch itself.
    async fn read(
        &self,
        name: &ServiceName,
        start: &Snapshot,
        seed: u64,
        failures: &AtomicUsize,
    ) -> Reader {
        let mut random = Rng::with_seed(seed);
        let mut reader = Reader { start: start.clone(), batches: Vec::new() };
        let mut cursor = start.cursor().clone();
        loop {
            let mut watch = retry_counted(failures, || {
                self.disturbed.watch(name, &cursor, &CallOptions::DEFAULT)
            })
            .await
            .unwrap();
            for _ in 0..random.u16(1..300) {
                if !read_one(&mut watch, &mut reader.batches, failures).await {
                    break;
                }
                if reader.batches.last().is_some_and(|batch| is_end(batch)) {
                    return reader;
                }
            }
            cursor = watch.cursor().clone();
        }
    }
}

/// Reads one more batch. Returns false and counts a failure if the watch was disconnected.
async fn read_one(
    watch: &mut Watch,
    batches: &mut Vec<Arc<Batch>>,
    failures: &AtomicUsize,
) -> bool {
    match within(watch.next()).await.expect("a watch has no bare end") {
        Ok(batch) => {
            batches.push(batch);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            failures.fetch_add(1, Ordering::Relaxed);
            false
        }
    }
}

fn is_end(batch: &Batch) -> bool {
    batch.changes.iter().any(|change| matches!(change, Change::Put(one) if one.id() == &id("end")))
}
