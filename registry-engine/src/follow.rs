//! Loads, watches and recovers: the changes of one service as one stream, across all faults.

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
#[allow(clippy::exhaustive_enums)] // a consumer that skips a kind diverges
pub enum FollowEvent {
    /// Replaces all that came before: the service has exactly these instances.
    Reset(Snapshot),
    /// A watch is open, on a store of this lineage. What changed before it was opened comes next.
    Opened(Lineage),
    /// All that changed before the watch was opened has come: the state is current until the next event.
    Live,
    /// The changes of the next revision.
    Batch(Arc<Batch>),
    /// The watch or the load failed, and changes may be missing. The stream retries: it resumes from the
    /// last cursor, or sends a reset if the store refuses that cursor (`Compacted`, `Diverged` and others).
    Trouble(Error),
}

/// Options for [`follow`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FollowOptions {
    /// The backoff between attempts, if the store answers with an error.
    pub backoff: Backoff,
    /// The backoff between attempts while the store is `Unavailable`.
    pub outage_backoff: Backoff,
    /// How long the store may take to load the service or to open a watch: 10 s unless set.
    pub timeout: Duration,
}

impl FollowOptions {
    /// Sets the backoff between attempts, if the store answers with an error.
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

    /// Sets how long the store may take to load the service or to open a watch.
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

/// The state of the loop: exactly what the next step needs.
enum State {
    /// Nothing is known: load.
    Load,
    /// Everything up to the cursor is known: watch from there.
    Watch(Cursor),
    /// A watch has been open since then.
    Watching(Watch, Instant),
    /// The same, and its backlog has come.
    Live(Watch, Instant),
}

/// Returns a stream of all events of `service`. A view is built on it; use it directly to see every event.
///
/// With a cursor the stream continues after it. Without one, or if the store refuses the cursor, it begins
/// with a reset. It never ends.
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
    /// How many attempts in a row failed.
    failures: u32,
    /// How long to wait before the next attempt.
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

    /// Waits for the next batch of a watch that has been open `since`. More batches are to come in the state `more`.
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
                // A watch that ends soon after it opened counts as a failure, so that the backoff
                // grows; one that was open for longer than the backoff resets it.
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
                // The store is healthy and only lost history: load at once.
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

    /// Returns whether the cursor was refused a moment ago as well. A store that compacts faster than the
    /// view reads must not be loaded in a hot loop.
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
