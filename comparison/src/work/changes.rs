//! Work that ends with an event in the consumer's hand.

use super::{Names, Timed, deregister};
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
    names: Names,
    watch: A::Watch,
}

impl<A: Arm> RegisterToWatch<A> {
    pub(super) async fn prepare(arm: A, names: Names) -> Result<Self> {
        let mark = arm.mark(&names.service).await?;
        let watch = arm.watch(&names.service, &mark).await?;
        Ok(Self { arm, names, watch })
    }

    /// Registers one instance and withdraws it. How long it took from before the call to the event in
    /// hand: one process, one clock. (From the *answer* of the call on it would often be nothing, since
    /// the event may come first.)
    async fn once(&mut self) -> Result<Duration> {
        let Self { arm, names, watch } = self;
        let request = names.request()?;
        let put = Change::Put(request.instance.clone());
        let (held, elapsed) = {
            let mut seen = pin!(until(arm, watch, &put));
            // The consumer waits already when the clock starts. A blocking read is a request: it goes
            // out now, and has arrived when a load on the other connection is answered.
            ensure!(seen.as_mut().now_or_never().is_none(), "the event came before its cause");
            arm.load(&names.service).await?;
            let start = Instant::now();
            let seen = async { seen.await.map(|()| start.elapsed()) };
            future::try_join(arm.register(&request), seen).await?
        };
        arm.deregister(held).await?;
        until(arm, watch, &Change::Delete(request.instance.id().clone())).await?;
        Ok(elapsed)
    }
}

/// Reads a watch up to the change that is waited for, which is the only one.
pub(super) async fn until<A: Arm>(arm: &A, watch: &mut A::Watch, change: &Change) -> Result<()> {
    loop {
        let changes = arm.next(watch).await?;
        if !changes.is_empty() {
            ensure!(changes == [change.clone()], "expected {change:?}, got {changes:?}");
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
    names: Names,
    mark: A::Mark,
    held: Vec<A::Held>,
    /// A process that resumes one watch mostly has others: what they share is there already.
    _other: A::Watch,
}

impl<A: Arm> Resume<A> {
    pub(super) async fn prepare(arm: A, mut names: Names, count: usize) -> Result<Self> {
        let mark = arm.mark(&names.service).await?;
        let held = names.register(&arm, count).await?;
        let now = arm.mark(&names.service).await?;
        let other = arm.watch(&names.service, &now).await?;
        Ok(Self { arm, names, mark, held, _other: other })
    }
}

#[async_trait(?Send)]
impl<A: Arm> Timed for Resume<A> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for _ in 0..n {
            let start = Instant::now();
            let mut watch = self.arm.watch(&self.names.service, &self.mark).await?;
            let mut read = 0;
            while read < self.held.len() {
                read += self.arm.next(&mut watch).await?.len();
            }
            total += start.elapsed();
            ensure!(read == self.held.len(), "resumed {read} changes of {}", self.held.len());
        }
        Ok(total)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        deregister(&self.arm, self.held).await
    }
}

pub(super) struct Resync<A: Arm> {
    arm: A,
    names: Names,
    /// From before the history begins.
    forgotten: A::Mark,
    held: Vec<A::Held>,
    /// As in [`Resume`].
    _other: A::Watch,
}

impl<A: Arm> Resync<A> {
    pub(super) async fn prepare(arm: A, mut names: Names, count: usize) -> Result<Self> {
        let forgotten = arm.mark(&names.service).await?;
        let held = names.register(&arm, count).await?;
        // Once will do: what is forgotten stays so, however often it is asked for.
        arm.forget(&names.service).await?;
        let now = arm.mark(&names.service).await?;
        let other = arm.watch(&names.service, &now).await?;
        Ok(Self { arm, names, forgotten, held, _other: other })
    }
}

#[async_trait(?Send)]
impl<A: Arm> Timed for Resync<A> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for _ in 0..n {
            let start = Instant::now();
            let (loaded, watch) = self.arm.resync(&self.names.service, &self.forgotten).await?;
            total += start.elapsed();
            drop(watch);
            ensure!(loaded == self.held.len(), "a load showed {loaded} of {}", self.held.len());
        }
        Ok(total)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        deregister(&self.arm, self.held).await
    }
}
