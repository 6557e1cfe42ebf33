//! Deadlines.

use std::time::Duration;
use tokio::time::Instant;

/// Returns the moment `duration` after `begun`, or one far in the future if that cannot be
/// represented.
pub(crate) fn after(begun: Instant, duration: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    begun.checked_add(duration).unwrap_or_else(|| begun + LONG)
}
