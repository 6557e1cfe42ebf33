//! One of 100 instances: through a handle, and by index from the bare slice.

use crate::callgrind::instructions;
use crate::contention;
use crate::fixture::{ServiceFixture, one_thread};
use crate::heap::Heap;
use anyhow::Result;
use clap::ValueEnum;
use comparison::figures::{Figure, Report};
use comparison::meter::{as_f64, thread_time};
use fastrand::Rng;
use registry_core::{Record, Records};
use registry_engine::View;
use std::hint::black_box;

const INSTANCES: usize = 100;

/// A way to pick.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arm {
    /// Only the random number.
    Empty,
    /// From a slice that never changes.
    Slice,
    /// Through `View::state`.
    State,
    /// Through `View::reader`.
    Reader,
}

impl Arm {
    /// Picks so many times.
    pub(crate) fn run(self, view: &View, slice: &Records, iterations: u64) {
        let mut rng = Rng::with_seed(7);
        match self {
            Self::Empty => {
                let len = black_box(slice.len());
                repeat(iterations, || {
                    black_box(rng.usize(..len));
                });
            }
            Self::Slice => {
                let slice: &[Record] = black_box(slice);
                repeat(iterations, || choose(slice, &mut rng));
            }
            Self::State => repeat(iterations, || choose(view.state().records(), &mut rng)),
            Self::Reader => {
                let mut reader = view.reader();
                repeat(iterations, || choose(reader.state().records(), &mut rng));
            }
        }
    }

    /// Nanoseconds for each of so many, of this thread's own time.
    pub(crate) fn time(self, view: &View, slice: &Records, iterations: u64) -> f64 {
        let start = thread_time();
        self.run(view, slice, iterations);
        (thread_time() - start) * 1e9 / as_f64(iterations)
    }
}

#[inline]
fn repeat(iterations: u64, mut pick: impl FnMut()) {
    for _ in 0..iterations {
        pick();
    }
}

#[inline]
fn choose(instances: &[Record], rng: &mut Rng) {
    black_box(&instances[rng.usize(..instances.len())]);
}

/// One arm, and nothing measured: for callgrind.
pub(crate) fn alone(arm: Arm, iterations: u64) -> Result<()> {
    let fixture = one_thread()?.block_on(ServiceFixture::new(INSTANCES))?;
    let slice = fixture.view.state().records().clone();
    arm.run(&fixture.view, &slice, iterations);
    Ok(())
}

pub(crate) fn report(quick: bool) -> Result<Report> {
    let mut report = Report::default();
    count(&mut report, if quick { 50_000 } else { 1_000_000 })?;
    compare(&mut report, if quick { 5 } else { 51 })?;
    contention::readers(&mut report, quick)?;
    contention::writer(&mut report, quick)?;
    report
        .note("all but `alone` with the loop and the random number, which are part of every pick");
    report.note("ns are of the reading threads' own time: others on the machine do not count");
    Ok(report)
}

/// Instructions and allocations.
fn count(report: &mut Report, iterations: u64) -> Result<()> {
    let mut counted = Vec::new();
    for arm in [Arm::Empty, Arm::Slice, Arm::State, Arm::Reader] {
        counted.push(instructions(arm, iterations)?);
    }
    if let [Some(empty), Some(slice), Some(state), Some(reader)] = counted[..] {
        let unit = "instructions";
        let target = |figure: Figure| figure.at_most(100.0).aim(40.0);
        report.add(Figure::counted("loop and random number alone", empty, unit));
        report.add(Figure::counted("slice index", slice, unit));
        report.add(target(Figure::counted("pick, state()", state, unit)));
        report.add(target(Figure::counted("pick, reader()", reader, unit)));
        report.add(Figure::counted("state() alone", state - slice, unit));
        report.add(Figure::counted("reader() alone", reader - slice, unit));
    } else {
        report.note("instructions are not counted: there is no valgrind on the PATH");
    }
    let fixture = one_thread()?.block_on(ServiceFixture::new(INSTANCES))?;
    let slice = fixture.view.state().records().clone();
    for (arm, name) in [(Arm::State, "state()"), (Arm::Reader, "reader()")] {
        arm.run(&fixture.view, &slice, 1); // a thread's first load makes its place
        let heap = Heap::now();
        arm.run(&fixture.view, &slice, iterations);
        let made = as_f64(heap.allocations());
        let name = format!("{name}, {iterations} picks");
        report.add(Figure::counted(name, made, "allocations").exactly(0.0));
    }
    Ok(())
}

/// Times, against the slice, in turns.
fn compare(report: &mut Report, rounds: usize) -> Result<()> {
    const PICKS: u64 = 200_000;
    let fixture = one_thread()?.block_on(ServiceFixture::new(INSTANCES))?;
    let slice = fixture.view.state().records().clone();
    let mut times: [Vec<f64>; 4] = Default::default();
    for round in 0..rounds {
        let arms = [Arm::Slice, Arm::State, Arm::Reader, Arm::Slice];
        for place in 0..arms.len() {
            let n = (round + place) % arms.len();
            times[n].push(arms[n].time(&fixture.view, &slice, PICKS));
        }
    }
    let [slices, states, readers, again] = times;
    let ratio = |times: &[f64]| -> Vec<f64> {
        times.iter().zip(&slices).map(|(time, slice)| time / slice).collect()
    };
    let target = |figure: Figure| figure.at_most(4.0).aim(1.25);
    report.add(Figure::median("slice index", &slices, "ns"));
    report.add(Figure::median("pick, state()", &states, "ns"));
    report.add(Figure::median("pick, reader()", &readers, "ns"));
    report.add(target(Figure::median("state() / slice index", &ratio(&states), "x")));
    report.add(target(Figure::median("reader() / slice index", &ratio(&readers), "x")));
    report.add(Figure::median("A/A: slice index / slice index", &ratio(&again), "x"));
    Ok(())
}
