//! The stores that take part, and criterion's benchmarks of them.

use super::level::{self, LEVEL_WORKLOADS};
use anyhow::{Context, Result, bail};
use comparison::harness::stores::VARIABLE;
use comparison::harness::{Level, Store, StoreFixture, StoreOptions, one_thread};
use comparison::workloads::{
    Contender, Pick, Picks, Runner, Spread, Subscription, Workload, mem_with_others,
};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode};
use std::collections::BTreeSet;
use std::env;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// What is measured on every store, each a group of benchmarks.
pub(crate) const WORKLOADS: [Workload; 13] = [
    Workload::Register,
    Workload::KeepAlive,
    Workload::Deregister,
    Workload::Load(10),
    Workload::Load(100),
    Workload::Load(1000),
    Workload::RegisterToWatch,
    Workload::FanOut(1),
    Workload::FanOut(100),
    Workload::FanOut(1000),
    Workload::Resume(100),
    Workload::Resume(1000),
    Workload::Resync(100),
];

/// What is measured in memory beside other services, each time in a registry made for it: what one
/// leaves in the history may hide what the others cost the next.
pub(crate) const WITH_OTHERS: [Workload; 3] =
    [Workload::RegisterDeregister, Workload::KeepAlive, Workload::Load(10)];

/// Beside how many of them.
pub(crate) const OTHERS: [usize; 2] = [0, 10_000];

/// A run: the stores that take part, and the selected benchmarks.
pub(crate) struct Session {
    pub(crate) runtime: Runtime,
    pub(crate) stores: Vec<Store>,
    /// One for each store, unless the benchmarks are only listed.
    pub(crate) fixtures: Vec<StoreFixture>,
    /// What was done: all that the filter left.
    pub(crate) done: Done,
}

/// What was done.
#[derive(Default)]
pub(crate) struct Done {
    /// On which stores.
    pub(crate) workloads: BTreeSet<(Workload, Store)>,
    /// In memory, beside other services.
    pub(crate) with_others: BTreeSet<Workload>,
    /// On which stores at a level of durability.
    pub(crate) at_levels: BTreeSet<(Level, Workload, Store)>,
}

impl Session {
    /// One that knows what there is to measure, and can measure nothing.
    pub(crate) fn listing() -> Result<Self> {
        let runtime = one_thread()?;
        let stores = Store::chosen(env::var(VARIABLE).ok().as_deref())?;
        Ok(Self { runtime, stores, fixtures: Vec::new(), done: Done::default() })
    }

    /// Finds or starts the servers of the stores that the environment chooses.
    pub(crate) fn open() -> Result<Self> {
        let mut session = Self::listing()?;
        let mut missing = Vec::new();
        for store in &session.stores {
            match session.runtime.block_on(StoreFixture::open(*store, &StoreOptions::default())) {
                Ok(fixture) => session.fixtures.push(fixture),
                Err(error) => missing.push(format!("{error:#}")),
            }
        }
        if missing.is_empty() { Ok(session) } else { bail!(missing.join("\n")) }
    }

    /// Runs, tests or lists the benchmarks, by the options of criterion.
    pub(crate) fn benchmark(&mut self, criterion: &mut Criterion) {
        self.workloads(criterion);
        self.with_others(criterion);
        self.levels(criterion);
        self.engine(criterion);
    }

    fn workloads(&mut self, criterion: &mut Criterion) {
        for workload in WORKLOADS {
            let mut group = criterion.benchmark_group(workload.to_string());
            if matches!(workload, Workload::Resume(_) | Workload::Resync(_)) {
                // etcd takes a tenth of a second for each, so that is one for each sample.
                group.sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(2));
            }
            for (n, store) in self.stores.iter().enumerate() {
                let ours = async |name: &str| {
                    Runner::prepare(name, &*self.fixtures[n].ours, workload).await
                };
                if bench(&mut group, &self.runtime, store.name(), &ours) {
                    self.done.workloads.insert((workload, *store));
                }
                if store.has_raw() {
                    let raw = async |name: &str| {
                        Runner::prepare(name, raw(&self.fixtures[n])?, workload).await
                    };
                    bench(&mut group, &self.runtime, &format!("{}_raw", store.name()), &raw);
                }
            }
        }
    }

    fn with_others(&mut self, criterion: &mut Criterion) {
        for others in OTHERS.into_iter().filter(|_| self.stores.contains(&Store::Mem)) {
            let mut group = criterion.benchmark_group(format!("mem_with_others/{others}"));
            for workload in WITH_OTHERS {
                let mem = async |name: &str| {
                    Runner::prepare(name, &mem_with_others(others).await?, workload).await
                };
                if bench(&mut group, &self.runtime, &workload.to_string(), &mem) {
                    self.done.with_others.insert(workload);
                }
            }
        }
    }

    /// With servers of their own, which are gone before those of the next level come.
    fn levels(&mut self, criterion: &mut Criterion) {
        for level in Level::ALL {
            let stores_at = level::stores_at(level, &self.stores, &self.fixtures);
            for workload in LEVEL_WORKLOADS {
                let mut group = criterion.benchmark_group(format!("{workload}/{}", level.slug()));
                group.measurement_time(Duration::from_secs(1));
                for stores_at in &stores_at {
                    let name = stores_at.store.name();
                    let ours = async |name: &str| {
                        Runner::prepare(name, &*stores_at.fixture().await?.ours, workload).await
                    };
                    if bench(&mut group, &self.runtime, name, &ours) {
                        self.done.at_levels.insert((level, workload, stores_at.store));
                    }
                    let raw = async |name: &str| {
                        Runner::prepare(name, raw(stores_at.fixture().await?)?, workload).await
                    };
                    bench(&mut group, &self.runtime, &format!("{name}_raw"), &raw);
                }
            }
        }
    }

    /// A pick, and a change to all subscribers, in memory. Beside each stands what somebody else would take for it.
    fn engine(&self, criterion: &mut Criterion) {
        if !self.stores.contains(&Store::Mem) {
            return;
        }
        let mut group = criterion.benchmark_group("pick");
        group.sample_size(50);
        let mut picks = None;
        for arm in [Pick::Slice, Pick::State, Pick::Reader, Pick::RwlockMap] {
            group.bench_function(arm.name(), |bencher| {
                let new = || self.runtime.block_on(Picks::new()).unwrap();
                let picks: &Picks = picks.get_or_insert_with(new);
                bencher.iter_custom(|n| {
                    let start = Instant::now();
                    arm.run(picks, n);
                    start.elapsed()
                });
            });
        }
        drop(group);
        let mut group = criterion.benchmark_group("fan_out_in_memory");
        group.sample_size(50);
        for subscribers in [1, 100, 10_000] {
            for arm in [Subscription::Updates, Subscription::Broadcast, Subscription::Watch] {
                let mut spread = None;
                group.bench_function(BenchmarkId::new(arm.name(), subscribers), |bencher| {
                    let new = || self.runtime.block_on(Spread::new(arm, 100, subscribers)).unwrap();
                    let spread = spread.get_or_insert_with(new);
                    bencher.iter_custom(|n| {
                        let changes = async {
                            let mut total = Duration::ZERO;
                            for _ in 0..n {
                                total += spread.change().await.unwrap();
                            }
                            total
                        };
                        self.runtime.block_on(changes)
                    });
                });
            }
        }
    }
}

/// The raw client of a store that has one.
fn raw(fixture: &StoreFixture) -> Result<&dyn Contender> {
    fixture.raw.as_deref().context("there is no raw client")
}

impl Done {
    /// Whether that is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.workloads.is_empty() && self.with_others.is_empty() && self.at_levels.is_empty()
    }
}

/// One benchmark. Whether it was run, and neither filtered out nor only listed.
fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    name: &str,
    prepare: &impl AsyncFn(&str) -> Result<Runner>,
) -> bool {
    let mut runner = None;
    group.bench_function(name, |bencher| {
        // Criterion calls this for each sample, but not at all if the benchmark is not to run.
        let runner = runner.get_or_insert_with(|| runtime.block_on(prepare(name)).unwrap());
        bencher.iter_custom(|n| runtime.block_on(runner.time(n)).unwrap());
    });
    let Some(runner) = runner else { return false };
    runtime.block_on(runner.finish()).unwrap();
    true
}
