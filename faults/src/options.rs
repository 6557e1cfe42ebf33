//! The command line.

use crate::schedule::Schedule;
use crate::topology::{Store, Topology};
use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Runs schedules of faults against real servers.
///
/// Fails if any state of a view lacks a live instance, if a view becomes stale too late, if two registrations hold one
/// id, or if an owner is registered again too late.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask faults")]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Runs the short form, at most 5 minutes on two cores.
    #[arg(long)]
    pub(crate) quick: bool,
    /// The stores, instead of both.
    #[arg(long, value_delimiter = ',')]
    pub(crate) store: Vec<Store>,
    /// The topologies of servers, instead of all.
    #[arg(long, value_delimiter = ',')]
    pub(crate) topology: Vec<Topology>,
    /// The ttls, from 1 s to 60 s [default: 2s,5s,10s; 2s with --quick].
    #[arg(long, value_delimiter = ',', value_parser = ttl)]
    pub(crate) ttl: Vec<Duration>,
    /// The schedules, instead of all. A name also selects its variants: A2 selects A2-wiped, too.
    #[arg(long, value_delimiter = ',')]
    pub(crate) schedule: Vec<String>,
    /// The number of instances.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(5..=900))]
    pub(crate) owners: u16,
    /// The seed of all random choices.
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
    /// The number of runs of each schedule, topology and ttl [default: 3; 1 with --quick].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=999))]
    pub(crate) repeats: Option<u32>,
    /// Continues with the results in this folder, and skips its valid runs.
    #[arg(long, value_name = "DIR")]
    pub(crate) resume: Option<PathBuf>,
    /// The folder for results and logs, instead of a new folder in target/faults.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub(crate) output: Option<PathBuf>,
    /// The maximum number of concurrent runs, which decreases when runs are starved [default: two per core].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) jobs: Option<u8>,
    /// Disables retention, to check that the program detects the missing instances.
    #[arg(long, hide = true)]
    pub(crate) without_retention: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Executes one run, with its log on standard error and its report on standard output.
    One {
        /// The `spec` of a run in runs.jsonl.
        spec: String,
    },
}

impl Options {
    pub(crate) fn schedules(&self) -> Result<Vec<Schedule>> {
        if self.schedule.is_empty() {
            return Ok(Schedule::ALL.to_vec());
        }
        let mut named = Vec::new();
        for name in &self.schedule {
            named.extend(Schedule::named(name.trim())?);
        }
        named.sort_unstable();
        named.dedup();
        Ok(named)
    }

    pub(crate) fn repeats(&self) -> u32 {
        self.repeats.unwrap_or(if self.quick { 1 } else { 3 })
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let allowed = Duration::from_secs(1)..=Duration::from_secs(60);
    if allowed.contains(&ttl) { Ok(ttl) } else { Err("the ttl must be from 1s to 60s".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_parsed() {
        let line = "faults --quick --store etcd --topology one,three --ttl 2s,500ms";
        assert!(Options::try_parse_from(line.split(' ')).is_err(), "the ttl 500ms is out of range");
        let line = "faults --quick --store etcd --topology one,three --ttl 2s,5s --schedule A1,A2";
        let options = Options::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(options.ttl, [2, 5].map(Duration::from_secs));
        assert_eq!(options.topology, [Topology::Etcd, Topology::EtcdThree]);
        assert_eq!(options.schedules().unwrap().len(), 3);
        assert_eq!(options.repeats(), 1);
    }
}
