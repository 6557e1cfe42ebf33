//! When a shard is checked: whether its history goes on, and whether leases have expired.

use crate::error::StoreError;
use std::time::Duration;
use tokio::time::Instant;

/// After what time a shard is checked again, unless the silence timeout is short. A read does not notice a log that
/// was wiped or trimmed: it blocks.
const MAX_INTERVAL: Duration = Duration::from_secs(5);

/// How many checks in a row follow each other at once, while each deletes as many expired leases as it may.
const MAX_IN_A_ROW: u32 = 100;

/// The pause after those, so that no server keeps this process busy.
const PAUSE: Duration = Duration::from_millis(10);

/// The checks of a shard.
#[derive(Debug)]
pub(super) struct Checks {
    /// When to check next: no lease expires before that.
    next: Instant,
    is_checking: bool,
    in_a_row: u32,
    /// When the last check began that the shard answered, and why one failed since.
    answered: Instant,
    failure: Option<StoreError>,
    /// When the last bytes came in, as far as is known, on the connection on which a check waits.
    received: Instant,
    /// How long the shard may answer none.
    silence_timeout: Duration,
}

impl Checks {
    /// Begins with a shard that was read just now.
    pub(super) fn new(silence_timeout: Duration) -> Self {
        let now = Instant::now();
        let next = now + interval(silence_timeout);
        let (is_checking, in_a_row, failure) = (false, 0, None);
        let (answered, received) = (now, now);
        Self { next, is_checking, in_a_row, answered, failure, received, silence_timeout }
    }

    /// Returns when to check next, unless a check is in progress. A check that begins a row of them is put off by
    /// `jitter`.
    pub(super) fn next(&self, jitter: Duration) -> Option<Instant> {
        let jitter = if self.in_a_row > 0 { Duration::ZERO } else { jitter };
        if self.is_checking { None } else { Some(self.next + jitter) }
    }

    /// Makes the next check happen no later than `instant`.
    pub(super) fn check_by(&mut self, instant: Instant) {
        self.next = self.next.min(instant);
    }

    /// Notes that a check begins. Its reply covers all present leases, so that from now on only new ones
    /// make the next check earlier.
    pub(super) fn begin(&mut self) {
        self.is_checking = true;
        self.next = Instant::now() + interval(self.silence_timeout);
    }

    /// Notes the end of a check that began at `began`. After it, the next lease expires in `due`.
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

    /// Notes when the last bytes came in on the connection for checks. While a check waits there, they are parts of the
    /// replies before its own. Its deadline bounds the wait, and one that has failed shows that the shard answers none.
    pub(super) fn note_bytes(&mut self, received: Instant) {
        if self.is_checking && self.failure.is_none() {
            self.received = received;
        }
    }

    /// Returns when the shard has answered no check for as long as it may.
    pub(super) fn silent_at(&self) -> Instant {
        self.answered.max(self.received) + self.silence_timeout
    }

    pub(super) fn silence_timeout(&self) -> Duration {
        self.silence_timeout
    }

    /// Returns why a shard that is silent answers none.
    pub(super) fn failure(&self) -> StoreError {
        self.failure.clone().unwrap_or(StoreError::Deadline(self.silence_timeout))
    }
}

/// Two checks in a row are due before a shard counts as silent, so that one call that fails is no silence.
fn interval(silence_timeout: Duration) -> Duration {
    (silence_timeout / 2).min(MAX_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(8);
    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn check_is_due_with_the_first_lease_and_considers_leases_added_during_a_check() {
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

    /// A reply that took longer than the silence timeout on a slow link ended the watches, though it arrived.
    #[tokio::test(start_paused = true)]
    async fn shard_is_not_silent_while_bytes_arrive_and_its_check_waits() {
        let start = Instant::now();
        let mut checks = Checks::new(SILENCE);
        tokio::time::advance(SECOND).await;
        checks.note_bytes(Instant::now());
        assert_eq!(checks.silent_at(), start + SILENCE, "no check waits");
        checks.begin();
        tokio::time::advance(6 * SECOND).await;
        checks.note_bytes(Instant::now());
        assert_eq!(checks.silent_at(), start + 7 * SECOND + SILENCE);
        checks.end(start + SECOND, Ok(None));
        assert_eq!(checks.silent_at(), start + 7 * SECOND + SILENCE);
        checks.begin();
        tokio::time::advance(SECOND).await;
        checks.note_bytes(Instant::now());
        checks.end(start + 7 * SECOND, Err(&StoreError::FeedEnded));
        assert_eq!(checks.silent_at(), start + SECOND + SILENCE, "the last answered check");
        checks.begin();
        checks.note_bytes(Instant::now());
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
