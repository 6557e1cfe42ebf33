//! An etcd server and its metrics.

use super::levels::{SYNCS, placement};
use crate::arms::RawEtcd;
use crate::arms::etcd::connect;
use anyhow::{Context, Result};
use etcd_client::Client;
use registry_etcd::EtcdRegistry;
use registry_testbed::servers::{Etcd, ServerOptions};
use std::fs;
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// The prefix of the registry's keys.
pub const REGISTRY_PREFIX: &str = "figures-ours";

pub struct EtcdServer {
    /// The client address, `host:port`.
    pub address: String,
    /// The version, and how the server persists a write.
    pub description: String,
    pub etcd: Etcd,
}

impl EtcdServer {
    /// Connects to the etcd that the environment names, or starts one.
    pub async fn start() -> Result<Self> {
        Self::start_with(Etcd::options()).await
    }

    pub async fn start_with(mut options: ServerOptions) -> Result<Self> {
        if options.url.is_none() {
            // etcd's default. At the interval of the tests, 10,000 watches would get five notifications a second.
            options.arguments.push("--experimental-watch-progress-notify-interval=10m".into());
        }
        let mut etcd = Etcd::start_with(options).await?;
        let address = etcd.endpoint().trim_start_matches("http://").to_owned();
        let description = describe(&mut etcd).await?;
        Ok(Self { address, description, etcd })
    }

    pub fn url(&self) -> String {
        format!("etcd://{}/{REGISTRY_PREFIX}", self.address)
    }

    pub async fn registry(&self) -> Result<EtcdRegistry> {
        Ok(EtcdRegistry::connect(&self.url().parse()?).await?)
    }

    pub async fn raw(&self) -> Result<RawEtcd> {
        RawEtcd::connect(&self.etcd.endpoint()).await
    }

    pub async fn client(&self) -> Result<Client> {
        connect(&self.etcd.endpoint()).await
    }

    pub async fn metrics(&self) -> Result<Metrics> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(Metrics(text))
    }

    /// Waits until the number of open watchers is in a range.
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
        settled.with_context(|| format!("{last:?} watchers are open, expected {expected:?}"))
    }
}

/// The metrics of a server, as Prometheus text.
pub struct Metrics(String);

impl Metrics {
    /// Returns the number of requests of a gRPC method.
    pub fn requests(&self, method: &str) -> Result<f64> {
        self.sum("grpc_server_msg_received_total", Some(method))
    }

    /// Returns the number of open streams of a gRPC method.
    pub fn streams(&self, method: &str) -> Result<f64> {
        let started = self.sum("grpc_server_started_total", Some(method))?;
        Ok(started - self.sum("grpc_server_handled_total", Some(method)).unwrap_or_default())
    }

    pub fn watchers(&self) -> Result<f64> {
        self.sum("etcd_debugging_mvcc_watcher_total", None)
    }

    pub fn cpu(&self) -> Result<f64> {
        self.sum("process_cpu_seconds_total", None)
    }

    /// Sums the values of a metric, optionally only those with a label of this value.
    fn sum(&self, name: &str, label: Option<&str>) -> Result<f64> {
        let label = label.map(|label| format!("=\"{label}\""));
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let is_meant = label.as_ref().is_none_or(|label| labels.contains(label.as_str()));
            is_meant.then(|| value.parse::<f64>().ok())?
        });
        let sum = values.reduce(|sum, value| sum + value);
        sum.with_context(|| format!("etcd has no metric `{name}` with the label {label:?}"))
    }
}

async fn describe(etcd: &mut Etcd) -> Result<String> {
    let status = connect(&etcd.endpoint()).await?.maintenance_client().status().await?;
    let version = status.version();
    let Ok(process) = etcd.process() else {
        return Ok(format!("etcd {version}, an external server: its persistence is unknown"));
    };
    let cmd = process.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).ok());
    let syncs = match cmd {
        Some(cmd) if cmd.contains("--unsafe-no-fsync") => "no fsync",
        Some(_) => SYNCS,
        None => "fsync unknown",
    };
    Ok(format!("etcd {version}, {syncs}, {}", placement(process)))
}
