//! One change, to all subscribers: how long until the last has it, and what that takes.

use crate::fixture::{ServiceFixture, one_thread, two_threads};
use crate::heap::Heap;
use anyhow::{Result, ensure};
use comparison::figures::{Figure, Report};
use comparison::latch::CountdownLatch;
use comparison::meter::as_f64;
use futures_util::{FutureExt, StreamExt};
use registry_core::{Batch, Cursor, Origin, Revision};
use registry_engine::View;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

const MANY: usize = 10_000;

pub(crate) fn report(quick: bool) -> Result<Report> {
    let mut report = Report::default();
    let rounds = if quick { 11 } else { 101 };
    compare(&mut report, "1 thread", &one_thread()?, rounds)?;
    compare(&mut report, "2 threads", &two_threads()?, rounds)?;
    copies(&mut report)?;
    footprint(&mut report)?;
    report.note("from before the call of `register`, or before the first send, to the last task that has it");
    report.note("raw: a tokio mpsc channel for each task, and an `Arc` sent into each");
    Ok(report)
}

/// How a subscriber learns of a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subscription {
    Updates,
    Changed,
}

const SUBSCRIPTIONS: [(Subscription, &str); 2] =
    [(Subscription::Updates, "updates()"), (Subscription::Changed, "changed()")];

/// Times, in turns.
fn compare(report: &mut Report, label: &str, runtime: &Runtime, rounds: usize) -> Result<()> {
    runtime.block_on(async {
        let mut updates = Ours::new(100, Subscription::Updates, MANY).await?;
        let mut changed = Ours::new(100, Subscription::Changed, MANY).await?;
        let raw = Raw::new(MANY)?;
        let mut times: [Vec<f64>; 4] = Default::default();
        for round in 0..=rounds {
            for place in 0..times.len() {
                let arm = (round + place) % times.len();
                let took = match arm {
                    1 => updates.change().await?,
                    2 => changed.change().await?,
                    _ => raw.change().await?,
                };
                if round > 0 {
                    times[arm].push(took); // the first warmed up
                }
            }
        }
        let [raw, updates, changed, again] = times;
        let ratio = |times: &[f64]| -> Vec<f64> {
            times.iter().zip(&raw).map(|(time, raw)| time / raw).collect()
        };
        let target = |figure: Figure| figure.at_most(1.3);
        report.add(Figure::median(format!("{label}: raw mpsc"), &raw, "ms"));
        report.add(Figure::median(format!("{label}: updates()"), &updates, "ms").aim(1.0));
        report.add(Figure::median(format!("{label}: changed()"), &changed, "ms").aim(1.0));
        report.add(target(Figure::median(
            format!("{label}: updates() / raw"),
            &ratio(&updates),
            "x",
        )));
        report.add(target(Figure::median(
            format!("{label}: changed() / raw"),
            &ratio(&changed),
            "x",
        )));
        report.add(Figure::median(format!("{label}: A/A: raw / raw"), &ratio(&again), "x"));
        Ok(())
    })
}

/// What is allocated in a change: one copy of the snapshot for all readers.
fn copies(report: &mut Report) -> Result<()> {
    let runtime = one_thread()?;
    let cost = |subscription, instances, subscribers| {
        runtime
            .block_on(async { Ours::new(instances, subscription, subscribers).await?.cost().await })
    };
    for (subscription, name) in SUBSCRIPTIONS {
        let (few, many, larger) = (
            cost(subscription, 100, 100)?,
            cost(subscription, 100, MANY)?,
            cost(subscription, 1_100, MANY)?,
        );
        let bytes = |figure: &str, value, target| {
            Figure::counted(format!("{name}: {figure}"), value, "B").exactly(target)
        };
        let per_subscriber = (many - few) / as_f64(MANY as u64 - 100);
        report.add(Figure::counted(format!("{name}: a change, 100 instances, in all"), many, "B"));
        report.add(bytes("a change, for each instance", (larger - many) / 1_000.0, 8.0));
        report.add(bytes("a change, for each subscriber", per_subscriber, 0.0));
    }
    Ok(())
}

/// What a subscriber holds.
fn footprint(report: &mut Report) -> Result<()> {
    let runtime = one_thread()?;
    let each = |grown: f64| grown / as_f64(MANY as u64);
    runtime.block_on(async {
        let fixture = ServiceFixture::new(100).await?;
        let mut streams = Vec::with_capacity(MANY);
        let heap = Heap::now();
        for _ in 0..MANY {
            let mut updates = fixture.view.updates();
            ensure!(updates.next().now_or_never().is_some(), "it begins with the state");
            ensure!(updates.next().now_or_never().is_none(), "nothing else happened");
            streams.push(updates);
        }
        let size = as_f64(size_of_val(&streams[0]) as u64);
        let figure = Figure::counted("updates(): a subscriber", each(heap.grown()) + size, "B");
        report.add(figure.at_most(1023.0));
        anyhow::Ok(())
    })?;
    for (subscription, name) in SUBSCRIPTIONS {
        runtime.block_on(async {
            let fixture = ServiceFixture::new(100).await?;
            let latch = Arc::new(CountdownLatch::default());
            let heap = Heap::now();
            let tasks = subscribe(&fixture.view, subscription, MANY, &latch).await?;
            let figure = format!("{name}: a subscriber and its task");
            report.add(Figure::counted(figure, each(heap.grown()), "B").at_most(1023.0));
            drop(tasks);
            anyhow::Ok(())
        })?;
    }
    Ok(())
}

/// Starts subscribers, and waits until they all wait.
async fn subscribe(
    view: &View,
    subscription: Subscription,
    subscribers: usize,
    latch: &Arc<CountdownLatch>,
) -> Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    latch.reset(subscribers);
    for _ in 0..subscribers {
        let (mut view, latch) = (view.clone(), latch.clone());
        match subscription {
            Subscription::Updates => drop(tasks.spawn(async move {
                let mut updates = view.updates();
                drop(view);
                while updates.next().await.is_some() {
                    latch.count_down(); // the first is the state
                }
            })),
            Subscription::Changed => drop(tasks.spawn(async move {
                latch.count_down();
                while view.changed().await.is_ok() {
                    latch.count_down();
                }
            })),
        }
    }
    latch.wait().await?;
    Ok(tasks)
}

/// A service and its subscribers.
struct Ours {
    fixture: ServiceFixture,
    latch: Arc<CountdownLatch>,
    tasks: JoinSet<()>,
}

impl Ours {
    async fn new(instances: usize, subscription: Subscription, subscribers: usize) -> Result<Self> {
        let fixture = ServiceFixture::new(instances).await?;
        let latch = Arc::new(CountdownLatch::default());
        let tasks = subscribe(&fixture.view, subscription, subscribers, &latch).await?;
        Ok(Self { fixture, latch, tasks })
    }

    async fn change(&mut self) -> Result<f64> {
        self.latch.reset(self.tasks.len());
        let start = Instant::now();
        self.fixture.change().await?;
        Ok(milliseconds(self.latch.wait().await? - start))
    }

    /// The bytes allocated in a change. The least of several, since now and then a queue grows.
    async fn cost(&mut self) -> Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..40 {
            let heap = Heap::now();
            self.change().await?;
            least = least.min(as_f64(heap.allocated()));
        }
        Ok(least)
    }
}

/// The same without a registry.
struct Raw {
    senders: Vec<mpsc::Sender<Arc<Batch>>>,
    batch: Arc<Batch>,
    latch: Arc<CountdownLatch>,
    _tasks: JoinSet<()>,
}

impl Raw {
    fn new(subscribers: usize) -> Result<Self> {
        let latch = Arc::new(CountdownLatch::default());
        let (mut senders, mut tasks) = (Vec::new(), JoinSet::new());
        for _ in 0..subscribers {
            let (sender, mut receiver) = mpsc::channel::<Arc<Batch>>(16);
            let latch = latch.clone();
            senders.push(sender);
            tasks.spawn(async move {
                while receiver.recv().await.is_some() {
                    latch.count_down();
                }
            });
        }
        let batch = Arc::new(Batch::progress(cursor()?));
        Ok(Self { senders, batch, latch, _tasks: tasks })
    }

    async fn change(&self) -> Result<f64> {
        self.latch.reset(self.senders.len());
        let start = Instant::now();
        for sender in &self.senders {
            sender.try_send(self.batch.clone())?;
        }
        Ok(milliseconds(self.latch.wait().await? - start))
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn cursor() -> Result<Cursor> {
    Ok(Origin::new("raw", "", &"raw".parse()?).cursor(Revision::new(1), 0))
}
