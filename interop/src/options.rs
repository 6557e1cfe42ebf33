//! The command line.

use crate::schedule::Schedule;
use crate::spec::{EtcdRelease, Peer};
use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Runs servers and callers in Go and Rust through the same schedules at the same time.
///
/// Fails if a pairing with Rust loses more calls than Go with Go, or takes more than 100 ms longer.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask interop")]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Runs the short form, at most 5 minutes.
    #[arg(long)]
    pub(crate) quick: bool,
    /// The schedules, instead of all.
    #[arg(long, value_delimiter = ',')]
    pub(crate) schedule: Vec<Schedule>,
    /// The releases of etcd, instead of all.
    #[arg(long, value_delimiter = ',')]
    pub(crate) etcd: Vec<EtcdRelease>,
    /// The numbers of etcd members, instead of 1 and 3.
    #[arg(long, value_delimiter = ',')]
    pub(crate) members: Vec<usize>,
    /// The Go libraries, instead of all.
    #[arg(long, value_delimiter = ',')]
    pub(crate) peer: Vec<Peer>,
    /// The numbers of etcd hosts in the configuration of callers, instead of 1 and 2.
    #[arg(long, value_delimiter = ',')]
    pub(crate) hosts: Vec<usize>,
    /// Continues with the results in this folder, and skips its valid runs.
    #[arg(long, value_name = "DIR")]
    pub(crate) resume: Option<PathBuf>,
    /// The folder for results and logs, instead of a new folder in target/interop.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub(crate) output: Option<PathBuf>,
    /// The folder of the Go programs.
    #[arg(long, value_name = "DIR", default_value = "target/interop/bin", hide = true)]
    pub(crate) go: PathBuf,
    /// The folders of etcd releases. Other releases are on PATH.
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
    let (release, folder) = text.split_once('=').ok_or("expected RELEASE=DIR")?;
    Ok((EtcdRelease::from_str(release, false)?, folder.into()))
}
