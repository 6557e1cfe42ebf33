//! The check of etcd that a handle makes once, before its first request.

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

/// Whether etcd has answered a handle or one of its clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct FirstContact(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_made: AtomicBool,
    failures: AtomicU64,
    /// The error of the last attempt. The lock is held during an attempt, so that concurrent calls share it.
    last_failure: Mutex<Option<Error>>,
}

impl FirstContact {
    #[inline]
    pub(crate) fn is_made(&self) -> bool {
        self.0.is_made.load(Ordering::Acquire)
    }

    /// Checks that `client` may read `key`, unless that was checked before. Tries at most `members` members in turn.
    ///
    /// A call that waits for another call's attempt returns its outcome. If that other call is dropped, the
    /// next one makes its own attempt.
    pub(crate) async fn make(&self, client: &Client, key: &str, members: usize) -> Result<()> {
        let Inner { is_made, failures, last_failure } = &*self.0;
        let failed_before = failures.load(Ordering::Relaxed);
        let mut last_failure = timeout(SHARING_TIMEOUT, last_failure.lock()).await.ok();
        if self.is_made() {
            return Ok(());
        }
        if failures.load(Ordering::Relaxed) != failed_before
            && let Some(error) = last_failure.as_deref().and_then(Option::as_ref)
        {
            return Err(error.clone());
        }
        let outcome = client.check(key, members).await;
        match &outcome {
            Ok(()) => is_made.store(true, Ordering::Release),
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
