//! Ttls in etcd's unit, whole seconds.

use std::time::Duration;

/// The shortest ttl that etcd grants with its default election timeout: one and a half timeouts, in whole seconds.
pub(crate) const MIN_GRANTED_TTL: Duration = Duration::from_secs(2);

/// Returns `ttl` in seconds, rounded up, so that a lease is never shorter than requested.
pub(crate) fn whole_seconds(ttl: Duration) -> i64 {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
