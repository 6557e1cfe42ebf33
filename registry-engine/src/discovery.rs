//! The discovery of services: all views of a service share one watch.

use crate::view::shared::{OpenViews, SharedView};
use crate::view::snapshot_file::SnapshotFolder;
use crate::view::watcher::Watcher;
use crate::view::{DiscoveryOptions, View};
use registry_core::DEFAULT_TTL;
use registry_core::{MAX_TTL, MIN_TTL, Registry, ServiceName};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// The maximum number of queued reports about refused connections per view.
const MAX_REFUSALS: usize = 256;

/// A handle that opens views of services. Clones share the views.
#[derive(Clone)]
pub struct Discovery {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Arc<dyn Registry>,
    options: DiscoveryOptions,
    ttl: Duration,
    snapshots: Option<Arc<SnapshotFolder>>,
    open: Arc<OpenViews>,
}

impl Discovery {
    /// Returns a discovery for the services in `registry`.
    pub fn new(registry: Arc<dyn Registry>, options: DiscoveryOptions) -> Self {
        let ttl = options.ttl.or_else(|| registry.default_ttl()).unwrap_or(DEFAULT_TTL);
        let ttl = ttl.clamp(MIN_TTL, MAX_TTL);
        let folder = |path| Arc::new(SnapshotFolder::new(path, options.snapshot_max_age));
        let snapshots = options.snapshots.clone().map(folder);
        let open = Arc::default();
        Self { inner: Arc::new(Inner { registry, options, ttl, snapshots, open }) }
    }

    /// Returns a view of `service`. The first view of a service opens a watch; later ones share it.
    ///
    /// The view is empty until the store answers: see [`View::ready`]. Its task runs on the runtime of the
    /// first caller.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn view(&self, service: &ServiceName) -> View {
        // Declared before the lock guard, so that it is dropped after it: dropping a view may take the lock.
        let found;
        let Inner { registry, options, ttl, snapshots, open } = &*self.inner;
        let mut table = open.lock();
        found = table.views.get(service).and_then(Weak::upgrade);
        if let Some(shared) = found.as_ref().filter(|shared| !shared.task.is_finished()) {
            return View::new(shared.clone());
        }
        let registry = registry.clone();
        let file = snapshots.as_ref().map(|folder| folder.file(service));
        let (service, options) = (service.clone(), options.clone());
        let (refusals, received) = mpsc::channel(MAX_REFUSALS);
        let watcher = Watcher::new(registry, service.clone(), options, *ttl, received, file);
        let broadcaster = watcher.broadcaster().clone();
        let task = tokio::spawn(watcher.run()).abort_handle();
        let shared = Arc::new(SharedView {
            service: service.clone(),
            broadcaster,
            task,
            open: Arc::downgrade(open),
            refusals,
        });
        table.views.insert(service, Arc::downgrade(&shared));
        View::new(shared)
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("registry", &self.inner.registry).finish_non_exhaustive()
    }
}
