//! Faults, and counters of their effects.

use std::fmt;
use std::time::Duration;

/// A fault between one client and its store, or in the store.
///
/// The first kinds are *ongoing*: they stay active until [healed](crate::FaultyRegistry::heal), and several may be
/// active at once. Injecting an active one again only changes its parameters. The other kinds are *one-shot*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Ongoing: each call takes a random time from `min` to `max`, half of it before the store receives the
    /// call and half of it after. Items of a watch take half as long, and stay in order. Simulates a distant
    /// store or a busy network.
    ///
    /// A `max` below `min` counts as `min`. Items of a watch are in transit concurrently. The time of each
    /// starts when its reader waits for it.
    Latency {
        /// The shortest time of a call.
        min: Duration,
        /// The longest time of a call.
        max: Duration,
    },
    /// Ongoing: every call fails `Unavailable` at once, and the store does not receive it. Open watches and
    /// calls in flight fail `Unavailable`. Simulates a server that is down, or a closed port.
    Outage,
    /// Ongoing: calls hang and the store does not receive them; open watches stay open and receive nothing.
    /// Simulates a network that drops all packets while the sockets stay open, or a paused server.
    ///
    /// The client notices nothing, not even an [outage](Self::Outage) or a [cut](Self::Cut), until a call times out
    /// or a watch ends after the [silence timeout](super::FaultyRegistry::with_silence_timeout). After the heal, the
    /// connection turns out to be dead, and the calls and watches on it fail `Unavailable`. So the client notices
    /// every loss: it resumes a watch from its cursor and repeats a call.
    Silence,
    /// Ongoing: the store executes calls, but they fail `Unavailable`. Simulates a server that crashes, or a
    /// connection that breaks, between the commit and the reply.
    LostReplies,
    /// Ongoing: a watch delivers an item no sooner than `delay` after the previous one. Simulates a client
    /// that is too slow for its watch.
    ///
    /// The store buffers up to [`WATCH_CAPACITY`](registry_core::WATCH_CAPACITY) batches. Beyond that the
    /// watch lags: it delivers those and fails `Unavailable`.
    SlowWatch {
        /// The time between two items.
        delay: Duration,
    },
    /// One-shot: open watches and calls in flight fail `Unavailable`; the next call works. Simulates a
    /// connection reset by a load balancer or a restart of the server.
    Cut,
    /// One-shot: the store revokes a random live lease of any client. The instance is deleted, and its
    /// owner's next renewal fails `LeaseLost`. Simulates a lease revoked by an operator, or a client that was
    /// paused for longer than its ttl.
    LeaseLost,
    /// One-shot: the store drops its history. A watch after an older cursor fails `Compacted`, unless its
    /// service had no history. Simulates the compaction of etcd and the trimming of a Redis stream.
    Compaction,
    /// One-shot: the store goes back to the last [checkpoint](Self::Checkpoint) of this connection, or
    /// becomes empty if there is none. Every open watch of the store fails `Diverged`, and so do later ones
    /// from a cursor that was rolled back. Simulates a failover to a lagging replica, or a restored backup.
    Rollback,
    /// One-shot: saves the state of the store for each later [rollback](Self::Rollback).
    Checkpoint,
}

/// Writes Rust code, to paste into a test.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Latency { min, max } => {
                write!(f, "Fault::Latency {{ min: {}, max: {} }}", Code(min), Code(max))
            }
            Self::SlowWatch { delay } => write!(f, "Fault::SlowWatch {{ delay: {} }}", Code(delay)),
            Self::Outage
            | Self::Silence
            | Self::LostReplies
            | Self::Cut
            | Self::LeaseLost
            | Self::Compaction
            | Self::Rollback
            | Self::Checkpoint => write!(f, "Fault::{self:?}"),
        }
    }
}

/// A duration as Rust code.
pub(super) struct Code(pub(super) Duration);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if nanos % 1_000_000 == 0 {
            return write!(f, "Duration::from_millis({})", self.0.as_millis());
        }
        write!(f, "Duration::new({secs}, {nanos})")
    }
}

/// Counters of the effects of one connection's faults. A fault without an effect tests nothing, so a
/// test should assert the effects that it relies on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hits {
    /// Calls that [latency](Fault::Latency) delayed.
    pub calls_delayed: u64,
    /// Calls that an [outage](Fault::Outage) refused.
    pub calls_refused: u64,
    /// Calls that hung in a [silence](Fault::Silence).
    pub calls_silenced: u64,
    /// Calls in flight that an [outage](Fault::Outage) or a [cut](Fault::Cut) ended.
    pub calls_cut: u64,
    /// Calls that were executed but whose [reply was lost](Fault::LostReplies).
    pub replies_lost: u64,
    /// Open watches that became [silent](Fault::Silence).
    pub watches_silenced: u64,
    /// Open watches that an [outage](Fault::Outage), a [cut](Fault::Cut), a [silence](Fault::Silence) or its
    /// heal ended. Watches that the store ended are not counted.
    pub watches_ended: u64,
    /// Items of watches that [latency](Fault::Latency) or a [slow watch](Fault::SlowWatch) delayed.
    pub items_delayed: u64,
    /// Leases that were [revoked](Fault::LeaseLost). None if no lease was live.
    pub leases_ended: u64,
    /// [Compactions](Fault::Compaction) that dropped something.
    pub compactions: u64,
    /// [Rollbacks](Fault::Rollback).
    pub rollbacks: u64,
}
