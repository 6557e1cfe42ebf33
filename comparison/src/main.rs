//! The evidence report, from real servers to a page.
//!
//! ```sh
//! cargo run --release -p comparison -- report          # everything
//! cargo run --release -p comparison -- report --quick  # less of it
//! ```

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum, builder::PossibleValue};
use comparison::experiments::{Effort, Experiment};
use comparison::machine;
use comparison::report::Evidence;
use comparison::stores::{Store, StoreFixture, StoreOptions};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

/// Tests the usual claims about Redis as a registry.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the experiments and writes report.html, report.md and report.json.
    Report(Report),
}

#[derive(clap::Args)]
struct Report {
    /// Less of everything: a few minutes.
    #[arg(long)]
    quick: bool,
    /// Which experiment, instead of all.
    #[arg(long)]
    only: Vec<Chosen>,
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

#[derive(Clone, Copy)]
struct Chosen(Experiment);

fn main() -> ExitCode {
    let Command::Report(report) = Args::parse().command;
    match run(&report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(report: &Report) -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: run it with `--release`, or the figures mean nothing");
    }
    let chosen: Vec<Experiment> = match &report.only[..] {
        [] => Experiment::ALL.to_vec(),
        only => only.iter().map(|Chosen(experiment)| *experiment).collect(),
    };
    let effort = Effort { seed: report.seed, rounds: report.rounds, quick: report.quick };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut servers = Vec::new();
        for store in [Store::Redis, Store::Etcd] {
            servers.push(StoreFixture::open(store, &StoreOptions::default()).await?.server);
        }
        let mut findings = Vec::new();
        for experiment in chosen {
            let bar = Progress::new(experiment.name());
            let report_progress = |step: &str, share: f64| bar.update(step, share);
            findings.push(experiment.run(StoreOptions::default(), effort, &report_progress).await?);
        }
        #[expect(clippy::disallowed_methods, reason = "a date for people")]
        let now = SystemTime::now();
        let evidence = Evidence {
            made: humantime::format_rfc3339_seconds(now).to_string(),
            machine: machine::describe(),
            servers,
            seed: report.seed,
            quick: report.quick,
            findings,
        };
        evidence.write(&report.output)?;
        for finding in &evidence.findings {
            println!("{}: {}\n  {}", finding.claim, finding.verdict, finding.figure);
        }
        println!("{}", report.output.join("report.html").display());
        Ok(())
    })
}

/// The progress of an experiment: a bar on a terminal, elsewhere a line each.
struct Progress {
    name: &'static str,
    bar: Option<ProgressBar>,
}

impl Progress {
    const STEPS: u32 = 1000;

    fn new(name: &'static str) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(Self::STEPS.into()).with_prefix(name);
            let style = ProgressStyle::with_template("{prefix} {bar:30} {elapsed} {wide_msg}");
            style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
        });
        Self { name, bar }
    }

    fn update(&self, step: &str, share: f64) {
        match &self.bar {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "0 to 1000"
            )]
            Some(bar) => {
                bar.set_position((share * f64::from(Self::STEPS)) as u64);
                bar.set_message(step.to_owned());
            }
            None => eprintln!("{} {:.0} %: {step}", self.name, share * 100.0),
        }
    }
}

impl ValueEnum for Chosen {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Chosen; Experiment::ALL.len()] = [
            Chosen(Experiment::Versioning),
            Chosen(Experiment::Delivery),
            Chosen(Experiment::Latency),
            Chosen(Experiment::Partition),
            Chosen(Experiment::Persistence),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}
