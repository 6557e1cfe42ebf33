//! Figures beside their targets, and the evidence report.
//!
//! ```sh
//! cargo run --release -p comparison -- figures --list     # what there is
//! cargo run --release -p comparison -- figures pick grpc  # those whose names begin so
//! cargo run --release -p comparison -- report             # the experiments on the claims about Redis
//! ```

use anyhow::Result;
use clap::{Parser, Subcommand};
use comparison::experiments::{Effort, Experiment, figures};
use comparison::harness::{Progress, Server, Store, StoreOptions, machine, one_thread};
use comparison::report::Evidence;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

/// Measures the registry, and what else could be used.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints figures beside their targets. Fails if one that is counted misses its target.
    Figures(Figures),
    /// Runs the experiments and writes report.html, report.md and report.json.
    Report(Report),
}

#[derive(clap::Args)]
struct Figures {
    /// Those whose names begin so, or `all`.
    #[arg(required_unless_present = "list")]
    names: Vec<String>,
    /// Lists the names.
    #[arg(long)]
    list: bool,
    /// A few seconds for each, to see that it works: timings then say little.
    #[arg(long)]
    quick: bool,
}

#[derive(clap::Args)]
struct Report {
    /// Less of everything: a few minutes.
    #[arg(long)]
    quick: bool,
    /// Which experiment, instead of all.
    #[arg(long)]
    only: Vec<Experiment>,
    /// What workloads and faults are drawn from.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// How often everything is done; an odd number has a median that was measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// The folder to write to.
    #[arg(long, default_value = "target/report")]
    output: PathBuf,
}

fn main() -> ExitCode {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: run it with `--release`, or the figures mean nothing");
    }
    let outcome = match Args::parse().command {
        Command::Figures(Figures { list: true, .. }) => {
            for (name, what) in figures::list() {
                println!("{name:<17} {what}");
            }
            Ok(true)
        }
        Command::Figures(Figures { names, quick, .. }) => figures::run(&names, quick),
        Command::Report(options) => report(options).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn report(Report { quick, only, seed, rounds, output }: Report) -> Result<()> {
    let chosen = if only.is_empty() { Experiment::ALL.to_vec() } else { only };
    let effort = Effort { seed, rounds, quick };
    one_thread()?.block_on(async {
        let mut servers = Vec::new();
        for store in [Store::Redis, Store::Etcd] {
            servers.push(Server::start(store).await?.description().to_owned());
        }
        let mut findings = Vec::new();
        for experiment in chosen {
            let bar = Progress::new(experiment.name());
            let progress = |step: &str, share: f64| bar.update(step, share);
            findings.push(experiment.run(StoreOptions::default(), effort, &progress).await?);
        }
        #[expect(clippy::disallowed_methods, reason = "a date for people")]
        let now = SystemTime::now();
        let made = humantime::format_rfc3339_seconds(now).to_string();
        let evidence =
            Evidence { made, machine: machine::describe(), servers, seed, quick, findings };
        evidence.write(&output)?;
        for finding in &evidence.findings {
            println!("{}: {}\n  {}", finding.claim, finding.verdict, finding.figure);
        }
        println!("{}", output.join("report.html").display());
        Ok(())
    })
}
