//! The time of a pick of one of 100 instances: alone, with a thousand concurrent readers, and under constant changes.

use crate::harness::{
    Figure, Figures, Heap, ServiceFixture, as_f64, in_turns, one_thread, process_time, two_threads,
};
use crate::workloads::{Pick, Picks};
use anyhow::{Context, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};

const ARMS: [Pick; 3] = [Pick::Slice, Pick::State, Pick::Reader];

pub(super) fn figures(quick: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    one_thread()?.block_on(alone(&mut figures, quick))?;
    with_readers(&mut figures, quick)?;
    with_writer(&mut figures, quick)?;
    figures.note("each pick includes the loop and the random number; for instructions see `cargo xtask instructions`");
    figures.note("ns: CPU time of the reading threads");
    Ok(figures)
}

/// Counts allocations, and measures times, alternating with the slice.
async fn alone(figures: &mut Figures, quick: bool) -> Result<()> {
    const PICKS: u64 = 200_000;
    let picks = Picks::new().await?;
    let iterations = if quick { 50_000 } else { 1_000_000 };
    for arm in [Pick::State, Pick::Reader] {
        arm.run(&picks, 1); // the first load of a thread allocates
        let heap = Heap::now();
        arm.run(&picks, iterations);
        let allocations = as_f64(heap.allocations());
        let name = format!("{}, {iterations} picks", arm.name());
        figures.add_heap(Figure::counted(name, allocations, "allocations").exactly(0.0));
    }
    let arms = [Pick::Slice, Pick::State, Pick::Reader, Pick::Slice];
    let rounds = if quick { 5 } else { 51 };
    let samples = in_turns(rounds, async |arm| Ok(arms[arm].time(&picks, PICKS))).await?;
    let target = |figure: Figure| figure.at_most(4.0).aim(1.25);
    figures.add_turns("a pick", arms.map(Pick::name), &samples, "ns", target);
    Ok(())
}

/// Measures how much slower a pick is with a thousand readers than with one.
fn with_readers(figures: &mut Figures, quick: bool) -> Result<()> {
    let (rounds, many) = if quick { (3, 2_000_000) } else { (11, 20_000_000) };
    let runtime = two_threads()?;
    let picks = Arc::new(runtime.block_on(Picks::new())?);
    for arm in ARMS {
        let tasks = [1, 1000];
        let samples: [_; 2] = runtime
            .block_on(in_turns(rounds, async |n| read(arm, &picks, tasks[n], many).await))?;
        add_ratio(figures, arm, "1,000 reading / 1 reading", &samples);
    }
    Ok(())
}

fn add_ratio(figures: &mut Figures, arm: Pick, label: &str, [one, other]: &[Vec<f64>; 2]) {
    let ratios: Vec<f64> = other.iter().zip(one).map(|(other, one)| other / one).collect();
    let figure = Figure::median(format!("{}: {label}", arm.name()), &ratios, "x");
    figures.add(if arm == Pick::Slice { figure } else { figure.at_most(1.1) });
}

/// Returns the nanoseconds of CPU time of the process per pick, made by `tasks` tasks.
async fn read(arm: Pick, picks: &Arc<Picks>, tasks: u64, many: u64) -> Result<f64> {
    const TURN: u64 = 10_000; // long enough to hide the cost of a task switch
    let turns = (many / tasks / TURN).max(1);
    let mut readers = JoinSet::new();
    let start = process_time();
    for _ in 0..tasks {
        let picks = picks.clone();
        readers.spawn(async move {
            for _ in 0..turns {
                arm.run(&picks, TURN);
                yield_now().await;
            }
        });
    }
    while let Some(ended) = readers.join_next().await {
        ended?;
    }
    Ok((process_time() - start) * 1e9 / as_f64(tasks * turns * TURN))
}

/// Measures how much slower a pick is under constant changes.
fn with_writer(figures: &mut Figures, quick: bool) -> Result<()> {
    let (rounds, many) = if quick { (3, 2_000_000) } else { (15, 10_000_000) };
    for (is_nonstop, label) in [(false, "10,000 changes/s"), (true, "changes nonstop")] {
        let (writer, picks) = Writer::start(is_nonstop)?;
        let mut rates = Vec::new();
        for arm in ARMS {
            let samples: [_; 2] = one_thread()?.block_on(in_turns(rounds, async |n| {
                let is_changing = n == 1;
                writer.set_writing(is_changing);
                let (start, before) = (Instant::now(), writer.changes());
                let took = arm.time(&picks, many);
                if is_changing {
                    let changes = as_f64(writer.changes() - before);
                    rates.push(changes / start.elapsed().as_secs_f64());
                }
                Ok(took)
            }))?;
            add_ratio(figures, arm, &format!("{label} / none"), &samples);
        }
        figures.add(Figure::median(format!("{label}: rate"), &rates, "/s"));
        writer.stop()?;
    }
    Ok(())
}

/// A thread that changes a service, and runs the task of its view.
struct Writer {
    control: Arc<Control>,
    thread: thread::JoinHandle<Result<()>>,
}

#[derive(Default)]
struct Control {
    writes: AtomicBool,
    ends: AtomicBool,
    changes: AtomicU64,
}

impl Writer {
    fn start(is_nonstop: bool) -> Result<(Self, Picks)> {
        let control = Arc::new(Control::default());
        let (ready, started) = mpsc::sync_channel(1);
        let theirs = control.clone();
        let thread = thread::spawn(move || {
            one_thread()?.block_on(async {
                let fixture = ServiceFixture::new(100).await?;
                ready.send(fixture.view.clone())?;
                write(fixture, is_nonstop, &theirs).await
            })
        });
        let view = started.recv().context("the writer did not start")?;
        Ok((Self { control, thread }, Picks::from_view(view)?))
    }

    /// Starts or stops the changes.
    #[expect(clippy::disallowed_methods, reason = "nothing else runs on this thread's runtime")]
    fn set_writing(&self, writes: bool) {
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

async fn write(mut fixture: ServiceFixture, is_nonstop: bool, control: &Control) -> Result<()> {
    while !control.ends.load(Ordering::Relaxed) {
        if !control.writes.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(1)).await;
            continue;
        }
        for _ in 0..10 {
            fixture.change().await?;
            control.changes.fetch_add(1, Ordering::Relaxed);
            yield_now().await; // lets the view apply it
        }
        if !is_nonstop {
            sleep(Duration::from_micros(100)).await; // about 1 ms, the resolution of the timer
        }
    }
    Ok(())
}
