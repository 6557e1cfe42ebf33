//! Load, watch, and recover: what a store says of one service, over every fault, as one stream.

use super::Backoff;
use futures_util::{Stream, StreamExt, stream};
use registry_core::{
    Batch, Cursor, Error, ErrorKind, Registry, Result, ServiceName, Snapshot, Watch,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// What was learnt of a service that is [followed](follow).
#[derive(Debug)]
#[allow(clippy::exhaustive_enums)] // to skip a kind is to diverge
pub enum Step {
    /// Forget all that came before: this is the service now.
    Reset(Snapshot),
    /// The watch stands: what was said last is true, until the next step.
    Live,
    /// One revision further.
    Batch(Batch),
    /// Nothing more is known for now. It is being mended: after `Compacted` or `Diverged`, and whatever
    /// else a cursor was refused with, by a reset.
    Trouble(Error),
}

/// How to [`follow`].
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long to wait between tries while the store does not answer.
    pub backoff: Backoff,
    /// How long the store may take for a load, or to open a watch.
    pub timeout: Duration,
}

/// Where the loop stands. Each state holds just what the next step needs.
enum State {
    /// Nothing is known: load.
    Start,
    /// All up to the cursor is known: watch from there.
    Known(Cursor),
    /// The watch stands since then.
    Watching(Watch, Instant),
}

/// Follows `service` for ever: what a view is made of, for those who want every step of it.
///
/// After a cursor the stream goes on with what came after it; without one, or where it is of no more
/// use, it begins with a reset. It has no end.
pub fn follow(
    registry: Arc<dyn Registry>,
    service: ServiceName,
    after: Option<Cursor>,
    pace: Pace,
) -> impl Stream<Item = Step> + Send {
    let follow =
        Follow { registry, service, pace, failures: 0, delay: Duration::ZERO, restarted: None };
    let start = after.map_or(State::Start, State::Known);
    stream::unfold((follow, start), |(mut follow, state)| async move {
        let (step, state) = follow.step(state).await;
        Some((step, (follow, state)))
    })
}

struct Follow {
    registry: Arc<dyn Registry>,
    service: ServiceName,
    pace: Pace,
    /// How many steps in a row failed, with no watch that stood in between.
    failures: u32,
    /// How long to wait before the next step.
    delay: Duration,
    /// When the cursor was last of no more use.
    restarted: Option<Instant>,
}

impl Follow {
    async fn step(&mut self, state: State) -> (Step, State) {
        if !self.delay.is_zero() {
            sleep(std::mem::take(&mut self.delay)).await;
        }
        match state {
            State::Start => match self.load().await {
                Ok(snapshot) => {
                    let known = State::Known(snapshot.cursor().clone());
                    (Step::Reset(snapshot), known)
                }
                Err(error) => self.failed(error, State::Start),
            },
            State::Known(cursor) => match self.watch(&cursor).await {
                Ok(watch) => (Step::Live, State::Watching(watch, Instant::now())),
                Err(error) => self.failed(error, State::Known(cursor)),
            },
            State::Watching(mut watch, since) => {
                let item = watch.next().await;
                match item.unwrap_or_else(|| Err(bare_end())) {
                    Ok(batch) => (Step::Batch(batch), State::Watching(watch, since)),
                    Err(error) => {
                        // A watch that breaks at once, whatever it said before, is a failure like any
                        // other; one that stood for longer than it may take to open it was none.
                        if since.elapsed() > self.pace.backoff.ceiling(self.failures) {
                            self.failures = 0;
                        }
                        let known = State::Known(watch.cursor().clone());
                        self.failed(error, known)
                    }
                }
            }
        }
    }

    /// What to do about `error`: resume, or begin anew where the cursor is of no more use.
    fn failed(&mut self, error: Error, resume: State) -> (Step, State) {
        let next = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Denied => resume,
            ErrorKind::Compacted | ErrorKind::Diverged if !self.restarts_often() => {
                // Nothing is wrong with a store that only forgot: it is asked at once.
                return (Step::Trouble(error), State::Start);
            }
            _ => State::Start,
        };
        self.failures = self.failures.saturating_add(1);
        self.delay = self.pace.backoff.delay(self.failures);
        (Step::Trouble(error), next)
    }

    /// Whether it was only just that the cursor was of no more use. A store that forgets faster than
    /// it is read must not be loaded in a hot loop.
    fn restarts_often(&mut self) -> bool {
        let now = Instant::now();
        let last = self.restarted.replace(now);
        last.is_some_and(|last| now - last < self.pace.backoff.max())
    }

    async fn load(&self) -> Result<Snapshot> {
        let load = self.registry.load(&self.service);
        timeout(self.pace.timeout, load).await.unwrap_or_else(|_| Err(self.late("load")))
    }

    async fn watch(&self, cursor: &Cursor) -> Result<Watch> {
        let watch = self.registry.watch(&self.service, cursor);
        timeout(self.pace.timeout, watch).await.unwrap_or_else(|_| Err(self.late("watch")))
    }

    fn late(&self, call: &str) -> Error {
        let limit = self.pace.timeout;
        let message = format!("the store did not answer, call=`{call}`, timeout=`{limit:?}`");
        Error::new(ErrorKind::Unavailable, message)
    }
}

fn bare_end() -> Error {
    Error::new(ErrorKind::Unavailable, "the watch ended without saying why")
}
