//! The return bound, and the timeouts and backoffs of registrations and views that follow from it.

use crate::Backoff;
use std::time::Duration;

/// Returns the return bound: once the store answers on new connections, every live owner is registered again within
/// this time. It is a third of the ttl, at least 1 s and at most 5 s.
///
/// In the worst case it covers a request in flight on a dead connection ([`request_limit`]) and the backoff after it
/// ([`retry_backoff`]).
pub(crate) fn return_bound(ttl: Duration) -> Duration {
    (ttl / 3).clamp(Duration::from_secs(1), Duration::from_secs(5))
}

/// Returns the timeout of a request that registers an instance.
pub(crate) fn request_limit(ttl: Duration) -> Duration {
    return_bound(ttl) * 4 / 5
}

/// Returns `backoff` with its longest delay capped so that it fits into the [`return_bound`].
///
/// The cap is at least 1 ms for each registration of this runtime that retries. A process with many registrations thus
/// sends about 2,000 requests per second, until the cap reaches the longest delay of `backoff`.
pub(crate) fn retry_backoff(backoff: Backoff, ttl: Duration, retrying: u32) -> Backoff {
    backoff.capped((return_bound(ttl) / 5).max(Duration::from_millis(retrying.into())))
}

/// Returns the time over which registrations that are lost at the same time spread their requests: 1 ms for each of
/// `retrying` registrations beyond the first hundred.
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
    fn the_backoff_grows_with_the_number_of_retrying_registrations_up_to_that_of_the_options() {
        let of = |retrying| retry_backoff(Backoff::default(), Duration::from_secs(3), retrying);
        assert_eq!(of(1_000).max(), Duration::from_secs(1));
        assert_eq!(of(100_000), Backoff::default());
    }
}
