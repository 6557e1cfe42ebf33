//! Options of views.

use crate::Backoff;
use std::path::PathBuf;
use std::time::Duration;

/// Options for all views of a [`Discovery`](crate::Discovery).
#[derive(Clone, Debug)]
pub struct DiscoveryOptions {
    /// The ttl that the services register with, 100 ms to a day. Records carry none. Unless set, it is the
    /// ttl of the registry's [URL](registry_core::Registry::default_ttl), or else 10 s.
    ///
    /// It bounds how long an instance is [retained](Self::retain), and how soon a silent store is noticed:
    /// a probe that all views share asks the store every third of the ttl and waits as long for the answer.
    /// If it is too short, a live instance is dropped before its owner can register it again. If it is too
    /// long, callers call a dead instance for longer.
    pub ttl: Option<Duration>,
    /// Whether instances are retained that disappear under suspicious circumstances: a reload does not
    /// list them, or at least half of the instances (and at least 2) are deleted within one ttl of a store
    /// outage. `true` unless set.
    ///
    /// They are retained for at most max(2 ttl, 30 s), and are listed in
    /// [`ServiceState::retained`](crate::ServiceState::retained). Retention ends early when the store
    /// lists them again, and when two loads one ttl apart, after the outage, do not list them.
    pub retain: bool,
    /// The backoff between attempts. While the store is `Unavailable` it is at most a fifteenth of the ttl, within 200 ms
    /// and 1 s.
    pub backoff: Backoff,
    /// How long the store may take to load a service or to open a watch: 10 s unless set. A view of a store
    /// that needs longer never becomes live; a store that stops answering is noticed that much later.
    pub timeout: Duration,
    /// The folder for snapshot files, one for each service, which a process reads when it starts while the
    /// store is away. None unless set.
    ///
    /// A file is named after its service: processes may share a folder, stores may not. It is written one
    /// second after a change. A view shows what it read from the file until the store answers: see
    /// [`View::ready`](crate::View::ready).
    pub snapshots: Option<PathBuf>,
}

impl Default for DiscoveryOptions {
    fn default() -> Self {
        Self {
            ttl: None,
            retain: true,
            backoff: Backoff::default(),
            timeout: Duration::from_secs(10),
            snapshots: None,
        }
    }
}
