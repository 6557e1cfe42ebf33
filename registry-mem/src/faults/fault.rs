//! What can go wrong, and how often it did.

use std::fmt;
use std::time::Duration;

/// Something that goes wrong between one client and its store, or in the store.
///
/// The first kinds are *ongoing*: they hold until [healed](crate::FaultyRegistry::heal), and all of
/// them may hold at once. To inject one that holds already changes its numbers and nothing else.
/// The others happen at once and are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Ongoing: each call takes a time drawn from `min` to `max`, half of it before the store sees
    /// the call, half of it after. What a watch says takes half as long, and stays in order. Stands
    /// for a store that is far away, or a network that is busy.
    ///
    /// A `max` below `min` counts as `min`. Items of a watch travel side by side, and the time of
    /// each counts from when its reader waits for it.
    Latency {
        /// The shortest time of a call.
        min: Duration,
        /// The longest time of a call.
        max: Duration,
    },
    /// Ongoing: every call fails `Unavailable` at once, and the store does not see it. The open
    /// watches and the calls under way end with `Unavailable`. Stands for a server that is down, or
    /// a port that is closed.
    Outage,
    /// Ongoing: calls hang and the store does not see them; open watches stay open and say nothing.
    /// Stands for a link that drops all packets while the sockets stay open, or a server that is
    /// stopped in a debugger.
    ///
    /// Nothing gets through, not even an [outage](Self::Outage) or a [cut](Self::Cut). After the
    /// heal the connection turns out dead: what hung and what was silent ends with `Unavailable`.
    /// So nothing is lost in secret: a watch is resumed after its cursor, and a call is repeated.
    Silence,
    /// Ongoing: calls reach the store and are carried out, but fail `Unavailable`. Stands for a
    /// server that dies, or a connection that breaks, between the commit and the reply.
    LostReplies,
    /// Ongoing: a watch hands on an item only `delay` after the one before it. Stands for a client
    /// that is too slow for what it watches.
    ///
    /// The store holds the rest, up to [`WATCH_CAPACITY`](registry_core::WATCH_CAPACITY) batches.
    /// Then the watch lags: it gives those, and ends with `Unavailable`.
    SlowWatch {
        /// The time between two items.
        delay: Duration,
    },
    /// At once: the open watches and the calls under way end with `Unavailable`; the next call
    /// works. Stands for a connection that a load balancer, or a restart of the server, resets.
    Cut,
    /// At once: the store ends one live lease of any client, as if its time had run out; the seed
    /// draws which. The instance is deleted, and its owner hears `LeaseLost` when it renews. Stands
    /// for a lease that an operator revoked, or a client that was stopped for longer than its ttl.
    LeaseLost,
    /// At once: the store forgets its history up to now. To watch after an older cursor is
    /// `Compacted`, unless nothing of its service was dropped. Stands for the compaction of etcd,
    /// and the trimming of a Redis stream.
    Compaction,
    /// At once: the store goes back to the last [checkpoint](Self::Checkpoint) made over this
    /// connection, or to nothing if there is none. Every watch of the store ends with `Diverged`,
    /// and so do later ones after a cursor that was rolled back. Stands for a failover to a lagging
    /// replica, or a backup that was restored.
    Rollback,
    /// At once: remembers the store as it is now, for each later [rollback](Self::Rollback).
    Checkpoint,
}

/// Rust code, to paste into a test.
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

/// A time as Rust code.
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

/// How often the faults of one connection took effect. A fault that hit nothing proves nothing, so
/// a test asserts what it counted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hits {
    /// Calls that [latency](Fault::Latency) delayed.
    pub calls_delayed: u64,
    /// Calls that an [outage](Fault::Outage) refused.
    pub calls_refused: u64,
    /// Calls that hung in a [silence](Fault::Silence).
    pub calls_silenced: u64,
    /// Calls that were under way when an [outage](Fault::Outage) or a [cut](Fault::Cut) ended them.
    pub calls_cut: u64,
    /// Calls that were carried out though their caller [heard otherwise](Fault::LostReplies).
    pub replies_lost: u64,
    /// Open watches that fell [silent](Fault::Silence).
    pub watches_silenced: u64,
    /// Open watches that were ended by an [outage](Fault::Outage), a [cut](Fault::Cut) or the heal
    /// of a [silence](Fault::Silence). Those that the store ended are not counted.
    pub watches_ended: u64,
    /// Items of watches that [latency](Fault::Latency) or a [slow watch](Fault::SlowWatch) held
    /// back.
    pub items_delayed: u64,
    /// Leases that were [ended](Fault::LeaseLost). None if none was live.
    pub leases_ended: u64,
    /// [Compactions](Fault::Compaction) that forgot something.
    pub compactions: u64,
    /// [Rollbacks](Fault::Rollback).
    pub rollbacks: u64,
}
