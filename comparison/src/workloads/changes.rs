//! Workloads that end with an event at the consumer.

use super::{RequestGenerator, Timed, deregister};
use crate::arms::Arm;
use anyhow::{Result, ensure};
use async_trait::async_trait;
use futures_util::{FutureExt, future};
use registry_core::Change;
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;

pub(super) struct RegisterToWatch<A: Arm> {
    arm: A,
    generator: RequestGenerator,
    watch: A::Watch,
}

impl<A: Arm> RegisterToWatch<A> {
    pub(super) async fn prepare(arm: A, generator: RequestGenerator) -> Result<Self> {
        let cursor = arm.cursor(&generator.service).await?;
        let watch = arm.watch(&generator.service, &cursor).await?;
        Ok(Self { arm, generator, watch })
    }

    /// Registers one instance and withdraws it. How long it took from before the call to the event in
    /// hand: one process, one clock. (From the *answer* of the call on it would often be nothing, since
    /// the event may come first.)
    async fn once(&mut self) -> Result<Duration> {
        let Self { arm, generator, watch } = self;
        let request = generator.request()?;
        let is_put = |change: &Change| matches!(change, Change::Put(record) if *record.instance() == request.instance);
        let (lease, elapsed) = {
            let mut seen = pin!(until(arm, watch, is_put));
            // The consumer waits already when the clock starts. A blocking read is a request: it goes
            // out now, and has arrived when a load on the other connection is answered.
            ensure!(seen.as_mut().now_or_never().is_none(), "the event came before its cause");
            arm.load(&generator.service).await?;
            let start = Instant::now();
            let seen = async { seen.await.map(|()| start.elapsed()) };
            future::try_join(arm.register(&request), seen).await?
        };
        arm.deregister(lease).await?;
        let id = request.instance.id();
        let is_deletion =
            |change: &Change| matches!(change, Change::Delete(deleted) if deleted.id() == id);
        until(arm, watch, is_deletion).await?;
        Ok(elapsed)
    }
}

/// Reads a watch up to the change that is waited for, which is the only one.
pub(super) async fn until<A: Arm>(
    arm: &A,
    watch: &mut A::Watch,
    is_expected: impl Fn(&Change) -> bool,
) -> Result<()> {
    loop {
        let changes = arm.next(watch).await?;
        if !changes.is_empty() {
            ensure!(changes.len() == 1 && is_expected(&changes[0]), "not expected: {changes:?}");
            return Ok(());
        }
    }
}

#[async_trait(?Send)]
impl<A: Arm> Timed for RegisterToWatch<A> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for _ in 0..n {
            total += self.once().await?;
        }
        Ok(total)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

pub(super) struct Resume<A: Arm> {
    arm: A,
    generator: RequestGenerator,
    cursor: A::Cursor,
    leases: Vec<A::Lease>,
    /// A process that resumes one watch mostly has others: what they share is there already.
    _other: A::Watch,
}

impl<A: Arm> Resume<A> {
    pub(super) async fn prepare(
        arm: A,
        mut generator: RequestGenerator,
        count: usize,
    ) -> Result<Self> {
        let cursor = arm.cursor(&generator.service).await?;
        let leases = generator.register(&arm, count).await?;
        let now = arm.cursor(&generator.service).await?;
        let other = arm.watch(&generator.service, &now).await?;
        Ok(Self { arm, generator, cursor, leases, _other: other })
    }
}

#[async_trait(?Send)]
impl<A: Arm> Timed for Resume<A> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for _ in 0..n {
            let start = Instant::now();
            let mut watch = self.arm.watch(&self.generator.service, &self.cursor).await?;
            let mut read = 0;
            while read < self.leases.len() {
                read += self.arm.next(&mut watch).await?.len();
            }
            total += start.elapsed();
            ensure!(read == self.leases.len(), "resumed {read} changes of {}", self.leases.len());
        }
        Ok(total)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        deregister(&self.arm, self.leases).await
    }
}

pub(super) struct Resync<A: Arm> {
    arm: A,
    generator: RequestGenerator,
    /// A cursor from before the history begins.
    compacted: A::Cursor,
    leases: Vec<A::Lease>,
    /// As in [`Resume`].
    _other: A::Watch,
}

impl<A: Arm> Resync<A> {
    pub(super) async fn prepare(
        arm: A,
        mut generator: RequestGenerator,
        count: usize,
    ) -> Result<Self> {
        let compacted = arm.cursor(&generator.service).await?;
        let leases = generator.register(&arm, count).await?;
        // Once is enough: the history stays compacted.
        arm.compact(&generator.service).await?;
        let now = arm.cursor(&generator.service).await?;
        let other = arm.watch(&generator.service, &now).await?;
        Ok(Self { arm, generator, compacted, leases, _other: other })
    }
}

#[async_trait(?Send)]
impl<A: Arm> Timed for Resync<A> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for _ in 0..n {
            let start = Instant::now();
            let (loaded, watch) = self.arm.resync(&self.generator.service, &self.compacted).await?;
            total += start.elapsed();
            drop(watch);
            ensure!(loaded == self.leases.len(), "a load showed {loaded} of {}", self.leases.len());
        }
        Ok(total)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        deregister(&self.arm, self.leases).await
    }
}
