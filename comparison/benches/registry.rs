//! `cargo bench`: every operation on every store, through the registry and the raw client; a pick, and a change to many
//! subscribers in memory; and tables of ratios and percentiles. `BENCH_STORES=mem,redis` selects stores.

#![allow(clippy::unwrap_used)]

use anyhow::{Context, Result, bail};
use comparison::harness::stores::VARIABLE;
use comparison::harness::{
    Comparison, Figures, Latencies, Plan, Progress, Server, StealTime, Store, Table, as_f64,
    compare, machine, one_thread, prepare,
};
use comparison::workloads::{FanOut, Pick, Picks, Runner, Subscription, Workload, record_len};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode};
use std::collections::BTreeSet;
use std::env;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;

const WORKLOADS: [Workload; 10] = [
    Workload::Register,
    Workload::Update,
    Workload::KeepAlive,
    Workload::Deregister,
    Workload::Load(10),
    Workload::Load(100),
    Workload::Load(1000),
    Workload::RegisterToWatch,
    Workload::Resume(100),
    Workload::Resume(1000),
];

const PLAN: Plan = Plan { rounds: 7, round: Duration::from_millis(300), turns: 3, batch: 1 };

struct Session {
    runtime: Runtime,
    stores: Vec<Store>,
    /// A server per store, or none if the benchmarks are only listed.
    servers: Vec<Server>,
    /// The benchmarks that ran. The filter excludes the others.
    done: BTreeSet<(Workload, Store)>,
}

fn main() -> ExitCode {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500))
        .without_plots()
        .configure_from_args();
    // A list of benchmarks needs no server.
    let ended = Session::open(!given("--list")).and_then(|mut session| {
        let before = StealTime::now();
        session.workloads(&mut criterion);
        if session.stores.contains(&Store::Mem) {
            picks(&session.runtime, &mut criterion);
            fan_outs(&session.runtime, &mut criterion);
        }
        criterion.final_summary();
        // Without `--bench`, as in `cargo test --benches`, criterion runs each benchmark once.
        if given("--bench") && !given("--test") && !given("--profile-time") {
            session.print(before)?;
        }
        Ok(())
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn given(option: &str) -> bool {
    env::args().any(|argument| argument.split('=').next() == Some(option))
}

impl Session {
    /// Selects the stores by the environment, and starts their servers if `with_servers`.
    fn open(with_servers: bool) -> Result<Self> {
        let runtime = one_thread()?;
        let stores = Store::chosen(env::var(VARIABLE).ok().as_deref())?;
        let (mut servers, mut missing) = (Vec::new(), Vec::new());
        for store in stores.iter().filter(|_| with_servers) {
            match runtime.block_on(Server::start(*store)) {
                Ok(server) => servers.push(server),
                Err(error) => missing.push(format!("{error:#}")),
            }
        }
        if !missing.is_empty() {
            bail!(missing.join("\n"));
        }
        Ok(Self { runtime, stores, servers, done: BTreeSet::new() })
    }

    fn workloads(&mut self, criterion: &mut Criterion) {
        for workload in WORKLOADS {
            let mut group = criterion.benchmark_group(workload.to_string());
            if matches!(workload, Workload::Resume(_)) {
                // On etcd each resumption takes 100 ms, so a sample has one.
                group.sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(2));
            }
            for (n, store) in self.stores.iter().enumerate() {
                let name = store.name();
                let ours = async || {
                    let arm = self.servers[n].ours().await?;
                    Runner::prepare(name, &*arm, workload).await
                };
                if bench(&mut group, &self.runtime, name, &ours) {
                    self.done.insert((workload, *store));
                }
                if *store != Store::Mem {
                    let name = format!("{name}_raw");
                    let raw = async || {
                        let arm = self.servers[n].raw().await?.context("no raw client")?;
                        Runner::prepare(&name, &*arm, workload).await
                    };
                    bench(&mut group, &self.runtime, &name, &raw);
                }
            }
        }
    }

    /// Measures the benchmarks that ran once more, in paired rounds, and prints the tables.
    fn print(&self, before: Option<StealTime>) -> Result<()> {
        if self.done.is_empty() {
            return Ok(());
        }
        let (mut figures, mut percentiles) = (Figures::default(), Table::percentiles());
        let progress = Progress::new("paired rounds");
        for (n, (workload, store)) in self.done.iter().enumerate() {
            let what = format!("{workload} on {}", store.name());
            progress.update(&what, as_f64(n) / as_f64(self.done.len()));
            let server = self.servers.iter().find(|server| server.store() == *store);
            let server = server.context("the store has no server")?;
            let adding = add(&mut figures, &mut percentiles, server, *workload);
            self.runtime.block_on(adding)?;
        }
        drop(progress);
        println!("\nmachine: {}", machine::describe());
        println!("client:  one thread, nothing is pinned; records of {} bytes", record_len()?);
        for server in &self.servers {
            println!("{:<8} {}", format!("{}:", server.store().name()), server.description());
        }
        println!(
            "\nours and raw alternate at every operation, {} rounds; A/A is raw compared with itself:\na ratio that is no further from 1 than A/A means no difference\n",
            PLAN.rounds
        );
        println!("{figures}\n{percentiles}");
        if let Some((before, now)) = before.zip(StealTime::now()) {
            let stolen = now.since(before);
            println!("{stolen:.1} % of the CPU time was stolen by other virtual machines");
        }
        Ok(())
    }
}

/// Compares the registry with the raw client and adds the results. Memory has no raw client, so the registry is
/// compared with itself.
async fn add(
    figures: &mut Figures,
    percentiles: &mut Table,
    server: &Server,
    workload: Workload,
) -> Result<()> {
    let (store, ours, raw) = (server.store().name(), server.ours().await?, server.raw().await?);
    let (second, arms) = match &raw {
        Some(raw) => (raw, ["ours", "raw"]),
        None => (&ours, ["ours", "itself"]),
    };
    let runners = prepare([&*ours, &**second, &**second], workload).await?;
    let rounds = compare(runners, PLAN).await?;
    let comparison = Comparison::new(&rounds);
    figures.add_comparison(format!("{workload} {store}"), arms, &comparison, |x| x);
    for (n, arm) in arms.into_iter().enumerate().filter(|(_, arm)| *arm != "itself") {
        let latencies = rounds.iter().flat_map(|round| round.pair[n].iter().copied());
        percentiles.add_latencies(workload, store, arm, &Latencies::new(latencies)?)?;
    }
    Ok(())
}

/// Benchmarks a pick in memory and its alternatives.
fn picks(runtime: &Runtime, criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    group.sample_size(50);
    let mut picks = None;
    for arm in [Pick::Slice, Pick::State, Pick::Reader, Pick::RwlockMap] {
        group.bench_function(arm.name(), |bencher| {
            let new = || runtime.block_on(Picks::new()).unwrap();
            let picks: &Picks = picks.get_or_insert_with(new);
            bencher.iter_custom(|n| {
                let start = Instant::now();
                arm.run(picks, n);
                start.elapsed()
            });
        });
    }
}

/// Benchmarks the broadcast of a change in memory and its alternatives.
fn fan_outs(runtime: &Runtime, criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    group.sample_size(50);
    for subscribers in [1, 100, 10_000] {
        for arm in [Subscription::Updates, Subscription::Changed, Subscription::Mpsc] {
            let mut fan_out = None;
            group.bench_function(BenchmarkId::new(arm.name(), subscribers), |bencher| {
                let new = || runtime.block_on(FanOut::new(arm, 100, subscribers)).unwrap();
                let fan_out = fan_out.get_or_insert_with(new);
                bencher.iter_custom(|n| {
                    runtime.block_on(async {
                        let mut total = Duration::ZERO;
                        for _ in 0..n {
                            total += fan_out.change().await.unwrap();
                        }
                        total
                    })
                });
            });
        }
    }
}

/// Runs a benchmark. Returns false if it is filtered out or only listed.
fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    name: &str,
    prepare: &impl AsyncFn() -> Result<Runner>,
) -> bool {
    let mut runner = None;
    group.bench_function(name, |bencher| {
        // Criterion calls this for each sample, but not if the benchmark is filtered out.
        let runner = runner.get_or_insert_with(|| runtime.block_on(prepare()).unwrap());
        bencher.iter_custom(|n| runtime.block_on(runner.time(n)).unwrap());
    });
    let Some(runner) = runner else { return false };
    runtime.block_on(runner.finish()).unwrap();
    true
}
