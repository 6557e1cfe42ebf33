//! A watch over a connection with faults.

use super::connection::{Conditions, Connection, WatchGuard};
use futures_util::{StreamExt, stream};
use registry_core::{Batch, Error, Result, WATCH_CAPACITY, Watch};
use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Wraps the watch `inner` so that it is delivered over `connection`. It ends after a silence of `silence_timeout`.
pub(super) fn faulty_watch(
    connection: &Arc<Connection>,
    inner: Watch,
    silence_timeout: Duration,
) -> Result<Watch> {
    let guard = WatchGuard::open(connection)?;
    Ok(inner.wrap(|inner| {
        let watch = FaultyWatch {
            guard,
            inner: Some(inner),
            in_transit: VecDeque::new(),
            last_delivery: None,
            silence_timeout,
        };
        stream::unfold(watch, |mut watch| async move {
            let item = watch.next().await?;
            Some((item, watch))
        })
    }))
}

struct FaultyWatch {
    guard: WatchGuard,
    /// The store's watch, until it has ended.
    inner: Option<Watch>,
    /// The items that the store has sent but the reader has not received.
    in_transit: VecDeque<InTransit>,
    last_delivery: Option<Instant>,
    silence_timeout: Duration,
}

struct InTransit {
    item: Result<Arc<Batch>>,
    arrival: Instant,
    was_delayed: bool,
}

impl FaultyWatch {
    async fn next(&mut self) -> Option<Result<Arc<Batch>>> {
        loop {
            let conditions = match self.guard.conditions() {
                Ok(conditions) => conditions,
                Err(loss) => return Some(Err(loss)),
            };
            if let Some(since) = conditions.silent_since {
                if timeout_at(since + self.silence_timeout, self.guard.changed()).await.is_err() {
                    self.guard.connection().hit(|hits| hits.watches_ended += 1);
                    return Some(Err(Error::silent(self.silence_timeout)));
                }
                continue;
            }
            let due = self.next_delivery(&conditions);
            if due.is_some_and(|due| due <= Instant::now()) {
                return self.deliver();
            }
            if due.is_none() && self.inner.is_none() {
                return None;
            }
            if let (Some(_), Some(first)) = (due, self.in_transit.front_mut()) {
                first.was_delayed = true;
            }
            let has_capacity = self.in_transit.len() < capacity(&conditions);
            let Self { guard, inner, .. } = self;
            tokio::select! {
                biased;
                () = guard.changed() => {}
                item = next(inner), if has_capacity => self.send(item, &conditions),
                () = sleep_until_due(due) => {}
            }
        }
    }

    /// Returns when to deliver the next item, if there is one.
    fn next_delivery(&self, conditions: &Conditions) -> Option<Instant> {
        let arrival = self.in_transit.front()?.arrival;
        let paced = self.last_delivery.zip(conditions.slow).map(|(last, delay)| last + delay);
        Some(paced.map_or(arrival, |paced| paced.max(arrival)))
    }

    fn deliver(&mut self) -> Option<Result<Arc<Batch>>> {
        let InTransit { item, was_delayed, .. } = self.in_transit.pop_front()?;
        self.last_delivery = Some(Instant::now());
        self.guard.connection().hit(|hits| hits.items_delayed += u64::from(was_delayed));
        Some(item)
    }

    /// Puts an item from the store in transit. Items stay in order.
    fn send(&mut self, item: Option<Result<Arc<Batch>>>, conditions: &Conditions) {
        let Some(item) = item else {
            self.inner = None;
            return;
        };
        let delay = conditions.latency.map(|range| self.guard.connection().draw_delay(range));
        let arrival = Instant::now() + delay.unwrap_or_default();
        self.in_transit.push_back(InTransit { item, arrival, was_delayed: false });
    }
}

/// Returns how many items may be in transit at once. A slow watch takes one at a time, so that the others
/// wait in the store and lag there.
fn capacity(conditions: &Conditions) -> usize {
    if conditions.slow.is_some() { 1 } else { WATCH_CAPACITY }
}

async fn next(inner: &mut Option<Watch>) -> Option<Result<Arc<Batch>>> {
    match inner {
        Some(watch) => watch.next().await,
        None => pending().await, // items in transit still arrive
    }
}

async fn sleep_until_due(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
