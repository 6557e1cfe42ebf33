//! CI: the checks and tests that a change must pass before it is merged, in lanes.

mod check;
mod directions;
mod invalid_runs;
mod report;
mod setup;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use self::report::{Report, Steps};
use crate::command::{cargo, execute};
use crate::{faults, go_zero, images, instructions, interop, matrix, test};

pub(crate) use self::setup::all as setup;

/// A group of steps with a budget.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Lane {
    /// Checks without servers: format, lints, documentation, feature sets, licences, dependencies.
    Check,
    /// Every test, on the installed etcd and Redis.
    Tests,
    /// The quick tests on other releases of etcd and Redis.
    Matrix,
    /// The server fixtures in containers.
    Docker,
    /// The quick schedules of the fault program.
    Faults,
    /// The quick comparison with fleets in Go.
    Interop,
    /// Every bench once, and the instruction counts of the hot paths.
    Counts,
}

impl Lane {
    const ALL: [Self; 7] = [
        Self::Check,
        Self::Tests,
        Self::Matrix,
        Self::Docker,
        Self::Faults,
        Self::Interop,
        Self::Counts,
    ];

    /// Returns the name, and the budget in minutes on two cores with an empty `target`.
    fn budget(self) -> (&'static str, u64) {
        match self {
            Self::Check => ("check", 8),
            Self::Tests => ("tests", 16),
            Self::Matrix => ("matrix", 20),
            Self::Docker => ("docker", 2),
            Self::Faults => ("faults", 7),
            Self::Interop => ("interop", 10),
            Self::Counts => ("counts", 9),
        }
    }

    fn run(self, steps: &mut Steps) {
        match self {
            Self::Check => check::run(steps),
            Self::Tests => invalid_runs::run(steps),
            Self::Matrix => {
                for kind in &matrix::KINDS {
                    steps.run(kind.name, || matrix::run(kind, true));
                }
            }
            Self::Docker => {
                steps.run("images", images::run);
                steps.run("servers in Docker", test::in_docker);
            }
            Self::Faults => {
                steps.run("faults --quick", faults::quick);
            }
            Self::Interop => {
                steps.run("interop --quick", interop::quick);
                steps.run("configuration and addresses of go-zero", || go_zero::run(false));
            }
            Self::Counts => {
                steps.run("benches, once", benches_once);
                steps.run("instruction counts", || instructions::run(false));
            }
        }
    }
}

/// Provides what the lanes need, runs them, and prints the time of each. Without lanes, runs all.
pub(crate) fn run(lanes: &[Lane]) -> Result<()> {
    /// The budget in minutes for installing everything on a new machine.
    const SETUP: u64 = 15;
    let lanes = if lanes.is_empty() { &Lane::ALL } else { lanes };
    let mut report = Report::default();
    let mut engine = None;
    report.lane("setup", SETUP, |steps| engine = setup::run(lanes, steps));
    for lane in lanes {
        let (name, budget) = lane.budget();
        report.lane(name, budget, |steps| lane.run(steps));
    }
    drop(engine);
    println!("\n{}", report.table());
    ensure!(report.is_good(), "some steps failed: see the table");
    Ok(())
}

/// Runs the body of every bench once, with the features of the instruction counts, so that they share a build.
fn benches_once() -> Result<()> {
    let benches = ["--bench", "registry", "--", "--test"];
    let package = ["--package", "comparison", "--features", "instructions"];
    execute(cargo().arg("bench").args(package).args(benches))
}
