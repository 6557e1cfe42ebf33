//! The process that is killed: it registers, renews, and says when.

use crate::server;
use anyhow::{Context, Result};
use clap::Args;
use comparison::sections::one_thread;
use comparison::workloads::{RequestGenerator, Workload};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use registry_core::{CallOptions, Claim, Instance, Registry, ServiceName};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;
use std::{env, io, process, thread};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// Before all leases are renewed, and after.
const RENEWING: &str = "renewing";
const RENEWED: &str = "renewed";

#[derive(Args)]
pub(crate) struct Registrant {
    /// The server: `host:port`.
    address: String,
    service: String,
    instances: usize,
    /// In seconds.
    ttl: u64,
}

impl Registrant {
    /// Registers and renews until it is killed, or its parent ends.
    pub(crate) fn run(&self) -> Result<()> {
        thread::spawn(|| {
            io::stdin().read_to_end(&mut Vec::new()).ok();
            process::exit(0);
        });
        one_thread()?.block_on(self.keep())
    }

    async fn keep(&self) -> Result<()> {
        let (registry, ttl) =
            (server::registry(&self.address).await?, Duration::from_secs(self.ttl));
        let (service, mut generator) =
            (ServiceName::new(&self.service)?, RequestGenerator::new(Workload::Register)?);
        let mut instances = Vec::with_capacity(self.instances);
        for _ in 0..self.instances {
            let like = generator.request()?.instance;
            instances.push(Instance::new(
                service.clone(),
                like.id().clone(),
                like.address().clone(),
            ));
        }
        let leases = stream::iter(&instances).map(async |instance| {
            anyhow::Ok(registry.register(instance, &Claim::new(ttl)?, &CallOptions::DEFAULT).await?)
        });
        let leases: Vec<_> = leases.buffer_unordered(64).try_collect().await?;
        loop {
            println!("{RENEWING}");
            try_join_all(
                leases.iter().map(|lease| registry.keep_alive(lease, &CallOptions::DEFAULT)),
            )
            .await?;
            println!("{RENEWED}");
            sleep(ttl / 4).await;
        }
    }
}

/// Such a process, seen from without. Who drops it kills it.
pub(crate) struct RegistrantProcess {
    child: Child,
    lines: mpsc::Receiver<(Instant, String)>,
    _stdin: ChildStdin,
}

impl RegistrantProcess {
    pub(crate) fn start(address: &str, service: &str, instances: usize, ttl: u64) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("registrant").args([address, service]);
        command.args([instances.to_string(), ttl.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().context("a child without an input")?;
        let stdout = BufReader::new(child.stdout.take().context("a child without an output")?);
        let (sender, lines) = mpsc::channel(64);
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.blocking_send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines, _stdin: stdin })
    }

    /// Waits until all leases were renewed, and kills it at once. Gives the moments before the first of
    /// these renewals was sent, and of the kill.
    pub(crate) async fn kill_when_renewed(&mut self) -> Result<[Instant; 2]> {
        let mut renewing = None;
        loop {
            let (at, line) = self.lines.recv().await.context("the registrant ended by itself")?;
            match renewing {
                Some(renewing) if line == RENEWED => {
                    let killed = Instant::now();
                    self.child.kill()?;
                    self.child.wait()?;
                    return Ok([renewing, killed]);
                }
                _ if line == RENEWING => renewing = Some(at),
                _ => {}
            }
        }
    }
}

impl Drop for RegistrantProcess {
    /// Kills the process, unless it has ended already.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
