//! The time that a server has failed to reply, summed over all calls on a connection.
//!
//! A single call whose caller gives up before this store's deadline proves nothing. Several in a row do: if
//! the callers together waited as long as the deadline without receiving a byte, the connection is as broken
//! as after one call that exceeded it.

use crate::connect::Traffic;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Silence {
    traffic: Arc<Traffic>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the last bytes were received, or up to when waits were counted.
    counted: Instant,
    /// How long callers have waited in vain since then. Concurrent waits count once.
    total: Duration,
}

impl Silence {
    pub(super) fn new(traffic: Arc<Traffic>) -> Self {
        let state = State { counted: Instant::now(), total: Duration::ZERO };
        Self { traffic, state: Mutex::new(state) }
    }

    /// Starts a wait for a reply. Dropping it means that the caller gave up.
    pub(super) fn wait(&self) -> Wait<'_> {
        Wait { silence: self, since: Instant::now(), is_over: false }
    }

    pub(super) fn total(&self) -> Duration {
        self.lock().total
    }

    /// Returns what was counted since the last bytes were received. The lock is held for a few assignments
    /// that cannot panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let received = self.traffic.received();
        if received > state.counted {
            *state = State { counted: received, total: Duration::ZERO };
        }
        state
    }
}

pub(super) struct Wait<'a> {
    silence: &'a Silence,
    since: Instant,
    is_over: bool,
}

impl Wait<'_> {
    /// Ends the wait because the server replied or the call failed otherwise.
    pub(super) fn end(mut self) {
        self.is_over = true;
        *self.silence.lock() = State { counted: Instant::now(), total: Duration::ZERO };
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let (now, mut state) = (Instant::now(), self.silence.lock());
            let since = self.since.max(state.counted);
            state.total += now.saturating_duration_since(since);
            state.counted = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn only_waits_without_a_reply_count_and_concurrent_ones_count_once() {
        let traffic = Arc::new(Traffic::new());
        let silence = Silence::new(traffic.clone());
        let waits = [silence.wait(), silence.wait(), silence.wait()];
        tokio::time::advance(SECOND).await;
        drop(waits);
        assert_eq!(silence.total(), SECOND);
        tokio::time::advance(100 * SECOND).await;
        assert_eq!(silence.total(), SECOND, "no caller waits");
        let wait = silence.wait();
        tokio::time::advance(SECOND).await;
        drop(wait);
        assert_eq!(silence.total(), 2 * SECOND);

        let (answered, unanswered) = (silence.wait(), silence.wait());
        tokio::time::advance(SECOND).await;
        answered.end();
        assert_eq!(silence.total(), Duration::ZERO);
        tokio::time::advance(SECOND).await;
        drop(unanswered);
        assert_eq!(silence.total(), SECOND, "the time since the reply");

        let waits = silence.wait();
        tokio::time::advance(SECOND).await;
        traffic.record_received();
        assert_eq!(silence.total(), Duration::ZERO, "part of a reply was received");
        tokio::time::advance(SECOND).await;
        drop(waits);
        assert_eq!(silence.total(), SECOND, "the time since that part");
    }
}
