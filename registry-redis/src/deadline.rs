//! Deadlines on calls, and durations as scripts take them.

use crate::error::StoreError;
use std::time::Duration;
use tokio::time::timeout;

/// Runs `call` for at most `deadline`.
pub(crate) async fn with_deadline<T, E: Into<StoreError>>(
    deadline: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError> {
    match timeout(deadline, call).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_) => Err(StoreError::Deadline(deadline)),
    }
}

/// Converts a ttl to milliseconds, rounded up.
pub(crate) fn millis(ttl: Duration) -> u64 {
    let millis = ttl.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or_else(|_| unreachable!("a ttl is at most a day"))
}
