//! A pick beside others: a thousand that read too, and a store that writes all the time.

use crate::fixture::{ServiceFixture, one_thread, two_threads};
use crate::pick::Arm;
use anyhow::{Context, Result};
use comparison::figures::{Figure, Report};
use comparison::meter::{as_f64, process_time};
use registry_core::Records;
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
    let fixture = runtime.block_on(ServiceFixture::new(100))?;
    let slice = fixture.view.state().records().clone();
    for (arm, name) in ARMS {
        let mut ratios = Vec::new();
        for round in 0..rounds {
            let both = if round % 2 == 0 { [1, 1000] } else { [1000, 1] };
            let [first, second] =
                both.map(|tasks| runtime.block_on(read(arm, &fixture.view, &slice, tasks, picks)));
            let ratio = second? / first?;
            ratios.push(if round % 2 == 0 { ratio } else { ratio.recip() });
        }
        let figure = Figure::median(format!("{name}: 1,000 reading / 1 reading"), &ratios, "x");
        report.add(if arm == Arm::Slice { figure } else { figure.at_most(1.1) });
    }
    Ok(())
}

/// Nanoseconds of the process for each of `picks`, made by so many tasks.
async fn read(arm: Arm, view: &View, slice: &Records, tasks: u64, picks: u64) -> Result<f64> {
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
    for (rate, label) in
        [(WriteRate::Often, "10,000 changes/s"), (WriteRate::Nonstop, "changes nonstop")]
    {
        let writer = Writer::start(rate)?;
        let slice = writer.view.state().records().clone();
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
            let figure = Figure::median(format!("{name}: {label} / none"), &ratios, "x");
            report.add(if arm == Arm::Slice { figure } else { figure.at_most(1.1) });
        }
        report.add(Figure::median(format!("{label}: how many"), &rates, "/s"));
        writer.stop()?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WriteRate {
    Often,
    Nonstop,
}

/// A thread of its own that changes a service, and follows it.
struct Writer {
    view: View,
    control: Arc<WriterControl>,
    thread: thread::JoinHandle<Result<()>>,
}

#[derive(Default)]
struct WriterControl {
    writes: AtomicBool,
    ends: AtomicBool,
    changes: AtomicU64,
}

impl Writer {
    fn start(rate: WriteRate) -> Result<Self> {
        let control = Arc::new(WriterControl::default());
        let (ready, started) = mpsc::sync_channel(1);
        let theirs = control.clone();
        let thread = thread::spawn(move || {
            one_thread()?.block_on(async {
                let fixture = ServiceFixture::new(100).await?;
                ready.send(fixture.view.clone())?;
                write(fixture, rate, &theirs).await
            })
        });
        let view = started.recv().context("the writer does not start")?;
        Ok(Self { view, control, thread })
    }

    /// Begins to write, or ends it.
    #[expect(clippy::disallowed_methods, reason = "there is no runtime here to block")]
    fn turn(&self, writes: bool) {
        self.control.writes.store(writes, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(10));
    }

    fn changes(&self) -> u64 {
        self.control.changes.load(Ordering::Relaxed)
    }

    fn stop(self) -> Result<()> {
        self.control.ends.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the writer panicked")?
    }
}

async fn write(
    mut fixture: ServiceFixture,
    rate: WriteRate,
    control: &WriterControl,
) -> Result<()> {
    while !control.ends.load(Ordering::Relaxed) {
        if !control.writes.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(1)).await;
            continue;
        }
        for _ in 0..10 {
            fixture.change().await?;
            control.changes.fetch_add(1, Ordering::Relaxed);
            yield_now().await; // the view shows it
        }
        if rate == WriteRate::Often {
            sleep(Duration::from_micros(100)).await; // and so, with tokio's clock, about 1 ms
        }
    }
    Ok(())
}
