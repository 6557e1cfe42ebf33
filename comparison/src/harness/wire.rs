//! What a call sends: requests, round trips, bytes.

use super::etcd_server::EtcdServer;
use super::figures::{Figure, Figures};
use super::machine::as_f64;
use crate::workloads::{Contender, Runner, Workload};
use anyhow::Result;
use registry_testbed::proxy::{Fault, Proxy};
use std::time::Duration;

/// How many calls are made before those that are counted, so that what is compressed is by then.
const WARM_UP: u64 = 20;

/// How long each way takes while round trips are counted: much longer than a server takes.
const LINK_DELAY: Duration = Duration::from_millis(25);

/// What one call sends. Requests and bytes are with what clears it away, if that is not left to the end.
pub struct WireCost {
    requests: f64,
    round_trips: f64,
    bytes: f64,
}

impl WireCost {
    /// Measures so many calls, made by an arm through `proxy` and by no other client of the server.
    pub async fn of(
        arm: &dyn Contender,
        workload: Workload,
        calls: u32,
        (proxy, server): (&Proxy, &EtcdServer),
    ) -> Result<Self> {
        let mut runner = Runner::prepare("counted", arm, workload).await?;
        runner.time(WARM_UP).await?;
        // The proxy counts the bytes that it delays.
        let delay = |each| proxy.inject(Fault::Delay { each, jitter: Duration::ZERO });
        delay(Duration::ZERO);
        let counted = async || {
            let requests = server.metrics().await?.requests(None)?;
            anyhow::Ok((requests, as_f64(proxy.hits().delayed_bytes)))
        };
        let before = counted().await?;
        for _ in 0..calls {
            runner.time(1).await?;
        }
        let after = counted().await?;
        // The least of a few: the machine only ever adds.
        let mut least = Duration::MAX;
        delay(LINK_DELAY);
        for _ in 0..5 {
            least = least.min(runner.time(1).await?);
        }
        proxy.heal();
        runner.finish().await?;
        let each = |sum: f64| sum / f64::from(calls);
        Ok(Self {
            requests: each(after.0 - before.0),
            round_trips: (least.as_secs_f64() / (2 * LINK_DELAY).as_secs_f64()).round(),
            bytes: each(after.1 - before.1),
        })
    }

    /// Adds what ours costs, which is not to be more than what the raw arm costs.
    pub fn add(&self, figures: &mut Figures, name: &str, raw: &Self, with_bytes: bool) {
        let name = |what: &str, raw: f64| format!("{name}: {what} (raw {raw:.1})");
        let same = |what: &str, ours: f64, raw: f64| {
            Figure::counted(name(what, raw), ours, "").exactly(raw)
        };
        figures.add(same("round trips", self.round_trips, raw.round_trips));
        if !with_bytes {
            return;
        }
        figures.add(same("requests", self.requests, raw.requests));
        // Lease ids are drawn, and as varints differ in length.
        let bytes = Figure::counted(name("bytes", raw.bytes), self.bytes, "");
        figures.add(bytes.at_most(raw.bytes * 1.02));
    }
}
