//! Options of views.

use crate::Backoff;
use std::path::PathBuf;
use std::time::Duration;

/// Options for all views of a [`Discovery`](crate::Discovery).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiscoveryOptions {
    /// The ttl that the services register with, 100 ms to a day. Unless set, it is the ttl of the registry's
    /// [URL](registry_core::Registry::default_ttl), or else 10 s.
    ///
    /// It stands for the ttl of records that state none, and sets the backoff. How soon a silent store is noticed is the
    /// store's [silence timeout](registry_core::silence_timeout), which follows the ttl of the URL.
    pub ttl: Option<Duration>,
    /// Whether instances are retained whose deletion nobody announced. `true` unless set.
    ///
    /// They stay in the view, listed in [`ServiceState::retained`](crate::ServiceState::retained), for as long as a living
    /// owner may need to register them again: a third of their ttl, within 1 s and 5 s, and 1 s more. It is max(30 s, 2 ttl) if the
    /// view saw trouble of the store within that time, if at least half of the service is deleted within one ttl, or
    /// if it would become empty. Retention ends early when the store lists them again.
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
    /// second after a change, and at least once an hour while the view is live. Only its owner may read it. A view shows
    /// what it read from the file until the store answers: see [`View::ready`](crate::View::ready).
    ///
    /// A file that is no regular file, is larger than 64 MiB, has another format or a wrong checksum, or is too old, is
    /// ignored with a warning.
    pub snapshots: Option<PathBuf>,
    /// How old a snapshot file may be to be used: 7 days unless set, which covers a store that nobody repairs over a
    /// long weekend. Its age is the time since a live view wrote it.
    ///
    /// The longer it is, the more of the addresses in the file may belong to other services by now. A shorter one than the
    /// outage makes a process start without instances.
    pub snapshot_max_age: Duration,
}

impl DiscoveryOptions {
    /// Sets the [ttl](Self::ttl) that the services register with.
    #[must_use]
    pub fn with_ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Sets whether instances are [retained](Self::retain) whose deletion nobody announced.
    #[must_use]
    pub fn with_retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// Sets the [backoff](Self::backoff) between attempts.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long the store may take: see [`timeout`](Self::timeout).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the folder for [snapshot files](Self::snapshots).
    #[must_use]
    pub fn with_snapshots(mut self, folder: impl Into<PathBuf>) -> Self {
        self.snapshots = Some(folder.into());
        self
    }

    /// Sets how old a snapshot file may be to be used: see [`snapshot_max_age`](Self::snapshot_max_age).
    #[must_use]
    pub fn with_snapshot_max_age(mut self, age: Duration) -> Self {
        self.snapshot_max_age = age;
        self
    }
}

impl Default for DiscoveryOptions {
    fn default() -> Self {
        Self {
            ttl: None,
            retain: true,
            backoff: Backoff::default(),
            timeout: Duration::from_secs(10),
            snapshots: None,
            snapshot_max_age: Duration::from_secs(7 * 24 * 3600),
        }
    }
}
