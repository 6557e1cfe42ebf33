//! The cache slot of a session, shared by concurrent callers.

use super::session::Session;
use crate::deadline::SHARING_TIMEOUT;
use crate::error::StoreError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::timeout;

#[derive(Default)]
pub(super) struct SessionSlot {
    session: Mutex<Option<Arc<Session>>>,
    /// The lock is held while a session is being made.
    connecting: tokio::sync::Mutex<()>,
}

impl SessionSlot {
    /// Returns the cached session, unless it is broken.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.lock().clone().filter(|session| !session.is_broken())
    }

    /// Returns whether there is a session, or one is being made.
    pub(super) fn is_in_use(&self) -> bool {
        self.session().is_some() || self.connecting.try_lock().is_err()
    }

    /// Returns the cached session, or else the one that `connect` makes.
    pub(super) async fn session_or(
        &self,
        connect: impl Future<Output = Result<Session, StoreError>>,
    ) -> Result<Arc<Session>, StoreError> {
        let _guard = timeout(SHARING_TIMEOUT, self.connecting.lock()).await.ok();
        if let Some(session) = self.session() {
            return Ok(session);
        }
        let made = Arc::new(connect.await?);
        let mut session = self.lock();
        match &*session {
            Some(made_meanwhile) if !made_meanwhile.is_broken() => Ok(made_meanwhile.clone()),
            _ => {
                *session = Some(made.clone());
                Ok(made)
            }
        }
    }

    /// The lock is held for an assignment that cannot panic.
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
