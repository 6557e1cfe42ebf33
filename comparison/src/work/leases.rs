//! Work that is one request each: register, withdraw, renew, load.

use super::{Names, Timed, deregister};
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
    pub(super) names: Names,
    pub(super) and_deregister: bool,
}

#[async_trait(?Send)]
impl<A: Arm> Timed for Register<A> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for chunk in chunks(n) {
            let requests = (0..chunk).map(|_| self.names.request()).collect::<Result<Vec<_>>>()?;
            let mut held = Vec::with_capacity(requests.len());
            let start = Instant::now();
            for request in &requests {
                let registered = self.arm.register(request).await?;
                if self.and_deregister {
                    self.arm.deregister(registered).await?;
                } else {
                    held.push(registered);
                }
            }
            total += start.elapsed();
            deregister(&self.arm, held).await?;
        }
        Ok(total)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

pub(super) struct Deregister<A> {
    pub(super) arm: A,
    pub(super) names: Names,
}

#[async_trait(?Send)]
impl<A: Arm> Timed for Deregister<A> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for chunk in chunks(n) {
            let held = self.names.register(&self.arm, usize::try_from(chunk)?).await?;
            let start = Instant::now();
            for held in held {
                self.arm.deregister(held).await?;
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
    held: Vec<A::Held>,
}

impl<A: Arm> KeepAlive<A> {
    pub(super) async fn prepare(arm: A, mut names: Names) -> Result<Self> {
        let held = names.register(&arm, 1).await?;
        Ok(Self { arm, held })
    }
}

#[async_trait(?Send)]
impl<A: Arm> Timed for KeepAlive<A> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let held = &self.held[0];
        let start = Instant::now();
        for _ in 0..n {
            self.arm.keep_alive(held).await?;
        }
        Ok(start.elapsed())
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        deregister(&self.arm, self.held).await
    }
}

pub(super) struct Load<A: Arm> {
    arm: A,
    names: Names,
    held: Vec<A::Held>,
}

impl<A: Arm> Load<A> {
    pub(super) async fn prepare(arm: A, mut names: Names, count: usize) -> Result<Self> {
        let held = names.register(&arm, count).await?;
        Ok(Self { arm, names, held })
    }
}

#[async_trait(?Send)]
impl<A: Arm> Timed for Load<A> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut loaded = self.held.len();
        let start = Instant::now();
        for _ in 0..n {
            loaded = loaded.min(self.arm.load(&self.names.service).await?);
        }
        let elapsed = start.elapsed();
        ensure!(loaded == self.held.len(), "a load showed {loaded} of {}", self.held.len());
        Ok(elapsed)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        deregister(&self.arm, self.held).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_all_of_it() {
        assert_eq!(chunks(120).collect::<Vec<_>>(), [50, 50, 20]);
        assert_eq!(chunks(50).collect::<Vec<_>>(), [50]);
        assert_eq!(chunks(0).count(), 0);
    }
}
