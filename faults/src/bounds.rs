//! The bounds that `docs/engine.md` promises.

use crate::topology::Store;
use std::time::Duration;

/// Whether registrations watch their own records. Without such a watch, only a renewal detects a deleted record.
pub(crate) const WATCHES_OWN_RECORD: bool = true;

/// The tolerance of a bound: the time for a connection, a request, and the detection of its effect.
pub(crate) const ANSWER: Duration = Duration::from_millis(150);

/// Returns how soon a live owner is registered after the store accepts new connections.
pub(crate) fn return_bound(ttl: Duration) -> Duration {
    (ttl / 3).clamp(Duration::from_secs(1), Duration::from_secs(5))
}

/// Returns how soon a view on a silent link is stale.
pub(crate) fn stale_bound(ttl: Duration) -> Duration {
    ttl * 2 / 3
}

/// Returns how soon a record that was deleted by hand is registered again.
///
/// On Redis such a deletion is not in the log, so the next renewal detects it: after a third of the ttl, plus or minus
/// 10 %. On etcd without own-record watches, a renewal checks the record once a ttl has passed since the last check.
pub(crate) fn repair_bound(store: Store, ttl: Duration) -> Duration {
    let renewal = ttl * 11 / 30;
    match store {
        Store::Redis => renewal,
        Store::Etcd if WATCHES_OWN_RECORD => Duration::from_millis(50),
        Store::Etcd => ttl + renewal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_those_of_the_documentation() {
        let bounds = |secs| return_bound(Duration::from_secs(secs)).as_millis();
        assert_eq!([2, 6, 10, 60].map(bounds), [1_000, 2_000, 3_333, 5_000]);
        assert_eq!(stale_bound(Duration::from_secs(3)), Duration::from_secs(2));
    }
}
