//! A store under test, and the operator's actions on it.

use async_trait::async_trait;
use registry_core::{
    Cursor, DeleteReason, ErrorKind, InstanceId, Lease, Registry, ServiceName, silence_timeout,
};
use std::sync::Arc;
use std::time::Duration;

/// The properties that a store claims. The kit checks each of them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools)] // the properties are independent
pub struct Traits {
    /// The shortest ttl that is granted exactly as requested, a whole number of milliseconds.
    pub ttl: Duration,
    /// How long an expired instance may still be listed after its ttl.
    pub grace: Duration,
    /// Whether the tests of this store run on tokio's paused clock.
    pub paused_clock: bool,
    /// When `keep_alive` notices a lost or foreign record.
    pub lost_writes: LostWrites,
    /// Whether [`Subject::evict`] deletes all instances at one revision.
    pub evicts_at_one_revision: bool,
    /// Whether the store is a server: it holds bytes, and replies can be lost on the network.
    pub remote: bool,
    /// The reasons for a deletion that a watch reports.
    pub reasons: &'static [DeleteReason],
    /// Whether an owner can watch its own record.
    pub watches_records: bool,
    /// The silence timeout of a watch. `None` for a store without a connection.
    pub silence: Option<Duration>,
    /// The error of a cursor of [another store](Subject::foreign_cursor) of the same kind: `Invalid` if the
    /// store can tell, or `Diverged`. `None` if there is no such cursor to test with.
    pub foreign_cursor: Option<ErrorKind>,
    /// The number of changes of a service that the store keeps. `None` if a test cannot write that many.
    pub history: Option<usize>,
    /// The names of scenarios that the store does not pass yet. They are reported as ignored.
    pub pending: &'static [&'static str],
    /// The number of random runs of the lockstep test.
    pub lockstep_runs: u32,
}

impl Traits {
    /// The properties of a store in memory on a paused clock.
    pub fn memory() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            grace: Duration::ZERO,
            paused_clock: true,
            lost_writes: LostWrites::NoticedAtOnce,
            evicts_at_one_revision: true,
            remote: false,
            reasons: &[DeleteReason::Withdrawn, DeleteReason::Expired],
            watches_records: true,
            silence: None,
            foreign_cursor: None,
            history: None,
            pending: &[],
            lockstep_runs: 256,
        }
    }

    /// The properties of a server on a real clock, with its shortest [`ttl`](Self::ttl) and its
    /// [`grace`](Self::grace).
    pub fn server(ttl: Duration, grace: Duration) -> Self {
        let silence = Some(silence_timeout(None));
        let remote =
            Self { paused_clock: false, remote: true, lockstep_runs: 24, ..Self::memory() };
        Self { ttl, grace, silence, ..remote }
    }

    /// Sets the reasons for a deletion that a watch reports.
    #[must_use]
    pub fn with_reasons(mut self, reasons: &'static [DeleteReason]) -> Self {
        self.reasons = reasons;
        self
    }

    /// Sets whether an owner can watch its own record.
    #[must_use]
    pub fn with_record_watches(mut self, offered: bool) -> Self {
        self.watches_records = offered;
        self
    }

    /// Sets the silence timeout of a watch.
    #[must_use]
    pub fn with_silence(mut self, silence: Duration) -> Self {
        self.silence = Some(silence);
        self
    }

    /// Sets the error of a cursor of another store of the same kind.
    #[must_use]
    pub fn with_foreign_cursor(mut self, kind: ErrorKind) -> Self {
        self.foreign_cursor = Some(kind);
        self
    }

    /// Sets the number of changes of a service that the store keeps.
    #[must_use]
    pub fn with_history(mut self, changes: usize) -> Self {
        self.history = Some(changes);
        self
    }

    /// Sets the scenarios that the store does not pass yet.
    #[must_use]
    pub fn with_pending(mut self, scenarios: &'static [&'static str]) -> Self {
        self.pending = scenarios;
        self
    }

    /// Returns the scheduling lag that a scenario tolerates: half a ttl. Scenarios renew at least every third of a ttl,
    /// so a lease survives that lag.
    pub fn tolerated_lag(&self) -> Duration {
        self.ttl / 2
    }

    /// Sets when `keep_alive` notices a lost or foreign record.
    #[must_use]
    pub fn with_lost_writes(mut self, noticed: LostWrites) -> Self {
        self.lost_writes = noticed;
        self
    }

    /// Sets whether an eviction deletes all instances at one revision.
    #[must_use]
    pub fn with_eviction_at_one_revision(mut self, one: bool) -> Self {
        self.evicts_at_one_revision = one;
        self
    }
}

/// When an owner notices that the stored record differs from its last acknowledged write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostWrites {
    /// The next `keep_alive` notices.
    NoticedAtOnce,
    /// One `keep_alive` in each ttl notices.
    NoticedOncePerTtl,
}

/// A store under test that no other test uses, and the operator's actions on it.
///
/// An action that has no effect must panic: a run without its fault proves nothing.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Returns a handle to the registry under test. Every call returns the same registry.
    fn registry(&self) -> Arc<dyn Registry>;

    /// Compacts the history of `service` up to now.
    async fn compact(&self, service: &ServiceName);

    /// Revokes `lease` before its ttl has elapsed.
    async fn revoke(&self, lease: &Lease);

    /// Deletes all records of `service` without notifying their owners.
    async fn evict(&self, service: &ServiceName);

    /// Returns a network that can lose replies of the server. Required for a [remote](Traits::remote) store.
    fn reply_loss(&self) -> Option<&dyn ReplyLoss> {
        None
    }

    /// Makes the source of all watches silent while their connections stay open. Called only for a store with a
    /// [silence timeout](Traits::silence). The default [loses](ReplyLoss) all replies.
    async fn fall_silent(&self) {
        self.reply_loss()
            .expect("a store with a silence timeout needs `reply_loss` or its own `fall_silent`")
            .lose_replies();
    }

    /// Returns a cursor of `service` from another store of this kind with the same configuration.
    async fn foreign_cursor(&self, service: &ServiceName) -> Option<Cursor> {
        let _ = service;
        None
    }

    /// Writes a record that cannot be decoded under `id`, without a lease that a registry was granted. It
    /// overwrites an existing record. Called only for a [remote](Traits::remote) store.
    async fn poison(&self, service: &ServiceName, id: &InstanceId);

    /// Closes all connections of the registry. It can reconnect at once.
    async fn cut(&self);

    /// Takes a backup of the store.
    async fn backup(&self);

    /// Restores the last [backup](Self::backup).
    async fn restore(&self);
}

/// A network between a registry and its server that loses replies: the server executes each request, but
/// the registry never gets the reply. A TCP proxy can do so by discarding the bytes of the server.
pub trait ReplyLoss: Send + Sync {
    /// Loses all replies from now on.
    fn lose_replies(&self);

    /// Loses all replies from the first request that contains `text`. A store sends the address of an
    /// instance as plain text, so scenarios use an address.
    fn lose_replies_from(&self, text: &str);

    /// Returns whether replies are being lost. After [`lose_replies_from`](Self::lose_replies_from), returns
    /// whether the request was sent.
    fn loses_replies(&self) -> bool;

    /// Stops losing replies. Connections that have lost a reply are closed; new connections work.
    fn heal(&self);
}
