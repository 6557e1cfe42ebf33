//! The bound that registrations and views derive their patience from.

use crate::Backoff;
use std::time::Duration;

/// Returns how soon a living owner is registered again once the store answers on a new connection: a third
/// of the ttl, at least 1 s and at most 5 s.
///
/// It covers, in the worst case, a request that is in flight on a dead connection ([`request_limit`]) and the
/// backoff after it ([`retry_backoff`]).
pub(crate) fn return_bound(ttl: Duration) -> Duration {
    (ttl / 3).clamp(Duration::from_secs(1), Duration::from_secs(5))
}

/// Returns how long a request that registers an instance may take.
pub(crate) fn request_limit(ttl: Duration) -> Duration {
    return_bound(ttl) * 4 / 5
}

/// Returns `backoff` with waits that fit into the [`return_bound`]. Each owner on this runtime that has to retry makes
/// them a millisecond longer, so that a process sends some 2,000 requests a second, however many owners it has, up to the longest wait of `backoff`.
pub(crate) fn retry_backoff(backoff: Backoff, ttl: Duration, retrying: u32) -> Backoff {
    backoff.capped((return_bound(ttl) / 5).max(Duration::from_millis(retrying.into())))
}

/// Returns the time over which registrations spread that come back at once, `retrying` of them so far: a hundred need
/// none, and each other one makes it a millisecond longer.
pub(crate) fn spread(retrying: u32) -> Duration {
    Duration::from_millis(retrying.saturating_sub(100).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_the_backoff_after_it_fit_into_the_return_bound() {
        for (ttl, bound) in [(1, 1_000), (3, 1_000), (6, 2_000), (15, 5_000), (3_600, 5_000)] {
            let ttl = Duration::from_secs(ttl);
            assert_eq!(return_bound(ttl), Duration::from_millis(bound));
            let longest = retry_backoff(Backoff::default(), ttl, 0).max();
            assert!(request_limit(ttl) + longest <= return_bound(ttl));
        }
    }

    #[test]
    fn many_owners_retry_less_often_and_not_beyond_the_backoff_of_the_options() {
        let of = |retrying| retry_backoff(Backoff::default(), Duration::from_secs(3), retrying);
        assert_eq!(of(1_000).max(), Duration::from_secs(1));
        assert_eq!(of(100_000), Backoff::default());
    }
}
