//! One change, to many in this process.

use super::{RequestGenerator, Timed};
use crate::arms::Arm;
use crate::harness::CountdownLatch;
use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt, future};
use registry_core::Change;
use registry_engine::{Update, View};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How many changes a subscriber of a raw watch may be behind. They are waited for after each.
const QUEUE: usize = 16;

struct FanOut<A: Arm> {
    arm: A,
    generator: RequestGenerator,
    source: Source<A>,
    latch: Arc<CountdownLatch>,
    subscribers: JoinSet<()>,
}

/// Where the subscribers have it from.
enum Source<A: Arm> {
    /// The registry's own: a task of its own reads the watch. The view keeps it open.
    View { _view: View },
    /// A raw watch: its reader sends each change to all, by a channel for each. To read it in a task of
    /// its own would be one wake more.
    Relay { watch: A::Watch, channels: Vec<mpsc::Sender<Arc<[Change]>>> },
}

pub(super) async fn prepare<A: Arm>(
    arm: A,
    generator: RequestGenerator,
    count: usize,
) -> Result<Box<dyn Timed>> {
    Ok(Box::new(FanOut::prepare(arm, generator, count).await?))
}

impl<A: Arm> FanOut<A> {
    async fn prepare(arm: A, generator: RequestGenerator, count: usize) -> Result<Self> {
        let (latch, mut subscribers) = (Arc::new(CountdownLatch::default()), JoinSet::new());
        let source = if let Some(mut view) = arm.view(&generator.service) {
            view.ready(super::DEADLINE).await?;
            latch.reset(count);
            for _ in 0..count {
                subscribers.spawn(follow(view.clone(), latch.clone()));
            }
            latch.wait().await?; // the state, first
            Source::View { _view: view }
        } else {
            let cursor = arm.cursor(&generator.service).await?;
            let watch = arm.watch(&generator.service, &cursor).await?;
            let mut channels = Vec::with_capacity(count);
            for _ in 0..count {
                let (sender, receiver) = mpsc::channel(QUEUE);
                channels.push(sender);
                subscribers.spawn(receive(receiver, latch.clone()));
            }
            Source::Relay { watch, channels }
        };
        Ok(Self { arm, generator, source, latch, subscribers })
    }

    /// Registers one instance and withdraws it. How long it took from before the call to the event in
    /// the hand of the last.
    async fn once(&mut self) -> Result<Duration> {
        let Self { arm, generator, source, latch, subscribers } = self;
        let request = generator.request()?;
        latch.reset(subscribers.len());
        let (lease, elapsed) = {
            let mut seen = pin!(source.spread(arm, latch));
            // As for one watch: the reader waits already when the clock starts.
            ensure!(seen.as_mut().now_or_never().is_none(), "the event came before its cause");
            arm.load(&generator.service).await?;
            let start = Instant::now();
            let (lease, last) = future::try_join(arm.register(&request), seen).await?;
            (lease, last - start)
        };
        latch.reset(subscribers.len());
        arm.deregister(lease).await?;
        source.spread(arm, latch).await?;
        Ok(elapsed)
    }
}

impl<A: Arm> Source<A> {
    /// Brings the next change to all, and says when the last had it.
    async fn spread(&mut self, arm: &A, latch: &CountdownLatch) -> Result<Instant> {
        if let Self::Relay { watch, channels } = self {
            let mut changes = Vec::new();
            while changes.is_empty() {
                changes = arm.next(watch).await?;
            }
            let changes: Arc<[Change]> = changes.into();
            for channel in channels {
                channel.try_send(changes.clone()).ok().context("a subscriber is behind")?;
            }
        }
        latch.wait().await
    }
}

async fn follow(view: View, latch: Arc<CountdownLatch>) {
    let mut updates = view.updates();
    drop(view); // the updates hold it
    while let Some(update) = updates.next().await {
        if let Update::Batch(batch) = update
            && batch.is_progress()
        {
            continue;
        }
        latch.count_down();
    }
}

async fn receive(mut changes: mpsc::Receiver<Arc<[Change]>>, latch: Arc<CountdownLatch>) {
    while changes.recv().await.is_some() {
        latch.count_down();
    }
}

#[async_trait(?Send)]
impl<A: Arm> Timed for FanOut<A> {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for _ in 0..n {
            total += self.once().await?;
        }
        Ok(total)
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        self.subscribers.shutdown().await;
        Ok(())
    }
}
