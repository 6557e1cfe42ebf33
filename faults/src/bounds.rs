//! The bounds that the documentation promises: see `docs/engine.md`.

use crate::topology::Store;
use std::time::Duration;

/// Whether registrations watch their own records. Until they do, a record that somebody deleted is found missing by
/// a renewal only.
pub(crate) const WATCHES_OWN_RECORD: bool = true;

/// What a bound allows for the answer itself: a connection, a request, and the notice of it.
pub(crate) const ANSWER: Duration = Duration::from_millis(150);

/// Returns how soon a living owner is registered after the store answers on a new connection.
pub(crate) fn return_bound(ttl: Duration) -> Duration {
    (ttl / 3).clamp(Duration::from_secs(1), Duration::from_secs(5))
}

/// Returns how soon a view is stale on a link that is silent.
pub(crate) fn stale_bound(ttl: Duration) -> Duration {
    ttl * 2 / 3
}

/// Returns how soon a record is back that somebody deleted by hand.
///
/// On Redis that happens beside the log, so it is found by the next renewal: a third of the ttl, a tenth more or
/// less. On etcd without own-record watches, a renewal looks for the record once a ttl has passed since it was seen.
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
    fn bounds_are_those_of_the_documentation() {
        let bounds = |secs| return_bound(Duration::from_secs(secs)).as_millis();
        assert_eq!([2, 6, 10, 60].map(bounds), [1_000, 2_000, 3_333, 5_000]);
        assert_eq!(stale_bound(Duration::from_secs(3)), Duration::from_secs(2));
    }
}
