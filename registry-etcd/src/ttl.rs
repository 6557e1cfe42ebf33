//! How etcd counts ttls.

use std::time::Duration;

/// The shortest ttl that etcd grants, unless its election timeout is set: one and a half of that, in whole seconds.
pub(crate) const MIN_GRANTED_TTL: Duration = Duration::from_secs(2);

/// etcd counts ttls in seconds; a lease is never shorter than was requested.
pub(crate) fn whole_seconds(ttl: Duration) -> i64 {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
