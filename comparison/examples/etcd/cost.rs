//! What a call sends: requests, round trips, bytes.

use crate::relay::Relay;
use crate::server::Server;
use anyhow::{Context, Result};
use comparison::arms::Arm;
use comparison::meter::as_f64;
use comparison::work::{Names, Work};
use futures_util::future;
use std::time::Duration;
use tokio::time::Instant;

/// How many calls are made before those that are counted, so that what is compressed is by then.
const WARM: u32 = 20;

/// How long each way takes while round trips are counted: much longer than a server takes.
const WAY: Duration = Duration::from_millis(25);

/// What one call sends.
pub(crate) struct Cost {
    pub(crate) requests: f64,
    pub(crate) round_trips: f64,
    pub(crate) bytes: f64,
}

impl Cost {
    /// Of `calls`, made through `relay` and by nobody else.
    pub(crate) async fn of<A: Arm>(
        arm: &A,
        work: Work,
        calls: u32,
        relay: &Relay,
        server: &Server,
    ) -> Result<Self> {
        let mut caller = Caller::prepare(arm, work).await?;
        for _ in 0..WARM {
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
        relay.delay(WAY);
        for _ in 0..5 {
            let start = Instant::now();
            caller.call().await?;
            least = least.min(start.elapsed());
        }
        relay.delay(Duration::ZERO);
        let round_trips = (least.as_secs_f64() / (2 * WAY).as_secs_f64()).round();
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
    work: Work,
    names: Names,
    held: Vec<A::Held>,
    watch: Option<A::Watch>,
}

impl<'a, A: Arm> Caller<'a, A> {
    async fn prepare(arm: &'a A, work: Work) -> Result<Self> {
        let names = Names::new(work)?;
        let mut caller = Self { arm, work, names, held: Vec::new(), watch: None };
        let standing = match work {
            Work::KeepAlive => 1,
            Work::Load(count) => count,
            _ => 0,
        };
        for _ in 0..standing {
            let request = caller.names.request()?;
            caller.held.push(arm.register(&request).await?);
        }
        if work == Work::RegisterToWatch {
            let mark = arm.mark(caller.names.service()).await?;
            caller.watch = Some(arm.watch(caller.names.service(), &mark).await?);
        }
        Ok(caller)
    }

    async fn call(&mut self) -> Result<()> {
        match self.work {
            Work::KeepAlive => self.arm.keep_alive(&self.held[0]).await?,
            Work::Load(_) => drop(self.arm.load(self.names.service()).await?),
            _ => {
                let request = self.names.request()?;
                let registered = self.arm.register(&request);
                let held = match &mut self.watch {
                    None => registered.await?,
                    Some(watch) => {
                        future::try_join(registered, something(self.arm, watch)).await?.0
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

async fn something<A: Arm>(arm: &A, watch: &mut A::Watch) -> Result<()> {
    while arm.next(watch).await?.is_empty() {}
    Ok(())
}
