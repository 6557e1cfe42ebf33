//! Options of views.

use crate::Backoff;
use std::path::PathBuf;
use std::time::Duration;

/// Options for all views of a [`Discovery`](crate::Discovery).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiscoveryOptions {
    /// The ttl that the services register with, 100 ms to a day. The default is the ttl of the registry's
    /// [URL](registry_core::Registry::default_ttl), or 10 s.
    ///
    /// It is used for records without a ttl, and to derive the backoff. It does not affect how soon a silent store is
    /// noticed: that is the store's [silence timeout](registry_core::silence_timeout), which follows the ttl of the
    /// URL.
    pub ttl: Option<Duration>,
    /// Whether to retain instances that were deleted without being withdrawn. The default is `true`.
    ///
    /// A retained instance stays in the view, and in [`ServiceState::retained`](crate::ServiceState::retained), for as
    /// long as a live owner may need to register it again. This hold time is a third of the ttl, clamped to 1 s to 5 s,
    /// plus 1 s. It is max(30 s, 2 ttl) if the view had trouble with the store within that time, if at least half of
    /// the service is deleted within one ttl, or if the service would become empty. Retention ends early when the store
    /// lists the instance again, or when a reported call to it was refused.
    pub retain: bool,
    /// The backoff between attempts. While the store is `Unavailable`, it is at most a fifteenth of the ttl, within 200
    /// ms and 1 s.
    pub backoff: Backoff,
    /// The timeout for loading a service and for opening a watch. The default is 10 s. A view of a store that always
    /// needs longer never becomes live. With a longer timeout, a store that stops answering during such a request is
    /// noticed later.
    pub timeout: Duration,
    /// The folder of the snapshot files, one for each service. A process that starts during a store outage reads them.
    /// There are none unless set.
    ///
    /// A file is named after its service, so processes may share a folder but stores must not. It is written 1 s after
    /// a change, and at least once an hour while the view is live. Only its owner may read it. A view shows the state
    /// from the file until the store answers: see [`View::ready`](crate::View::ready).
    ///
    /// A file is ignored with a warning if it is not a regular file, is larger than 64 MiB, has another format or a
    /// wrong checksum, or is too old.
    pub snapshots: Option<PathBuf>,
    /// The maximum age of a snapshot file: the time since a live view wrote it. The default is 7 days, which covers an
    /// outage over a long weekend.
    ///
    /// The older a file is, the more of its addresses may belong to other services by now. If an outage lasts longer
    /// than the maximum age, a process starts without instances.
    pub snapshot_max_age: Duration,
}

impl DiscoveryOptions {
    /// Sets the [ttl](Self::ttl) that the services register with.
    #[must_use]
    pub fn with_ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Sets whether to [retain](Self::retain) instances that were deleted without being withdrawn.
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

    /// Sets the [timeout](Self::timeout) for loading a service and for opening a watch.
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

    /// Sets the [maximum age](Self::snapshot_max_age) of a snapshot file.
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
