//! A long random run on a store whose connections are disturbed, held against the laws.
//!
//! The scenarios of the kit ask one question each. This asks for everything at once and for long: writers
//! that compete for few ids, readers that are cut and resume, and one reader beside them on a connection
//! that nobody disturbs, whose history is what all others must have seen.

use fastrand::Rng;
use futures_util::StreamExt;
use futures_util::future::{join_all, join3};
use registry_core::{Batch, Change, Claim, ErrorKind, Registry, ServiceName, Snapshot, Watch};
use registry_testkit::case::{LONG, id, instance, service, within};
use registry_testkit::laws::{History, Reader, check};
use registry_testkit::rival::{Rival, again};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::sleep;

const WRITERS: usize = 4;
const READERS: usize = 4;

/// How many ids the writers compete for.
const IDS: u8 = 8;

/// How many operations each writer makes in a round. The checks take the square of it.
const OPERATIONS: usize = 150;

/// How long one round may take.
const ROUND: Duration = Duration::from_secs(60);

/// What a run is made of.
#[allow(missing_debug_implementations)]
pub struct Endurance<D> {
    /// The store, on a connection that is disturbed.
    pub disturbed: Arc<dyn Registry>,
    /// The same store, on one that is not, unless it is the store itself that is disturbed.
    pub direct: Arc<dyn Registry>,
    /// Disturbs the connections, or the store, once.
    pub disturb: D,
    /// How many changes to see and check, at least.
    pub changes: usize,
    /// Decides what is done, and about when.
    pub seed: u64,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endured {
    /// Changes that were seen by the undisturbed reader, and checked.
    pub changes: usize,
    /// How often the connections were disturbed.
    pub disturbances: usize,
    /// How often a call failed or a watch was cut by that.
    pub failures: usize,
    /// How often that happened to the undisturbed reader and its calls.
    pub direct_failures: usize,
}

impl<D: Fn()> Endurance<D> {
    /// Runs it, each round on a service of its own.
    ///
    /// # Panics
    ///
    /// If a law does not hold, an error is of a kind that a cut connection does not explain, or a round
    /// takes too long. The message has the seed.
    pub async fn run(&self) -> Endured {
        let mut total = Endured::default();
        for round in 0.. {
            let run = tokio::time::timeout(ROUND, self.round(round)).await;
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

    async fn round(&self, round: u64) -> Endured {
        let name = service(&format!("endurance-{round}"));
        let mut random = Rng::with_seed(self.seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (failures, direct_failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let start = again(&direct_failures, || self.direct.load(&name)).await.unwrap();

        let seeds: Vec<u64> = (0..WRITERS + READERS).map(|_| random.u64(..)).collect();
        let (writers, readers) = seeds.split_at(WRITERS);
        let writing = async {
            let rival = |seed: &u64| Rival { ids: IDS, operations: OPERATIONS, seed: *seed };
            let writing =
                writers.iter().map(|seed| rival(seed).run(&*self.disturbed, &name, &failures));
            let acknowledged = join_all(writing).await.concat();
            let end = Claim::new(LONG).unwrap();
            let last = instance(&name, "end");
            again(&direct_failures, || self.direct.register(&last, &end)).await.unwrap();
            let load = again(&direct_failures, || self.direct.load(&name));
            (acknowledged, load.await.unwrap())
        };
        let canonical = self.whole(&name, &start, &direct_failures);
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
        assert!(changes > OPERATIONS, "too little happened: {changes}");
        let (loads, end) = (Vec::new(), Some(end));
        let history = History { canonical, readers, acknowledged, loads, end };
        if let Err(violation) = check(&history) {
            panic!("round {round} of seed {}: {violation:?}", self.seed);
        }
        let [failures, direct_failures] =
            [&failures, &direct_failures].map(|count| count.load(Ordering::Relaxed));
        Endured { changes, disturbances, failures, direct_failures }
    }

    /// All that comes, to the end.
    async fn whole(
        &self,
        name: &ServiceName,
        start: &Snapshot,
        failures: &AtomicUsize,
    ) -> Vec<Batch> {
        let (mut batches, mut cursor) = (Vec::new(), start.cursor().clone());
        loop {
            let mut watch = again(failures, || self.direct.watch(name, &cursor)).await.unwrap();
            while read_one(&mut watch, &mut batches, failures).await {
                if batches.last().is_some_and(is_end) {
                    return batches;
                }
            }
            cursor = watch.cursor().clone();
        }
    }

    /// Reads to the end, over all cuts.
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
            let mut watch = again(failures, || self.disturbed.watch(name, &cursor)).await.unwrap();
            for _ in 0..random.u16(1..300) {
                if !read_one(&mut watch, &mut reader.batches, failures).await {
                    break;
                }
                if reader.batches.last().is_some_and(is_end) {
                    return reader;
                }
            }
            cursor = watch.cursor().clone();
        }
    }
}

/// Reads one more batch. Not if the watch was cut, which is counted.
async fn read_one(watch: &mut Watch, batches: &mut Vec<Batch>, failures: &AtomicUsize) -> bool {
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
