//! A store under test, and what its operator can do to it.

use async_trait::async_trait;
use registry_core::{InstanceId, Lease, Registry, ServiceName};
use std::sync::Arc;
use std::time::Duration;

/// What a store states of itself. The kit holds it to exactly that.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
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
            lockstep_runs: 256,
        }
    }

    /// A server on a real clock, with the shortest `ttl` it grants and its stated `grace`.
    pub fn server(ttl: Duration, grace: Duration) -> Self {
        Self { ttl, grace, paused_clock: false, remote: true, lockstep_runs: 24, ..Self::memory() }
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

    /// Writes what cannot be decoded under `id`, over whatever is there, if it is
    /// [remote](Traits::remote).
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
