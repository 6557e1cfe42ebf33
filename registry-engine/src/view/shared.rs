//! The table of open views, and the shared part of the handles of one view.

use super::broadcast::Broadcaster;
use super::report::Refusal;
use registry_core::ServiceName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// The views that a discovery has open.
#[derive(Debug, Default)]
pub(crate) struct OpenViews(Mutex<Table>);

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) views: HashMap<ServiceName, Weak<SharedView>>,
}

impl OpenViews {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shared part of all handles of one view. Dropping it ends the watcher task.
#[derive(Debug)]
pub(crate) struct SharedView {
    pub(crate) service: ServiceName,
    pub(crate) broadcaster: Arc<Broadcaster>,
    pub(crate) task: AbortHandle,
    pub(crate) open: Weak<OpenViews>,
    pub(crate) refusals: mpsc::Sender<Refusal>,
}

impl Drop for SharedView {
    fn drop(&mut self) {
        self.task.abort();
        let Some(open) = self.open.upgrade() else { return };
        let mut table = open.lock();
        // A new view of the service may have been opened after the last handle of this one was dropped.
        if table.views.get(&self.service).is_some_and(|shared| shared.strong_count() == 0) {
            table.views.remove(&self.service);
        }
    }
}
