//! Options of a single call.

use crate::{Error, ErrorKind, Result};
use std::time::Duration;
use tokio::time::timeout;

/// Options of one call to a [`Registry`](crate::Registry). The laws hold for the default options.
///
/// ```
/// use registry_core::CallOptions;
/// use std::time::Duration;
///
/// let options = CallOptions::default().with_timeout(Duration::from_secs(2));
/// assert_eq!(options.timeout, Some(Duration::from_secs(2)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallOptions {
    /// How long the caller waits for the answer. A call without an answer by then fails with `Unavailable`.
    ///
    /// The store has timeouts of its own; the shorter one applies. `None` leaves the timeout to the store. When the
    /// caller's timeout passes, the store does not conclude that the server is dead. For a watch, the timeout limits
    /// only the opening.
    pub timeout: Option<Duration>,
    /// The consistency of a load.
    pub consistency: Consistency,
    /// Whether a renewal checks the record that it keeps alive.
    pub presence: Presence,
}

impl CallOptions {
    /// The default options as a constant, for calls that need a reference.
    pub const DEFAULT: Self =
        Self { timeout: None, consistency: Consistency::Strong, presence: Presence::Check };

    /// Sets how long the caller waits for the answer.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the consistency of a load.
    #[must_use]
    pub fn with_consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Sets whether a renewal checks the record that it keeps alive.
    #[must_use]
    pub fn with_presence(mut self, presence: Presence) -> Self {
        self.presence = presence;
        self
    }

    /// Awaits `call` up to the timeout. For authors of stores: wrap a call that has no deadline of its own.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the timeout passes first. Otherwise those of `call`.
    pub async fn limit<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(limit) = self.timeout else { return call.await };
        timeout(limit, call).await.unwrap_or_else(|_| Err(timed_out(limit)))
    }
}

/// The consistency of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Consistency {
    /// Within one lineage, the answer contains every write that was acknowledged before the call.
    #[default]
    Strong,
    /// The answer may be an older state: an etcd member answers without a quorum. A store without such reads answers as
    /// for [`Strong`](Self::Strong).
    Stale,
}

/// Whether a renewal checks the record that it keeps alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Presence {
    /// The store checks that the record is the last acknowledged one, as the law "Lost write" requires.
    #[default]
    Check,
    /// The caller already knows this from an open [`watch_record`](crate::Registry::watch_record). A store skips the
    /// check if it costs a separate request.
    Proven,
}

fn timed_out(limit: Duration) -> Error {
    let message =
        format!("the store did not answer within the caller's timeout, timeout=`{limit:?}`");
    Error::new(ErrorKind::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test(start_paused = true)]
    async fn a_call_fails_at_the_callers_timeout() {
        let options = CallOptions::default().with_timeout(Duration::from_secs(2));
        let error = options.limit(pending::<Result<()>>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("2s"), "{error}");
        assert_eq!(options.limit(async { Ok(1) }).await.unwrap(), 1);
        assert_eq!(CallOptions::DEFAULT, CallOptions::default());
        assert_eq!(CallOptions::DEFAULT.limit(async { Ok(2) }).await.unwrap(), 2);
    }
}
