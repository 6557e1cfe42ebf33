//! Broadcast one change: from `register` to the subscribers of a view, or through tokio channels alone.

use crate::harness::{CountdownLatch, ServiceFixture};
use anyhow::Result;
use futures_util::StreamExt;
use registry_core::{Batch, Origin, Revision};
use registry_engine::{Update, View};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The capacity of a channel. A capacity of 1 would suffice, because each change is delivered before the next one.
const QUEUE: usize = 16;

/// How a task receives a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    Updates,
    Changed,
    /// A tokio mpsc channel for each task, with an `Arc` per message.
    Mpsc,
}

/// The source of changes, and its subscribers.
pub struct FanOut {
    source: Source,
    batch: Arc<Batch>,
    latch: Arc<CountdownLatch>,
    tasks: JoinSet<()>,
}

enum Source {
    Service(Box<ServiceFixture>),
    Mpsc(Vec<mpsc::Sender<Arc<Batch>>>),
}

impl Subscription {
    pub fn name(self) -> &'static str {
        match self {
            Self::Updates => "updates()",
            Self::Changed => "changed()",
            Self::Mpsc => "mpsc",
        }
    }
}

impl FanOut {
    /// Starts subscribers, and waits until all are ready.
    pub async fn new(arm: Subscription, instances: usize, subscribers: usize) -> Result<Self> {
        let cursor = Origin::new("raw", "", &"raw".parse()?).cursor(Revision::new(1), 0);
        let (latch, batch) = (Arc::default(), Arc::new(Batch::progress(cursor)));
        let mut tasks = JoinSet::new();
        let source = match arm {
            Subscription::Updates | Subscription::Changed => {
                let fixture = Box::new(ServiceFixture::new(instances).await?);
                tasks = subscribe(&fixture.view, arm, subscribers, &latch).await?;
                Source::Service(fixture)
            }
            Subscription::Mpsc => Source::Mpsc(
                (0..subscribers)
                    .map(|_| {
                        let (sender, mut changes) = mpsc::channel(QUEUE);
                        let latch = latch.clone();
                        tasks.spawn(async move {
                            while changes.recv().await.is_some() {
                                latch.count_down();
                            }
                        });
                        sender
                    })
                    .collect(),
            ),
        };
        Ok(Self { source, batch, latch, tasks })
    }

    /// Makes a change, and returns the time until the last subscriber has it.
    pub async fn change(&mut self) -> Result<Duration> {
        self.latch.reset(self.tasks.len());
        let start = Instant::now();
        match &mut self.source {
            Source::Service(fixture) => fixture.change().await?,
            Source::Mpsc(senders) => {
                senders.iter().try_for_each(|sender| sender.try_send(self.batch.clone()))?;
            }
        }
        Ok(self.latch.wait().await? - start)
    }
}

/// Starts subscribers of a view, and waits until all are ready.
pub async fn subscribe(
    view: &View,
    subscription: Subscription,
    subscribers: usize,
    latch: &Arc<CountdownLatch>,
) -> Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    latch.reset(subscribers);
    for _ in 0..subscribers {
        let (mut view, latch) = (view.clone(), latch.clone());
        if subscription == Subscription::Updates {
            tasks.spawn(async move {
                let mut updates = view.updates();
                drop(view);
                while let Some(update) = updates.next().await {
                    if !matches!(update, Update::Status(_)) {
                        latch.count_down(); // the first update is the current state
                    }
                }
            });
        } else {
            tasks.spawn(async move {
                latch.count_down();
                while view.changed().await.is_ok() {
                    latch.count_down();
                }
            });
        }
    }
    latch.wait().await?;
    Ok(tasks)
}
