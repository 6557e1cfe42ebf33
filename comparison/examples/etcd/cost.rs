//! What a call sends: requests, round trips, bytes.

use crate::relay::Relay;
use crate::server::Server;
use anyhow::{Context, Result};
use comparison::arms::Arm;
use comparison::meter::as_f64;
use comparison::workloads::{RequestGenerator, Workload};
use futures_util::future;
use std::time::Duration;
use tokio::time::Instant;

/// How many calls are made before those that are counted, so that what is compressed is by then.
const WARM_UP: u32 = 20;

/// How long each way takes while round trips are counted: much longer than a server takes.
const LINK_DELAY: Duration = Duration::from_millis(25);

/// What one call sends.
pub(crate) struct Cost {
    pub(crate) requests: f64,
    pub(crate) round_trips: f64,
    pub(crate) bytes: f64,
}

impl Cost {
    /// Measures `calls`, made through `relay` and by no other client.
    pub(crate) async fn of<A: Arm>(
        arm: &A,
        workload: Workload,
        calls: u32,
        relay: &Relay,
        server: &Server,
    ) -> Result<Self> {
        let mut caller = Caller::prepare(arm, workload).await?;
        for _ in 0..WARM_UP {
            caller.call().await?;
        }
        let before = (server.metrics().await?.requests(None)?, relay.bytes());
        for _ in 0..calls {
            caller.call().await?;
        }
        let after = (server.metrics().await?.requests(None)?, relay.bytes());
        let each = |sum: f64| sum / f64::from(calls);
        let sent = |[up, down]: [u64; 2]| as_f64(up + down);

        // The least of a few: the machine only ever adds.
        let mut least = Duration::MAX;
        relay.delay(LINK_DELAY);
        for _ in 0..5 {
            let start = Instant::now();
            caller.call().await?;
            least = least.min(start.elapsed());
        }
        relay.delay(Duration::ZERO);
        let round_trips = (least.as_secs_f64() / (2 * LINK_DELAY).as_secs_f64()).round();
        caller.finish().await?;
        Ok(Self {
            requests: each(after.0 - before.0),
            round_trips,
            bytes: each(sent(after.1) - sent(before.1)),
        })
    }
}

/// Who makes one call after another, and clears nothing away in between.
struct Caller<'a, A: Arm> {
    arm: &'a A,
    workload: Workload,
    generator: RequestGenerator,
    held: Vec<A::Lease>,
    watch: Option<A::Watch>,
}

impl<'a, A: Arm> Caller<'a, A> {
    async fn prepare(arm: &'a A, workload: Workload) -> Result<Self> {
        let generator = RequestGenerator::new(workload)?;
        let mut caller = Self { arm, workload, generator, held: Vec::new(), watch: None };
        let registered = match workload {
            Workload::KeepAlive => 1,
            Workload::Load(count) => count,
            _ => 0,
        };
        for _ in 0..registered {
            let request = caller.generator.request()?;
            caller.held.push(arm.register(&request).await?);
        }
        if workload == Workload::RegisterToWatch {
            let mark = arm.cursor(caller.generator.service()).await?;
            caller.watch = Some(arm.watch(caller.generator.service(), &mark).await?);
        }
        Ok(caller)
    }

    async fn call(&mut self) -> Result<()> {
        match self.workload {
            Workload::KeepAlive => self.arm.keep_alive(&self.held[0]).await?,
            Workload::Load(_) => drop(self.arm.load(self.generator.service()).await?),
            _ => {
                let request = self.generator.request()?;
                let registered = self.arm.register(&request);
                let held = match &mut self.watch {
                    None => registered.await?,
                    Some(watch) => {
                        future::try_join(registered, next_change(self.arm, watch)).await?.0
                    }
                };
                self.held.push(held);
            }
        }
        Ok(())
    }

    async fn finish(self) -> Result<()> {
        for held in self.held {
            self.arm.deregister(held).await.context("clearing away")?;
        }
        Ok(())
    }
}

async fn next_change<A: Arm>(arm: &A, watch: &mut A::Watch) -> Result<()> {
    while arm.next(watch).await?.is_empty() {}
    Ok(())
}
