//! An etcd, and what it counts.

use super::levels::{SYNCS, placement};
use crate::arms::RawEtcd;
use crate::arms::etcd::connect;
use anyhow::{Context, Result};
use etcd_client::Client;
use registry_etcd::EtcdRegistry;
use registry_testbed::servers::{Etcd, Process, ServerOptions};
use std::fs;
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// The prefix of the registry's keys.
pub const OURS: &str = "figures-ours";

/// An etcd.
pub struct EtcdServer {
    /// `host:port`
    pub address: String,
    /// Its version, and what it does with a write.
    pub description: String,
    pub etcd: Etcd,
}

impl EtcdServer {
    /// Finds or starts one.
    pub async fn start() -> Result<Self> {
        Self::start_with(Etcd::options()).await
    }

    /// The same, but for where and how.
    pub async fn start_with(mut options: ServerOptions) -> Result<Self> {
        if options.url.is_none() {
            // That of the fixture is for tests; this is etcd's own. 10,000 watches would get
            // a progress notification five times a second.
            options.arguments.push("--experimental-watch-progress-notify-interval=10m".into());
        }
        let mut etcd = Etcd::start_with(options).await?;
        let address = etcd.endpoint().trim_start_matches("http://").to_owned();
        let description = describe(&mut etcd).await?;
        Ok(Self { address, description, etcd })
    }

    /// The URL of the registry.
    pub fn url(&self) -> String {
        format!("etcd://{}/{OURS}", self.address)
    }

    /// The registry, on a connection of its own.
    pub async fn registry(&self) -> Result<EtcdRegistry> {
        Ok(EtcdRegistry::connect(&self.url().parse()?).await?)
    }

    /// The raw client, on a connection of its own.
    pub async fn raw(&self) -> Result<RawEtcd> {
        RawEtcd::connect(&self.etcd.endpoint()).await
    }

    /// etcd's client, on a connection of its own.
    pub async fn client(&self) -> Result<Client> {
        connect(&self.etcd.endpoint()).await
    }

    /// What it counts at this moment.
    pub async fn metrics(&self) -> Result<Metrics> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(Metrics(text))
    }

    /// Waits until it has so many watchers, at least or at most.
    pub async fn wait_for_watchers(&self, expected: RangeInclusive<f64>) -> Result<()> {
        let mut last = None;
        let all = async {
            loop {
                last = self.metrics().await.and_then(|metrics| metrics.watchers()).ok();
                if last.is_some_and(|open| expected.contains(&open)) {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let settled = timeout(Duration::from_secs(300), all).await;
        settled.with_context(|| format!("{last:?} watchers are open, not {expected:?}"))
    }
}

/// What a server counts, in the form of Prometheus.
pub struct Metrics(String);

impl Metrics {
    /// How many requests of a method it was sent.
    pub fn requests(&self, method: &str) -> Result<f64> {
        self.sum("grpc_server_msg_received_total", Some(method))
    }

    /// How many streams of a method are open.
    pub fn streams(&self, method: &str) -> Result<f64> {
        let started = self.sum("grpc_server_started_total", Some(method))?;
        Ok(started - self.sum("grpc_server_handled_total", Some(method)).unwrap_or_default())
    }

    /// How many watchers there are.
    pub fn watchers(&self) -> Result<f64> {
        self.sum("etcd_debugging_mvcc_watcher_total", None)
    }

    /// The seconds that it ran for.
    pub fn cpu(&self) -> Result<f64> {
        self.sum("process_cpu_seconds_total", None)
    }

    /// All values of that name, with a label of that value.
    fn sum(&self, name: &str, label: Option<&str>) -> Result<f64> {
        let label = label.map(|label| format!("=\"{label}\""));
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let is_meant = label.as_ref().is_none_or(|label| labels.contains(label.as_str()));
            is_meant.then(|| value.parse::<f64>().ok())?
        });
        let values: Vec<f64> = values.collect();
        let known = (!values.is_empty()).then(|| values.iter().sum());
        known.with_context(|| format!("the server does not count `{name}`, label=`{label:?}`"))
    }
}

/// Describes a server: its version, and how it persists a write.
async fn describe(etcd: &mut Etcd) -> Result<String> {
    let status = connect(&etcd.endpoint()).await?.maintenance_client().status().await?;
    let persistence = etcd.process().map_or_else(
        |_| "an external server: its persistence is unknown".to_owned(),
        |process| durability(process),
    );
    Ok(format!("etcd {}, {persistence}", status.version()))
}

/// Returns how an etcd that this process started persists a write.
fn durability(process: &Process) -> String {
    let line =
        process.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).ok());
    let syncs = match line {
        Some(line) if line.contains("--unsafe-no-fsync") => "no fsync",
        Some(_) => SYNCS,
        None => "fsync unknown",
    };
    format!("{syncs}, {}", placement(process))
}
