//! Following a service: loads, watches and recoveries as one stream of events.

use crate::Backoff;
use crate::call::{call, contained, within};
use futures_util::{Stream, StreamExt, stream};
use registry_core::{
    Batch, Cursor, Error, ErrorKind, Lineage, Registry, Result, ServiceName, Snapshot, Watch,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// An event of a service that is [followed](follow).
#[derive(Debug)]
#[allow(clippy::exhaustive_enums)] // a consumer that ignored a variant would diverge
pub enum FollowEvent {
    /// A snapshot that replaces the whole state: the service has exactly these instances.
    Reset(Snapshot),
    /// A watch was opened on a store of this lineage. The changes from before its opening follow.
    Opened(Lineage),
    /// All changes from before the opening of the watch were delivered: the state is current until the next event.
    Live,
    /// The changes of the next revision.
    Batch(Arc<Batch>),
    /// A load or a watch failed, so changes may be missing. The stream retries: it resumes from the last cursor, or
    /// sends a reset if the store refuses that cursor (such as with `Compacted` or `Diverged`).
    Trouble(Error),
}

/// Options for [`follow`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FollowOptions {
    /// The backoff between attempts if the store answers with an error.
    pub backoff: Backoff,
    /// The backoff between attempts while the store is `Unavailable`.
    pub outage_backoff: Backoff,
    /// The timeout for loading the service and for opening a watch. The default is 10 s.
    pub timeout: Duration,
}

impl FollowOptions {
    /// Sets the backoff between attempts if the store answers with an error.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the backoff between attempts while the store is `Unavailable`.
    #[must_use]
    pub fn with_outage_backoff(mut self, backoff: Backoff) -> Self {
        self.outage_backoff = backoff;
        self
    }

    /// Sets the timeout for loading the service and for opening a watch.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Default for FollowOptions {
    fn default() -> Self {
        let backoff = Backoff::default();
        Self { backoff, outage_backoff: backoff, timeout: Duration::from_secs(10) }
    }
}

/// The state of the follow loop.
enum State {
    /// The service must be loaded.
    Load,
    /// A watch must be opened from the cursor.
    Watch(Cursor),
    /// A watch has been open since this time, and delivers its backlog.
    Watching(Watch, Instant),
    /// A watch has been open since this time, and has delivered its backlog.
    Live(Watch, Instant),
}

/// Returns a stream of all events of `service`. Views are built on it; use it directly to receive every event.
///
/// With a cursor, the stream continues after it. Without one, or after the store has refused it, a reset precedes the
/// first batch. Each failed attempt is an event too. The stream never ends.
pub fn follow(
    registry: Arc<dyn Registry>,
    service: ServiceName,
    after: Option<Cursor>,
    options: FollowOptions,
) -> impl Stream<Item = FollowEvent> + Send {
    let follower =
        Follower { registry, service, options, failures: 0, delay: Duration::ZERO, reset_at: None };
    let start = after.map_or(State::Load, State::Watch);
    stream::unfold((follower, start), |(mut follower, state)| async move {
        let (event, state) = follower.next(state).await;
        Some((event, (follower, state)))
    })
}

struct Follower {
    registry: Arc<dyn Registry>,
    service: ServiceName,
    options: FollowOptions,
    /// The number of failed attempts since a watch last stayed open for longer than the backoff.
    failures: u32,
    /// The delay before the next attempt.
    delay: Duration,
    /// When the store last refused the cursor.
    reset_at: Option<Instant>,
}

impl Follower {
    async fn next(&mut self, state: State) -> (FollowEvent, State) {
        if !self.delay.is_zero() {
            sleep(std::mem::take(&mut self.delay)).await;
        }
        match state {
            State::Load => match self.load().await {
                Ok(snapshot) => {
                    let watch = State::Watch(snapshot.cursor().clone());
                    (FollowEvent::Reset(snapshot), watch)
                }
                Err(error) => self.failed(error, State::Load),
            },
            State::Watch(cursor) => match self.watch(&cursor).await {
                Ok(watch) => {
                    let opened = FollowEvent::Opened(watch.lineage().clone());
                    (opened, State::Watching(watch, Instant::now()))
                }
                Err(error) => self.failed(error, State::Watch(cursor)),
            },
            State::Watching(watch, since) if watch.is_caught_up() => {
                (FollowEvent::Live, State::Live(watch, since))
            }
            State::Watching(watch, since) => self.batch(watch, since, State::Watching).await,
            State::Live(watch, since) => self.batch(watch, since, State::Live).await,
        }
    }

    /// Waits for the next batch of a watch that has been open since `since`. The next state is `more`.
    async fn batch(
        &mut self,
        mut watch: Watch,
        since: Instant,
        more: fn(Watch, Instant) -> State,
    ) -> (FollowEvent, State) {
        let next = async { watch.next().await.unwrap_or_else(|| Err(ended())) };
        match contained("watch", next).await {
            Ok(batch) => (FollowEvent::Batch(batch), more(watch, since)),
            Err(error) => {
                // A watch that ends soon after its opening increases the backoff. One that was open for longer than the
                // backoff resets it.
                let backoff = self.backoff(error.kind());
                if since.elapsed() > backoff.ceiling(self.failures) {
                    self.failures = 0;
                }
                let resume = State::Watch(watch.cursor().clone());
                self.failed(error, resume)
            }
        }
    }

    /// Decides how to continue after `error`: resume, or load again if the cursor was refused.
    fn failed(&mut self, error: Error, resume: State) -> (FollowEvent, State) {
        let next = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Denied => resume,
            ErrorKind::Compacted | ErrorKind::Diverged if !self.resets_often() => {
                // The store works and only lost history, so the load need not wait.
                return (FollowEvent::Trouble(error), State::Load);
            }
            _ => State::Load,
        };
        self.failures = self.failures.saturating_add(1);
        self.delay = self.backoff(error.kind()).delay(self.failures);
        (FollowEvent::Trouble(error), next)
    }

    fn backoff(&self, failure: ErrorKind) -> Backoff {
        match failure {
            ErrorKind::Unavailable => self.options.outage_backoff,
            _ => self.options.backoff,
        }
    }

    /// Returns whether the cursor was also refused a short time ago. This prevents a hot loop of loads on a store that
    /// compacts faster than the view reads.
    fn resets_often(&mut self) -> bool {
        let now = Instant::now();
        let last = self.reset_at.replace(now);
        last.is_some_and(|last| now - last < self.options.backoff.max())
    }

    async fn load(&self) -> Result<Snapshot> {
        let limit = self.options.timeout;
        let load = async { self.registry.load(&self.service, &within(limit)).await };
        call("load", limit, load).await
    }

    async fn watch(&self, cursor: &Cursor) -> Result<Watch> {
        let limit = self.options.timeout;
        let watch = async { self.registry.watch(&self.service, cursor, &within(limit)).await };
        call("watch", limit, watch).await
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Unavailable, "the watch ended without an error")
}
