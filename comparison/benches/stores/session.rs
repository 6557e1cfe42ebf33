//! The stores that take part, and criterion's benchmarks of them.

use super::level::{self, LEVELLED};
use anyhow::{Context, Result, bail};
use comparison::levels::Level;
use comparison::stores::{Stand, Store, VARIABLE, Where};
use comparison::work::{Contender, Lane, Work, mem_with_others};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};
use std::collections::BTreeSet;
use std::env;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// What is measured on every store, each a group of benchmarks.
pub(crate) const WORKS: [Work; 13] = [
    Work::Register,
    Work::KeepAlive,
    Work::Deregister,
    Work::Load(10),
    Work::Load(100),
    Work::Load(1000),
    Work::RegisterToWatch,
    Work::FanOut(1),
    Work::FanOut(100),
    Work::FanOut(1000),
    Work::Resume(100),
    Work::Resume(1000),
    Work::Resync(100),
];

/// What is measured in memory beside other services, each time in a registry made for it: what one
/// leaves in the history may hide what the others cost the next.
pub(crate) const CROWDED: [Work; 3] = [Work::RegisterDeregister, Work::KeepAlive, Work::Load(10)];

/// Beside how many of them.
pub(crate) const OTHERS: [usize; 2] = [0, 10_000];

/// A run: who takes part, and what was asked of them.
pub(crate) struct Session {
    /// One thread, which drives the clients' own tasks too: a hop to another thread costs as much as
    /// a request to Redis, and would be all that is measured.
    pub(crate) runtime: Runtime,
    pub(crate) stores: Vec<Store>,
    /// One for each store, unless the benchmarks are only listed.
    pub(crate) stands: Vec<Stand>,
    /// What was done: all that the filter left.
    pub(crate) done: Done,
}

/// What was done.
#[derive(Default)]
pub(crate) struct Done {
    /// On which stores.
    pub(crate) works: BTreeSet<(Work, Store)>,
    /// In memory, beside other services.
    pub(crate) crowded: BTreeSet<Work>,
    /// On which stores at a level of durability.
    pub(crate) levelled: BTreeSet<(Level, Work, Store)>,
}

impl Session {
    /// One that knows what there is to measure, and can measure nothing.
    pub(crate) fn listing() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let stores = Store::chosen(env::var(VARIABLE).ok().as_deref())?;
        Ok(Self { runtime, stores, stands: Vec::new(), done: Done::default() })
    }

    /// Finds or starts the servers of the stores that the environment chooses.
    pub(crate) fn open() -> Result<Self> {
        let mut session = Self::listing()?;
        let mut missing = Vec::new();
        for store in &session.stores {
            match session.runtime.block_on(Stand::open(*store, &Where::default())) {
                Ok(stand) => session.stands.push(stand),
                Err(error) => missing.push(format!("{error:#}")),
            }
        }
        if missing.is_empty() { Ok(session) } else { bail!(missing.join("\n")) }
    }

    /// Runs, tests or lists the benchmarks, as criterion was told.
    pub(crate) fn benchmark(&mut self, criterion: &mut Criterion) {
        self.works(criterion);
        self.crowds(criterion);
        self.levels(criterion);
    }

    fn works(&mut self, criterion: &mut Criterion) {
        for work in WORKS {
            let mut group = criterion.benchmark_group(work.to_string());
            if matches!(work, Work::Resume(_) | Work::Resync(_)) {
                // etcd takes a tenth of a second for each, so that is one for each sample.
                group.sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(2));
            }
            for (n, store) in self.stores.iter().enumerate() {
                let ours =
                    async |name: &str| Lane::prepare(name, &*self.stands[n].ours, work).await;
                if bench(&mut group, &self.runtime, store.name(), &ours) {
                    self.done.works.insert((work, *store));
                }
                if store.has_raw() {
                    let raw =
                        async |name: &str| Lane::prepare(name, raw(&self.stands[n])?, work).await;
                    bench(&mut group, &self.runtime, &format!("{}_raw", store.name()), &raw);
                }
            }
        }
    }

    fn crowds(&mut self, criterion: &mut Criterion) {
        for others in OTHERS.into_iter().filter(|_| self.stores.contains(&Store::Mem)) {
            let mut group = criterion.benchmark_group(format!("mem_with_others/{others}"));
            for work in CROWDED {
                let mem = async |name: &str| {
                    Lane::prepare(name, &mem_with_others(others).await?, work).await
                };
                if bench(&mut group, &self.runtime, &work.to_string(), &mem) {
                    self.done.crowded.insert(work);
                }
            }
        }
    }

    /// With servers of their own, which are gone before those of the next level come.
    fn levels(&mut self, criterion: &mut Criterion) {
        for level in Level::ALL {
            let staged = level::staged(level, &self.stores, &self.stands);
            for work in LEVELLED {
                let mut group = criterion.benchmark_group(format!("{work}/{}", level.slug()));
                group.measurement_time(Duration::from_secs(1));
                for staged in &staged {
                    let name = staged.store.name();
                    let ours = async |name: &str| {
                        Lane::prepare(name, &*staged.stand().await?.ours, work).await
                    };
                    if bench(&mut group, &self.runtime, name, &ours) {
                        self.done.levelled.insert((level, work, staged.store));
                    }
                    let raw = async |name: &str| {
                        Lane::prepare(name, raw(staged.stand().await?)?, work).await
                    };
                    bench(&mut group, &self.runtime, &format!("{name}_raw"), &raw);
                }
            }
        }
    }
}

/// The raw client of a store that has one.
fn raw(stand: &Stand) -> Result<&dyn Contender> {
    stand.raw.as_deref().context("there is no raw client")
}

impl Done {
    /// Whether that is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.works.is_empty() && self.crowded.is_empty() && self.levelled.is_empty()
    }
}

/// One benchmark. Whether it was run, and neither filtered out nor only listed.
fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    name: &str,
    prepare: &impl AsyncFn(&str) -> Result<Lane>,
) -> bool {
    let mut lane = None;
    group.bench_function(name, |bencher| {
        // Criterion calls this for each sample, but not at all if the benchmark is not to run.
        let lane = lane.get_or_insert_with(|| runtime.block_on(prepare(name)).unwrap());
        bencher.iter_custom(|n| runtime.block_on(lane.time(n)).unwrap());
    });
    let Some(lane) = lane else { return false };
    runtime.block_on(lane.finish()).unwrap();
    true
}
