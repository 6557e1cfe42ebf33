//! The command line.

use crate::schedule::Schedule;
use crate::spec::{EtcdRelease, Peer};
use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Runs servers and callers in Go and in Rust beside each other, under the same schedules at the same time, and fails
/// if ours lose more calls than Go with Go, or need 100 ms longer.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask interop")]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The short form: at most 5 minutes.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Which schedules, instead of all.
    #[arg(long, value_delimiter = ',')]
    pub(crate) schedule: Vec<Schedule>,
    /// Which releases of etcd, instead of all.
    #[arg(long, value_delimiter = ',')]
    pub(crate) etcd: Vec<EtcdRelease>,
    /// How many members, instead of both 1 and 3.
    #[arg(long, value_delimiter = ',')]
    pub(crate) members: Vec<usize>,
    /// Which programs in Go, instead of all.
    #[arg(long, value_delimiter = ',')]
    pub(crate) peer: Vec<Peer>,
    /// How many hosts callers know, instead of both 1 and 2.
    #[arg(long, value_delimiter = ',')]
    pub(crate) hosts: Vec<usize>,
    /// Continues the program whose results are in this folder: its runs that are done are not made again.
    #[arg(long, value_name = "DIR")]
    pub(crate) resume: Option<PathBuf>,
    /// The folder for results and logs, instead of a new one in target/interop.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub(crate) output: Option<PathBuf>,
    /// The folder of the programs in Go.
    #[arg(long, value_name = "DIR", default_value = "target/interop/bin", hide = true)]
    pub(crate) go: PathBuf,
    /// The folders of releases of etcd: a release that is not named is on PATH.
    #[arg(long, value_name = "RELEASE=DIR", value_parser = release, hide = true)]
    pub(crate) release: Vec<(EtcdRelease, PathBuf)>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a server.
    #[command(hide = true)]
    Server { config: PathBuf },
    /// Runs a caller.
    #[command(hide = true)]
    Caller { config: PathBuf },
}

fn release(text: &str) -> Result<(EtcdRelease, PathBuf), String> {
    let (release, folder) = text.split_once('=').ok_or("it is RELEASE=DIR")?;
    Ok((EtcdRelease::from_str(release, false)?, folder.into()))
}
