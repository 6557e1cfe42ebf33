//! The frame of a program that prints figures: sections, one after the other.

use crate::figures::Report;
use crate::machine::{self, StealTime};
use anyhow::Result;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

/// A name, and what measures it: for long, or quickly.
pub type Section<'a> = (&'static str, &'a dyn Fn(bool) -> Result<Report>);

/// Runs sections, and prints the figures of each as they come. Whether all that is counted holds.
pub fn run(sections: &[Section<'_>], quick: bool) -> Result<bool> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: run it with `--release`, or the figures mean nothing");
    }
    println!("{}", machine::describe());
    let before = StealTime::now();
    let mut holds = true;
    for (name, section) in sections {
        let report = section(quick)?;
        println!("\n{name}\n{report}");
        holds &= report.holds();
    }
    if let (Some(before), Some(now)) = (before, StealTime::now()) {
        println!("\n{:.1} % of the time was stolen by other machines", now.since(before));
    }
    Ok(holds)
}

/// What the program ends with: a failure if something that is counted does not hold, too.
pub fn exit(outcome: Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A runtime on this thread alone, which drives the clients' own tasks too: a hop to another thread
/// costs as much as some of what is measured.
pub fn one_thread() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}
