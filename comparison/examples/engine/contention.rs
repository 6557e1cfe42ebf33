//! A pick beside others: a thousand that read too, and a store that writes all the time.

use crate::pick::Arm;
use crate::world::{World, one_thread, two_threads};
use anyhow::{Context, Result};
use comparison::figures::{Figure, Report};
use comparison::meter::{as_f64, process_time};
use registry_core::Instances;
use registry_engine::View;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};

const ARMS: [(Arm, &str); 3] =
    [(Arm::Slice, "slice index"), (Arm::State, "state()"), (Arm::Reader, "reader()")];

/// How much slower a pick is where a thousand tasks read than where one does.
pub(crate) fn readers(report: &mut Report, quick: bool) -> Result<()> {
    let (rounds, picks) = if quick { (3, 2_000_000) } else { (11, 20_000_000) };
    let runtime = two_threads()?;
    let world = runtime.block_on(World::new(100))?;
    let slice = world.view.state().instances().clone();
    for (arm, name) in ARMS {
        let mut ratios = Vec::new();
        for round in 0..rounds {
            let both = if round % 2 == 0 { [1, 1000] } else { [1000, 1] };
            let [first, second] =
                both.map(|tasks| runtime.block_on(read(arm, &world.view, &slice, tasks, picks)));
            let ratio = second? / first?;
            ratios.push(if round % 2 == 0 { ratio } else { ratio.recip() });
        }
        let figure = Figure::median(format!("{name}: 1,000 reading / 1 reading"), &ratios, "x");
        report.add(if arm == Arm::Slice { figure } else { figure.at_most(1.1) });
    }
    Ok(())
}

/// Nanoseconds of the process for each of `picks`, made by so many tasks.
async fn read(arm: Arm, view: &View, slice: &Instances, tasks: u64, picks: u64) -> Result<f64> {
    const TURN: u64 = 10_000; // so long that to change tasks costs nothing
    let turns = picks / tasks / TURN;
    let mut readers = JoinSet::new();
    let start = process_time();
    for _ in 0..tasks {
        let (view, slice) = (view.clone(), slice.clone());
        readers.spawn(async move {
            for _ in 0..turns.max(1) {
                arm.run(&view, &slice, TURN);
                yield_now().await;
            }
        });
    }
    while let Some(ended) = readers.join_next().await {
        ended?;
    }
    Ok((process_time() - start) * 1e9 / as_f64(tasks * turns.max(1) * TURN))
}

/// How much slower a pick is while the store changes all the time.
pub(crate) fn writer(report: &mut Report, quick: bool) -> Result<()> {
    let (rounds, picks) = if quick { (3, 2_000_000) } else { (15, 10_000_000) };
    for (pace, told) in [(Pace::Often, "10,000 changes/s"), (Pace::Nonstop, "changes nonstop")] {
        let writer = Writer::start(pace)?;
        let slice = writer.view.state().instances().clone();
        let mut rates = Vec::new();
        for (arm, name) in ARMS {
            let mut ratios = Vec::new();
            for round in 0..rounds {
                let mut times = [0.0; 2];
                for writes in if round % 2 == 0 { [false, true] } else { [true, false] } {
                    writer.turn(writes);
                    let (start, before) = (Instant::now(), writer.changes());
                    times[usize::from(writes)] = arm.time(&writer.view, &slice, picks);
                    if writes {
                        let changes = as_f64(writer.changes() - before);
                        rates.push(changes / start.elapsed().as_secs_f64());
                    }
                }
                ratios.push(times[1] / times[0]);
            }
            let figure = Figure::median(format!("{name}: {told} / none"), &ratios, "x");
            report.add(if arm == Arm::Slice { figure } else { figure.at_most(1.1) });
        }
        report.add(Figure::median(format!("{told}: how many"), &rates, "/s"));
        writer.stop()?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Often,
    Nonstop,
}

/// A thread of its own that changes a service, and follows it.
struct Writer {
    view: View,
    orders: Arc<Orders>,
    thread: thread::JoinHandle<Result<()>>,
}

#[derive(Default)]
struct Orders {
    writes: AtomicBool,
    ends: AtomicBool,
    changes: AtomicU64,
}

impl Writer {
    fn start(pace: Pace) -> Result<Self> {
        let orders = Arc::new(Orders::default());
        let (ready, started) = mpsc::sync_channel(1);
        let theirs = orders.clone();
        let thread = thread::spawn(move || {
            one_thread()?.block_on(async {
                let world = World::new(100).await?;
                ready.send(world.view.clone())?;
                write(world, pace, &theirs).await
            })
        });
        let view = started.recv().context("the writer does not start")?;
        Ok(Self { view, orders, thread })
    }

    /// Begins to write, or ends it.
    #[expect(clippy::disallowed_methods, reason = "there is no runtime here to block")]
    fn turn(&self, writes: bool) {
        self.orders.writes.store(writes, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(10));
    }

    fn changes(&self) -> u64 {
        self.orders.changes.load(Ordering::Relaxed)
    }

    fn stop(self) -> Result<()> {
        self.orders.ends.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the writer panicked")?
    }
}

async fn write(mut world: World, pace: Pace, orders: &Orders) -> Result<()> {
    while !orders.ends.load(Ordering::Relaxed) {
        if !orders.writes.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(1)).await;
            continue;
        }
        for _ in 0..10 {
            world.change().await?;
            orders.changes.fetch_add(1, Ordering::Relaxed);
            yield_now().await; // the view shows it
        }
        if pace == Pace::Often {
            sleep(Duration::from_micros(100)).await; // and so, with tokio's clock, about 1 ms
        }
    }
    Ok(())
}
