//! The scraped metrics have the documented names and kinds, and a help text.
#![allow(clippy::unwrap_used)]

use registry_testkit::lag::timeout;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

/// Metrics that only a fault creates.
const FAULT_METRICS: [&str; 7] = [
    "registry_registrations_repeated_total",
    "registry_renewals_failed_total",
    "registry_view_disruptions_total",
    "registry_view_ejections_total",
    "registry_view_released_total",
    "registry_view_resyncs_total",
    "registry_view_retained_total",
];

/// Returns the kinds of the metrics in the table of the documentation, by name.
fn documented() -> BTreeMap<&'static str, &'static str> {
    let table = include_str!("../../../registry-engine/src/metrics.rs").lines();
    let rows = table.filter_map(|line| line.strip_prefix("//! | `registry_"));
    let metrics = rows.map(|row| {
        let (name, rest) = row.split_once("` | ").unwrap();
        (name, rest.split([',', ' ']).next().unwrap())
    });
    metrics.collect()
}

#[tokio::test]
async fn the_scraped_metrics_are_the_documented_ones() {
    let text = timeout(Duration::from_secs(20), scrape()).await.expect("the scrape takes too long");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE registry_"));
    let scraped: BTreeMap<_, _> =
        types.map(|line| line.split_once(' ').expect("a name and a kind")).collect();
    let mut expected = documented();
    for name in FAULT_METRICS {
        expected.remove(name.strip_prefix("registry_").unwrap()).expect(name);
    }
    assert_eq!(scraped, expected, "{text}");
    let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP registry_"));
    let helped: BTreeSet<_> = helps.filter_map(|line| Some(line.split_once(' ')?.0)).collect();
    assert_eq!(helped, scraped.keys().copied().collect(), "{text}");
    for line in [
        r#"registry_registrations_active{service="user.rpc"} 1"#,
        r#"registry_view_instances{service="user.rpc"} 1"#,
        r#"registry_view_lag_batches_bucket{service="user.rpc",le="1"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

/// Starts the example, reads its metrics, and stops it with SIGTERM.
async fn scrape() -> String {
    let mut example = Command::new(env!("CARGO_BIN_EXE_prometheus-example"))
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(example.stdout.take().expect("it is piped")).lines();
    let line = lines.next_line().await.unwrap().expect("it prints its URL");
    let url = line.strip_prefix("metrics are at http://").expect(&line);
    let (address, path) = url.split_once('/').unwrap();

    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();

    let pid = Pid::from_raw(example.id().expect("it runs").try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let status = example.wait().await.unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
    answer
}
