//! Workloads of one request each: register, deregister, renew, load.

use super::{RequestGenerator, Timed, deregister};
use crate::arms::Arm;
use anyhow::{Result, ensure};
use async_trait::async_trait;
use std::time::Duration;
use tokio::time::Instant;

/// How many registrations are timed in one go and then withdrawn. Few, so that a service never gets
/// large; more than one, since the clock costs as much as a tenth of a registration in memory.
const CHUNK: u64 = 50;

fn chunks(n: u64) -> impl Iterator<Item = u64> {
    let most = n.div_ceil(CHUNK);
    (0..most).map(move |done| CHUNK.min(n - done * CHUNK))
}

pub(super) struct Register<A> {
    pub(super) arm: A,
    pub(super) generator: RequestGenerator,
    pub(super) and_deregister: bool,
}

#[async_trait(?Send)]
impl<A: Arm> Timed for Register<A> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for chunk in chunks(n) {
            let requests =
                (0..chunk).map(|_| self.generator.request()).collect::<Result<Vec<_>>>()?;
            let mut leases = Vec::with_capacity(requests.len());
            let start = Instant::now();
            for request in &requests {
                let registered = self.arm.register(request).await?;
                if self.and_deregister {
                    self.arm.deregister(registered).await?;
                } else {
                    leases.push(registered);
                }
            }
            total += start.elapsed();
            deregister(&self.arm, leases).await?;
        }
        Ok(total)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

pub(super) struct Deregister<A> {
    pub(super) arm: A,
    pub(super) generator: RequestGenerator,
}

#[async_trait(?Send)]
impl<A: Arm> Timed for Deregister<A> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for chunk in chunks(n) {
            let leases = self.generator.register(&self.arm, usize::try_from(chunk)?).await?;
            let start = Instant::now();
            for lease in leases {
                self.arm.deregister(lease).await?;
            }
            total += start.elapsed();
        }
        Ok(total)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

pub(super) struct KeepAlive<A: Arm> {
    arm: A,
    leases: Vec<A::Lease>,
}

impl<A: Arm> KeepAlive<A> {
    pub(super) async fn prepare(arm: A, mut generator: RequestGenerator) -> Result<Self> {
        let leases = generator.register(&arm, 1).await?;
        Ok(Self { arm, leases })
    }
}

#[async_trait(?Send)]
impl<A: Arm> Timed for KeepAlive<A> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let lease = &self.leases[0];
        let start = Instant::now();
        for _ in 0..n {
            self.arm.keep_alive(lease).await?;
        }
        Ok(start.elapsed())
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        deregister(&self.arm, self.leases).await
    }
}

pub(super) struct Load<A: Arm> {
    arm: A,
    generator: RequestGenerator,
    leases: Vec<A::Lease>,
}

impl<A: Arm> Load<A> {
    pub(super) async fn prepare(
        arm: A,
        mut generator: RequestGenerator,
        count: usize,
    ) -> Result<Self> {
        let leases = generator.register(&arm, count).await?;
        Ok(Self { arm, generator, leases })
    }
}

#[async_trait(?Send)]
impl<A: Arm> Timed for Load<A> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut loaded = self.leases.len();
        let start = Instant::now();
        for _ in 0..n {
            loaded = loaded.min(self.arm.load(&self.generator.service).await?);
        }
        let elapsed = start.elapsed();
        ensure!(loaded == self.leases.len(), "a load showed {loaded} of {}", self.leases.len());
        Ok(elapsed)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        deregister(&self.arm, self.leases).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_add_up_to_the_total() {
        assert_eq!(chunks(120).collect::<Vec<_>>(), [50, 50, 20]);
        assert_eq!(chunks(50).collect::<Vec<_>>(), [50]);
        assert_eq!(chunks(0).count(), 0);
    }
}
