//! Options of a single call.

use crate::{Error, ErrorKind, Result};
use std::time::Duration;
use tokio::time::timeout;

/// Options of one call to a [`Registry`](crate::Registry). The default is what the laws hold for.
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
    /// How long the caller waits for the answer. A call that is not answered by then fails `Unavailable`.
    ///
    /// A store has timeouts of its own; the shorter one counts. Only the caller's patience has run out
    /// here, so a store does not take the server for dead. `None` leaves it to the store. For a watch it
    /// limits the opening only.
    pub timeout: Option<Duration>,
    /// How current the answer to a load must be.
    pub consistency: Consistency,
    /// Whether a renewal reads the record that it keeps alive.
    pub presence: Presence,
}

impl CallOptions {
    /// The default options, for a call that needs a reference to them.
    pub const DEFAULT: Self =
        Self { timeout: None, consistency: Consistency::Strong, presence: Presence::Check };

    /// Sets how long the caller waits for the answer.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how current the answer to a load must be.
    #[must_use]
    pub fn with_consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Sets whether a renewal reads the record that it keeps alive.
    #[must_use]
    pub fn with_presence(mut self, presence: Presence) -> Self {
        self.presence = presence;
        self
    }

    /// Waits for `call` until the timeout. For authors of stores, around one that has no deadline of its own.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the timeout passes first. Otherwise those of `call`.
    pub async fn limit<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(limit) = self.timeout else { return call.await };
        timeout(limit, call).await.unwrap_or_else(|_| Err(timed_out(limit)))
    }
}

/// How current the answer to a load must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Consistency {
    /// The answer contains every write that was acknowledged before the call, within one lineage.
    #[default]
    Strong,
    /// The answer may be an older state: etcd answers from the member that is asked, without a quorum. A
    /// store that has no such read answers as for [`Strong`](Self::Strong).
    Stale,
}

/// Whether a renewal reads the record that it keeps alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Presence {
    /// The store checks that the record is the last acknowledged one, as the Lost write law demands.
    #[default]
    Check,
    /// The caller knows that it is, from an open [`watch_record`](crate::Registry::watch_record). A store
    /// for which the check costs a request of its own leaves it out.
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
    async fn a_call_ends_at_the_timeout_of_its_caller() {
        let options = CallOptions::default().with_timeout(Duration::from_secs(2));
        let error = options.limit(pending::<Result<()>>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("2s"), "{error}");
        assert_eq!(options.limit(async { Ok(1) }).await.unwrap(), 1);
        assert_eq!(CallOptions::DEFAULT, CallOptions::default());
        assert_eq!(CallOptions::DEFAULT.limit(async { Ok(2) }).await.unwrap(), 2);
    }
}
