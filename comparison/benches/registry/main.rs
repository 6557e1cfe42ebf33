//! `cargo bench`: every operation on every store, through the registry and through the raw client; a pick and a change
//! to many subscribers in memory; and tables of the ratios, of percentiles, and of what a level of durability costs.
//!
//! `BENCH_STORES=mem,redis` chooses stores. Servers are found or started once, and end with the process.

#![allow(clippy::unwrap_used)]

mod level;
mod session;
mod tables;

use self::session::Session;
use comparison::harness::StealTime;
use criterion::Criterion;
use std::env;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500))
        .without_plots()
        .configure_from_args();
    let before = StealTime::now();
    // What only lists must print nothing else, and needs no server.
    let session = if given("--list") { Session::listing() } else { Session::open() };
    let ended = session.and_then(|mut session| {
        session.benchmark(&mut criterion);
        criterion.final_summary();
        // Without `--bench`, as in `cargo test --benches`, criterion only makes a test run.
        if given("--bench") && !given("--test") && !given("--profile-time") {
            tables::print(&session, before)?;
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
