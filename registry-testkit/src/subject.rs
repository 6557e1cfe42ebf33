//! A store under test, and what its operator can do to it.

use async_trait::async_trait;
use registry_core::{
    Cursor, DeleteReason, ErrorKind, InstanceId, Lease, Registry, ServiceName, silence_timeout,
};
use std::sync::Arc;
use std::time::Duration;

/// What a store states of itself. The kit holds it to exactly that.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub struct Traits {
    /// The shortest ttl that is granted as asked, a whole number of milliseconds.
    pub ttl: Duration,
    /// How long after its ttl a dead instance may be listed.
    pub grace: Duration,
    /// Whether the tests of this store run on tokio's paused clock.
    pub paused_clock: bool,
    /// When `keep_alive` notices a lost or foreign record.
    pub lost_writes: LostWrites,
    /// Whether [`Subject::evict`] deletes all instances at one revision.
    pub evicts_at_one_revision: bool,
    /// Whether it is a server: what it holds are bytes, and replies get lost on the way.
    pub remote: bool,
    /// The reasons of deletions that a watch tells.
    pub reasons: &'static [DeleteReason],
    /// Whether an owner can watch its own record.
    pub watches_records: bool,
    /// How long a watch waits for a silent source at most. `None` for a store without a connection.
    pub silence: Option<Duration>,
    /// The error of a cursor of [another store](Subject::foreign_cursor) of the same kind: `Invalid` if the
    /// store can tell, or `Diverged`. `None` if there is no such cursor to test with.
    pub foreign_cursor: Option<ErrorKind>,
    /// How many changes of a service are kept, if so few that a test can write more.
    pub history: Option<usize>,
    /// Scenarios that the store does not pass yet, by name. They are shown as ignored.
    pub pending: &'static [&'static str],
    /// Random runs of the lockstep test.
    pub lockstep_runs: u32,
}

impl Traits {
    /// A store in memory on a paused clock.
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

    /// A server on a real clock, with the shortest `ttl` it grants and its stated `grace`.
    pub fn server(ttl: Duration, grace: Duration) -> Self {
        let silence = Some(silence_timeout(None));
        let remote =
            Self { paused_clock: false, remote: true, lockstep_runs: 24, ..Self::memory() };
        Self { ttl, grace, silence, ..remote }
    }

    /// Sets which reasons of a deletion a watch tells.
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

    /// Sets how long a watch waits for a silent source at most.
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

    /// Sets how many changes of a service are kept.
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

    /// The scheduling lag that a scenario tolerates. Scenarios renew every quarter or third of a ttl, which leaves more.
    pub fn tolerated_lag(&self) -> Duration {
        self.ttl / 2
    }

    /// Sets when lost and foreign records are noticed.
    #[must_use]
    pub fn with_lost_writes(mut self, noticed: LostWrites) -> Self {
        self.lost_writes = noticed;
        self
    }

    /// Sets whether an eviction is one revision.
    #[must_use]
    pub fn with_eviction_at_one_revision(mut self, one: bool) -> Self {
        self.evicts_at_one_revision = one;
        self
    }
}

/// When an owner hears that what is stored is not what was last acknowledged to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostWrites {
    /// From the next `keep_alive`.
    NoticedAtOnce,
    /// From one `keep_alive` in every ttl.
    NoticedOncePerTtl,
}

/// A store under test, used by nobody else, with the powers of its operator.
///
/// A power that fails to take effect panics: a run whose fault did not happen proves nothing.
#[async_trait]
pub trait Subject: Send + Sync {
    /// The registry to test. Every call gives a handle to the same one.
    fn registry(&self) -> Arc<dyn Registry>;

    /// Makes the store forget the history of `service` up to now.
    async fn compact(&self, service: &ServiceName);

    /// Ends `lease` before its time.
    async fn revoke(&self, lease: &Lease);

    /// Deletes all instances of `service`, behind their owners' backs.
    async fn evict(&self, service: &ServiceName);

    /// Loses replies of the server to the registry. A [remote](Traits::remote) store has it.
    fn reply_loss(&self) -> Option<&dyn ReplyLoss> {
        None
    }

    /// Has the source of all watches fall silent while its connection stays open, if the store has a
    /// [silence timeout](Traits::silence). Unless overridden, all replies are [lost](ReplyLoss).
    async fn fall_silent(&self) {
        self.reply_loss()
            .expect("a store with a silence timeout has a way to be silent")
            .lose_replies();
    }

    /// Returns a cursor of `service` that another store of this kind gave, with the same configuration.
    async fn foreign_cursor(&self, service: &ServiceName) -> Option<Cursor> {
        let _ = service;
        None
    }

    /// Writes a record under `id` that cannot be decoded, over whatever is there and under no lease that a
    /// registry was granted, if it is [remote](Traits::remote).
    async fn poison(&self, service: &ServiceName, id: &InstanceId);

    /// Cuts all connections of the registry. New ones can be made at once.
    async fn cut(&self);

    /// Remembers all that is stored.
    async fn backup(&self);

    /// Puts the store back to its last [backup](Self::backup).
    async fn restore(&self);
}

/// A network between a registry and its server that loses replies: requests arrive, the server does
/// what they ask, and the registry is not told. A TCP proxy does it by discarding what the server sends.
pub trait ReplyLoss: Send + Sync {
    /// Loses all replies from now on.
    fn lose_replies(&self);

    /// Loses all replies from the first request on that contains `text`. The store sends the address
    /// of an instance as text.
    fn lose_replies_from(&self, text: &str);

    /// Whether replies are being lost. After [`lose_replies_from`](Self::lose_replies_from): whether
    /// that request was sent.
    fn loses_replies(&self) -> bool;

    /// Loses no more replies. Connections on which a reply was lost are closed; new ones work.
    fn heal(&self);
}
