//! The schedule of a shard's checks, which verify its history and delete expired leases.

use crate::error::StoreError;
use std::time::Duration;
use tokio::time::Instant;

/// The longest interval between checks of a shard. They are needed because a blocking read does not notice
/// that a log was wiped or trimmed.
const MAX_INTERVAL: Duration = Duration::from_secs(5);

/// The limit of checks without a pause, while each deletes as many expired leases as it may.
const MAX_IN_A_ROW: u32 = 100;

/// The pause after those, so that no server can keep this process busy.
const PAUSE: Duration = Duration::from_millis(10);

/// The checks of a shard.
#[derive(Debug)]
pub(super) struct Checks {
    /// When the next check is due. No lease expires earlier.
    next: Instant,
    is_checking: bool,
    in_a_row: u32,
    /// When the last answered check began, and why a check has failed since.
    answered: Instant,
    failure: Option<StoreError>,
    /// When bytes were last received on the connection of a check in flight, as far as known.
    received: Instant,
    /// How long the shard may leave checks unanswered.
    silence_timeout: Duration,
}

impl Checks {
    /// Starts with a shard that was just read.
    pub(super) fn new(silence_timeout: Duration) -> Self {
        let now = Instant::now();
        let next = now + interval(silence_timeout);
        let (is_checking, in_a_row, failure) = (false, 0, None);
        let (answered, received) = (now, now);
        Self { next, is_checking, in_a_row, answered, failure, received, silence_timeout }
    }

    /// Returns when the next check is due, unless one is in flight. The first check of a row is delayed by `jitter`.
    pub(super) fn next(&self, jitter: Duration) -> Option<Instant> {
        let jitter = if self.in_a_row > 0 { Duration::ZERO } else { jitter };
        if self.is_checking { None } else { Some(self.next + jitter) }
    }

    /// Makes the next check happen no later than `instant`.
    pub(super) fn check_by(&mut self, instant: Instant) {
        self.next = self.next.min(instant);
    }

    /// Records the start of a check. Its reply covers all existing leases, so from now on only new leases
    /// make the next check earlier.
    pub(super) fn begin(&mut self) {
        self.is_checking = true;
        self.next = Instant::now() + interval(self.silence_timeout);
    }

    /// Records the end of a check that began at `began`. The next lease expires in `due`.
    pub(super) fn end(&mut self, began: Instant, outcome: Result<Option<Duration>, &StoreError>) {
        self.is_checking = false;
        self.failure = outcome.err().cloned();
        let Ok(due) = outcome else {
            self.received = self.answered;
            return;
        };
        self.answered = began;
        self.in_a_row = if due == Some(Duration::ZERO) { self.in_a_row + 1 } else { 0 };
        if let Some(due) = due {
            let pause = if self.in_a_row < MAX_IN_A_ROW { Duration::ZERO } else { PAUSE };
            self.check_by(Instant::now() + due.max(pause));
        }
    }

    /// Records when bytes were last received on the connection for checks. While a check is in flight, they
    /// belong to earlier replies. The check's deadline bounds the wait, and a failed check shows that the
    /// shard does not answer.
    pub(super) fn record_received(&mut self, received: Instant) {
        if self.is_checking && self.failure.is_none() {
            self.received = received;
        }
    }

    /// Returns when the shard counts as silent, because it has answered no check for the silence timeout.
    pub(super) fn silent_at(&self) -> Instant {
        self.answered.max(self.received) + self.silence_timeout
    }

    pub(super) fn silence_timeout(&self) -> Duration {
        self.silence_timeout
    }

    /// Returns why a silent shard does not answer.
    pub(super) fn failure(&self) -> StoreError {
        self.failure.clone().unwrap_or(StoreError::Deadline(self.silence_timeout))
    }
}

/// Returns the interval between checks. Two are due within the silence timeout, so one failed call is not
/// enough for silence.
fn interval(silence_timeout: Duration) -> Duration {
    (silence_timeout / 2).min(MAX_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(8);
    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn check_is_due_at_the_first_expiry_including_leases_added_during_a_check() {
        let start = Instant::now();
        let mut checks = Checks::new(SILENCE);
        assert_eq!(checks.next(SECOND / 10), Some(start + SILENCE / 2 + SECOND / 10));
        checks.check_by(start + 2 * SECOND);
        checks.check_by(start + 3 * SECOND);
        assert_eq!(checks.next(SECOND / 10), Some(start + 2 * SECOND + SECOND / 10));
        checks.begin();
        assert_eq!(checks.next(SECOND / 10), None);
        checks.check_by(start + SECOND);
        checks.end(start, Ok(Some(4 * SECOND)));
        assert_eq!(checks.next(SECOND / 10), Some(start + SECOND + SECOND / 10));
    }

    #[tokio::test(start_paused = true)]
    async fn checks_without_a_pause_are_bounded() {
        let mut checks = Checks::new(SILENCE);
        let mut end = || {
            checks.begin();
            checks.end(Instant::now(), Ok(Some(Duration::ZERO)));
            checks.next(SECOND / 10).unwrap() - Instant::now()
        };
        for _ in 1..MAX_IN_A_ROW {
            assert_eq!(end(), Duration::ZERO);
        }
        assert_eq!(end(), PAUSE);
        checks.end(Instant::now(), Ok(None));
        checks.end(Instant::now(), Ok(Some(Duration::ZERO)));
        assert_eq!(checks.next(SECOND / 10), Some(Instant::now()));
    }

    /// Regression: a reply that took longer than the silence timeout on a slow link ended the watches, although it
    /// arrived.
    #[tokio::test(start_paused = true)]
    async fn shard_is_not_silent_while_bytes_arrive_during_a_check() {
        let start = Instant::now();
        let mut checks = Checks::new(SILENCE);
        tokio::time::advance(SECOND).await;
        checks.record_received(Instant::now());
        assert_eq!(checks.silent_at(), start + SILENCE, "no check is in flight");
        checks.begin();
        tokio::time::advance(6 * SECOND).await;
        checks.record_received(Instant::now());
        assert_eq!(checks.silent_at(), start + 7 * SECOND + SILENCE);
        checks.end(start + SECOND, Ok(None));
        assert_eq!(checks.silent_at(), start + 7 * SECOND + SILENCE);
        checks.begin();
        tokio::time::advance(SECOND).await;
        checks.record_received(Instant::now());
        checks.end(start + 7 * SECOND, Err(&StoreError::FeedEnded));
        assert_eq!(checks.silent_at(), start + SECOND + SILENCE, "the last answered check");
        checks.begin();
        checks.record_received(Instant::now());
        assert_eq!(checks.silent_at(), start + SECOND + SILENCE, "a check has failed");
    }

    #[tokio::test(start_paused = true)]
    async fn shard_is_silent_without_an_answered_check() {
        let start = Instant::now();
        let mut checks = Checks::new(SILENCE);
        tokio::time::advance(SECOND).await;
        checks.end(Instant::now(), Ok(None));
        assert_eq!(checks.silent_at(), start + SECOND + SILENCE);
        checks.end(Instant::now(), Err(&StoreError::FeedEnded));
        assert_eq!(checks.silent_at(), start + SECOND + SILENCE);
        assert!(matches!(checks.failure(), StoreError::FeedEnded));
    }
}
