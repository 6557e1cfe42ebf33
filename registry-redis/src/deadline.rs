//! Deadlines of calls, and the conversion of durations for scripts.

use crate::connect::Traffic;
use crate::error::StoreError;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a call waits for another call that connects or checks before it does so itself. The other call
/// may hang on a dead link for longer than this call may wait.
pub(crate) const SHARING_TIMEOUT: Duration = Duration::from_millis(250);

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

/// How often received data may extend the deadline of a call.
const MAX_EXTENSIONS: u32 = 10;

/// Runs `call` until its connection has received nothing for `deadline`, or for [`MAX_EXTENSIONS`] deadlines at
/// most. Replies arrive in the order of their calls, so any part of a reply shows that the server is alive.
pub(crate) async fn while_receiving<T, E: Into<StoreError>>(
    deadline: Duration,
    traffic: &Traffic,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError> {
    let sent = Instant::now();
    let mut until = sent + deadline;
    let mut call = pin!(call);
    loop {
        if let Ok(outcome) = timeout_at(until, call.as_mut()).await {
            return outcome.map_err(Into::into);
        }
        let put_off = (traffic.received() + deadline).min(sent + deadline * MAX_EXTENSIONS);
        if put_off <= until {
            return Err(StoreError::Deadline(deadline));
        }
        until = put_off;
    }
}

/// Returns a random time below `limit`, so that the processes of a fleet do not act at the same time.
pub(crate) fn random_below(limit: Duration) -> Duration {
    // Without randomness they act at the same time, which costs the server little.
    let fraction = getrandom::u32().map_or(0.0, |bits| f64::from(bits) / f64::from(u32::MAX));
    limit.mul_f64(fraction)
}

/// Converts a ttl to milliseconds, rounded up.
pub(crate) fn millis(ttl: Duration) -> u64 {
    let millis = ttl.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or_else(|_| unreachable!("a ttl is at most a day"))
}
