//! The views of a process: one watch for each service, however many look at it.

use super::Backoff;
use super::board::Board;
use super::pulse::Pulse;
use super::view::View;
use super::viewer::Viewer;
use registry_core::{MAX_TTL, MIN_TTL, Registry, ServiceName, Target};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::task::AbortHandle;

/// How views are kept.
#[derive(Clone, Debug)]
pub struct DiscoveryOptions {
    /// The ttl that the services register with: 10 s unless set, 100 ms to a day. Records carry none.
    ///
    /// It decides what [`retain`](Self::retain) does, and how soon a store that fell silent is noticed:
    /// it is asked every third of it, once for all views, and has as long to answer. Too short, and a living instance is dropped
    /// before its owner could register it anew; too long, and a dead one is called for longer.
    pub ttl: Duration,
    /// Whether instances are kept for a while that disappear under suspicious circumstances: found
    /// gone when the service was loaded anew, or at least half of them (and at least 2) deleted within
    /// a ttl of an outage of the store. `true` unless set.
    ///
    /// They are kept for at most two ttls, 30 s at least, and marked as
    /// [retained](super::Picture::retained). They go at once when the store lists them again, and when
    /// two loads a ttl apart, after the outage, do not list them.
    pub retain: bool,
    /// How long to wait between tries while the store does not answer.
    pub backoff: Backoff,
    /// How long the store may take for a load, or to open a watch: 10 s unless set. A store that needs
    /// longer is never live; one that went silent is noticed that much later.
    pub timeout: Duration,
    /// A folder to keep the last snapshot of each service in, for a start while the store is away.
    /// None unless set.
    ///
    /// A file is named after its service: processes may share a folder, stores may not. It is written a
    /// second after a change. What was read from one is shown until the store has answered, and no
    /// longer if it answers at once: see [`View::ready`].
    pub snapshots: Option<PathBuf>,
}

impl DiscoveryOptions {
    /// The defaults, with the ttl of a store's URL if that states one.
    pub fn of(target: &Target) -> Self {
        let default = Self::default();
        Self { ttl: target.ttl().unwrap_or(default.ttl), ..default }
    }
}

impl Default for DiscoveryOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            retain: true,
            backoff: Backoff::default(),
            timeout: Duration::from_secs(10),
            snapshots: None,
        }
    }
}

/// Finds services. A clone is another handle to the same views.
#[derive(Clone)]
pub struct Discovery {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Arc<dyn Registry>,
    options: DiscoveryOptions,
    open: Mutex<Open>,
}

/// What views there are, and what they share.
#[derive(Default)]
struct Open {
    views: HashMap<ServiceName, Weak<Shared>>,
    pulse: Weak<Pulse>,
}

impl Discovery {
    /// Finds services in `registry`.
    pub fn new(registry: Arc<dyn Registry>, mut options: DiscoveryOptions) -> Self {
        options.ttl = options.ttl.clamp(MIN_TTL, MAX_TTL);
        Self { inner: Arc::new(Inner { registry, options, open: Mutex::default() }) }
    }

    /// A view of `service`. The first of a service opens its watch, the others share it.
    ///
    /// It is empty until the store has answered: see [`View::ready`]. It is kept up to date on the
    /// runtime of whoever opened it first.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn view(&self, service: &ServiceName) -> View {
        // Declared before the lock, so that it is dropped after: what it drops may need the lock.
        let found;
        let mut open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        found = open.views.get(service).and_then(Weak::upgrade);
        if let Some(shared) = found.as_ref().filter(|shared| !shared.task.is_finished()) {
            return View::new(shared.clone());
        }
        let Inner { registry, options, .. } = &*self.inner;
        let pulse = open.pulse.upgrade().filter(|pulse| !pulse.is_over()).unwrap_or_else(|| {
            let pulse = Arc::new(Pulse::start(registry.clone(), options.ttl));
            open.pulse = Arc::downgrade(&pulse);
            pulse
        });
        let (registry, silence) = (registry.clone(), pulse.silence());
        let viewer = Viewer::new(registry, service.clone(), options.clone(), silence);
        let board = viewer.board().clone();
        let task = tokio::spawn(viewer.run()).abort_handle();
        let (discovery, service) = (Arc::downgrade(&self.inner), service.clone());
        let shared =
            Arc::new(Shared { service: service.clone(), board, task, discovery, _pulse: pulse });
        open.views.insert(service, Arc::downgrade(&shared));
        View::new(shared)
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("registry", &self.inner.registry).finish_non_exhaustive()
    }
}

/// What the handles of one view share. With it goes the task.
pub(crate) struct Shared {
    service: ServiceName,
    board: Arc<Board>,
    task: AbortHandle,
    discovery: Weak<Inner>,
    _pulse: Arc<Pulse>,
}

impl Shared {
    pub(crate) fn service(&self) -> &ServiceName {
        &self.service
    }

    #[inline]
    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
        let Some(discovery) = self.discovery.upgrade() else { return };
        let mut open = discovery.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Another view may have been opened since the last handle of this one went.
        if open.views.get(&self.service).is_some_and(|shared| shared.strong_count() == 0) {
            open.views.remove(&self.service);
        }
    }
}
