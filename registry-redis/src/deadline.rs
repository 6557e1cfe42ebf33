//! Deadlines on calls.

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
