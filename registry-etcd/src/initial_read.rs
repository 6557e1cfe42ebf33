//! The read that a registry makes before its first request, to check that etcd answers.

use crate::client::Client;
use registry_core::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long a call waits for another call's attempt before it makes its own. The other attempt may hang on a
/// dead connection, or its future may no longer be polled. A registration may take as little as 0.8 s, and
/// enough of it must remain to detect a silent connection.
const SHARING_TIMEOUT: Duration = Duration::from_millis(250);

/// The initial read. Its outcome is shared by all clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct InitialRead(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    has_succeeded: AtomicBool,
    failures: AtomicU64,
    /// The error of the last attempt. The lock is held during an attempt, so that concurrent calls share it.
    last_failure: Mutex<Option<Error>>,
}

impl InitialRead {
    #[inline]
    pub(crate) fn has_succeeded(&self) -> bool {
        self.0.has_succeeded.load(Ordering::Acquire)
    }

    /// Checks that `client` may read `key`, unless that was checked before. Tries at most `members` members in turn.
    ///
    /// A call that waits for another call's attempt returns its outcome. If that other call is dropped, the
    /// next one makes its own attempt.
    pub(crate) async fn ensure(&self, client: &Client, key: &str, members: usize) -> Result<()> {
        let Inner { has_succeeded, failures, last_failure } = &*self.0;
        let failed_before = failures.load(Ordering::Relaxed);
        let mut last_failure = timeout(SHARING_TIMEOUT, last_failure.lock()).await.ok();
        if self.has_succeeded() {
            return Ok(());
        }
        if failures.load(Ordering::Relaxed) != failed_before
            && let Some(error) = last_failure.as_deref().and_then(Option::as_ref)
        {
            return Err(error.clone());
        }
        let outcome = client.check(key, members).await;
        match &outcome {
            Ok(()) => has_succeeded.store(true, Ordering::Release),
            Err(error) => {
                if let Some(last_failure) = &mut last_failure {
                    **last_failure = Some(error.clone());
                    failures.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        outcome
    }
}
