//! A store's watch, carried over a connection with faults.

use super::link::{Link, Place, Weather};
use futures_util::{StreamExt, stream};
use registry_core::{Batch, Cursor, Result, WATCH_CAPACITY, Watch};
use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};

/// What `inner` says after `after`, as it arrives over `link`.
pub(super) fn carry(link: &Arc<Link>, inner: Watch, after: &Cursor) -> Result<Watch> {
    let carried = Carried {
        place: Place::open(link)?,
        inner: Some(inner),
        on_its_way: VecDeque::new(),
        handed_on: None,
    };
    let items = stream::unfold(carried, |mut carried| async move {
        let item = carried.next().await?;
        Some((item, carried))
    });
    Ok(Watch::new(after.clone(), items))
}

struct Carried {
    place: Place,
    /// The store's watch, until it has ended.
    inner: Option<Watch>,
    /// What the store said and the reader does not have yet.
    on_its_way: VecDeque<Parcel>,
    /// When the last item was handed on.
    handed_on: Option<Instant>,
}

struct Parcel {
    item: Result<Batch>,
    arrival: Instant,
    held_back: bool,
}

impl Carried {
    async fn next(&mut self) -> Option<Result<Batch>> {
        loop {
            let weather = match self.place.look() {
                Ok(weather) => weather,
                Err(lost) => return Some(Err(lost)),
            };
            if weather.silence {
                self.place.turned().await;
                continue;
            }
            let due = self.due(&weather);
            if due.is_some_and(|due| due <= Instant::now()) {
                return self.hand_on();
            }
            if due.is_none() && self.inner.is_none() {
                return None;
            }
            if let (Some(_), Some(first)) = (due, self.on_its_way.front_mut()) {
                first.held_back = true;
            }
            let room = self.on_its_way.len() < room(&weather);
            let Self { place, inner, .. } = self;
            tokio::select! {
                biased;
                () = place.turned() => {}
                item = next(inner), if room => self.take(item, &weather),
                () = wait(due) => {}
            }
        }
    }

    /// When to hand on the next item, if there is one.
    fn due(&self, weather: &Weather) -> Option<Instant> {
        let arrival = self.on_its_way.front()?.arrival;
        let paced = self.handed_on.zip(weather.slow).map(|(last, delay)| last + delay);
        Some(paced.map_or(arrival, |paced| paced.max(arrival)))
    }

    fn hand_on(&mut self) -> Option<Result<Batch>> {
        let Parcel { item, held_back, .. } = self.on_its_way.pop_front()?;
        self.handed_on = Some(Instant::now());
        self.place.link().hit(|hits| hits.items_delayed += u64::from(held_back));
        Some(item)
    }

    /// Sends what the store said on its way. What is quicker waits for what is before it.
    fn take(&mut self, item: Option<Result<Batch>>, weather: &Weather) {
        let Some(item) = item else {
            self.inner = None;
            return;
        };
        let one_way = weather.latency.map(|range| self.place.link().one_way(range));
        let arrival = Instant::now() + one_way.unwrap_or_default();
        self.on_its_way.push_back(Parcel { item, arrival, held_back: false });
    }
}

/// How many items may be on their way at once. A slow reader takes one at a time, so that the rest
/// waits in the store and lags there.
fn room(weather: &Weather) -> usize {
    if weather.slow.is_some() { 1 } else { WATCH_CAPACITY }
}

async fn next(inner: &mut Option<Watch>) -> Option<Result<Batch>> {
    match inner {
        Some(watch) => watch.next().await,
        None => pending().await, // what is on its way still is
    }
}

async fn wait(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
