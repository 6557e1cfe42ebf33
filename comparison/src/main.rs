//! Figures with their targets, and the evidence report. The README has the commands.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use comparison::experiments::{Effort, Experiment, figures};
use comparison::harness::{Progress, Server, Store, StoreOptions, machine, one_thread};
use comparison::report::{Conditions, Report};
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

/// Measures the registry and its alternatives.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints figures with their targets. Fails if a counted figure misses its target.
    Figures(Figures),
    /// Runs the experiments and writes report.html, report.md and report.json.
    Report(ReportArgs),
}

#[derive(clap::Args)]
struct Figures {
    /// The sets to measure, by name or prefix, or `all`.
    #[arg(required_unless_present = "list")]
    names: Vec<String>,
    /// Lists the sets.
    #[arg(long)]
    list: bool,
    /// Spends a few seconds on each set, to check that it works. Timings are then imprecise.
    #[arg(long)]
    quick: bool,
}

#[derive(clap::Args)]
struct ReportArgs {
    /// Runs fewer rounds and changes, in about nine minutes.
    #[arg(long)]
    quick: bool,
    /// Runs only this experiment. May be repeated.
    #[arg(long)]
    only: Vec<Experiment>,
    /// The seed of the workloads and faults.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// How often each measurement is repeated. With an odd number the median is a measured figure.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Renders the figures of an earlier report.json, and measures nothing.
    #[arg(long, conflicts_with_all = ["quick", "only", "seed", "rounds"])]
    from: Option<PathBuf>,
    /// The folder to write to.
    #[arg(long, default_value = "target/report")]
    output: PathBuf,
}

/// The figures of an experiment.
#[derive(Deserialize)]
struct Measured {
    name: Experiment,
    raw: Value,
}

fn main() -> ExitCode {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build, whose figures mean nothing: build with `--release`");
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
    let is_success = outcome.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        false
    });
    if is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(args: ReportArgs) -> Result<()> {
    let output = args.output.clone();
    let Report { conditions, findings } = match &args.from {
        Some(path) => {
            let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_slice(&text).with_context(|| {
                format!("{} is not the report.json of this program", path.display())
            })?
        }
        None => measure(args)?,
    };
    let Conditions { seed, rounds, quick, .. } = conditions;
    let effort = Effort { seed, rounds, quick };
    let findings = findings.into_iter().map(|Measured { name, raw }| name.evaluate(raw, effort));
    let report = Report { conditions, findings: findings.collect::<Result<_>>()? };
    report.write(&output)?;
    for finding in &report.findings {
        println!("{}: {}\n  {}", finding.claim, finding.ruling, finding.headline);
    }
    println!("{}", output.join("report.html").display());
    Ok(())
}

fn measure(args: ReportArgs) -> Result<Report<Measured>> {
    let ReportArgs { quick, only, seed, rounds, .. } = args;
    let chosen = if only.is_empty() { Experiment::value_variants().into() } else { only };
    let effort = Effort { seed, rounds, quick };
    one_thread()?.block_on(async {
        let mut servers = Vec::new();
        for store in [Store::Redis, Store::Etcd] {
            servers.push(Server::start(store).await?.description().to_owned());
        }
        let mut findings = Vec::new();
        for name in chosen {
            let bar = Progress::new(name.name());
            let progress = |step: &str, share: f64| bar.update(step, share);
            let raw = name.run(StoreOptions::default(), effort, &progress).await?;
            findings.push(Measured { name, raw });
        }
        #[expect(clippy::disallowed_methods, reason = "a date for people")]
        let now = SystemTime::now();
        let (made, machine) =
            (humantime::format_rfc3339_seconds(now).to_string(), machine::describe());
        let conditions = Conditions { made, machine, servers, seed, rounds, quick };
        Ok(Report { conditions, findings })
    })
}
