//! The faults of the suite, with the same names for every store.

use std::fmt;

/// A fault of the network or of the store. [`SuiteOptions`](super::SuiteOptions) list the faults that a store
/// can suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The connections are closed, once (FIN).
    Cut,
    /// The connections are reset, once (RST).
    Reset,
    /// Connections stay open, but nothing passes either way.
    Silence,
    /// Requests arrive, but replies are lost.
    LostReplies,
    /// Connections are closed, and new ones are refused.
    Outage,
    /// Messages are delayed, but by less than a renewal may take.
    Delay,
    /// Messages arrive in small pieces.
    Slice,
    /// The bandwidth is small, but sufficient.
    Throttle,
    /// The server is paused (`SIGSTOP`) until it is healed.
    Pause,
    /// The server is killed (`SIGKILL`), and restarted with its data when it is healed.
    Kill,
    /// The primary is killed after its replicas are in sync, and one of them takes over. The killed server rejoins
    /// when it is healed.
    Failover,
    /// The primary is partitioned from its peers, which replace it, while clients still reach it. Its acknowledged
    /// writes are lost. It rejoins when it is healed.
    Partition,
    /// The store compacts its history while the subscribers are disconnected.
    Compaction,
    /// The store loses all data.
    Rollback,
    /// The leases of a service are revoked by an operator.
    Revocation,
    /// The records of a service are deleted by an operator.
    Deletion,
}

/// The connections that a network fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Side {
    /// The connection of the registrations.
    Publisher,
    /// The connection of the views.
    Subscriber,
    /// The connections of both sides.
    Both,
}

impl Fault {
    /// Returns whether this is a fault of the network, not of the store.
    pub fn is_network_fault(self) -> bool {
        match self {
            Self::Cut
            | Self::Reset
            | Self::Silence
            | Self::LostReplies
            | Self::Outage
            | Self::Delay
            | Self::Slice
            | Self::Throttle => true,
            Self::Pause
            | Self::Kill
            | Self::Failover
            | Self::Partition
            | Self::Compaction
            | Self::Rollback
            | Self::Revocation
            | Self::Deletion => false,
        }
    }

    /// Returns whether the fault is over as soon as it is injected.
    pub(super) fn is_instantaneous(self) -> bool {
        matches!(
            self,
            Self::Cut
                | Self::Reset
                | Self::Failover
                | Self::Rollback
                | Self::Revocation
                | Self::Deletion
        )
    }

    /// Returns whether the fault only slows everything down.
    pub(super) fn is_degradation(self) -> bool {
        matches!(self, Self::Delay | Self::Slice | Self::Throttle)
    }

    /// Returns whether the store is unreachable even over the direct connection.
    pub(super) fn stops_the_store(self) -> bool {
        matches!(self, Self::Pause | Self::Kill)
    }

    /// Returns whether the store loses acknowledged writes.
    pub(super) fn loses_history(self) -> bool {
        matches!(self, Self::Rollback | Self::Partition)
    }

    /// Returns whether no renewal reaches the store during the fault.
    pub(super) fn blocks_renewals(self) -> bool {
        matches!(self, Self::Silence | Self::Outage | Self::Pause | Self::Kill)
    }

    /// Returns whether a client can detect the fault only by a timeout.
    pub(super) fn is_silent(self) -> bool {
        matches!(self, Self::Silence | Self::LostReplies | Self::Pause)
    }
}

impl Side {
    /// Returns whether it includes the publishers.
    pub fn has_publisher(self) -> bool {
        matches!(self, Self::Publisher | Self::Both)
    }

    /// Returns whether it includes the subscribers.
    pub fn has_subscriber(self) -> bool {
        matches!(self, Self::Subscriber | Self::Both)
    }
}

/// Writes the fault as in the name of a test.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "cut",
            Self::Reset => "reset",
            Self::Silence => "silence",
            Self::LostReplies => "lost_replies",
            Self::Outage => "outage",
            Self::Delay => "delay",
            Self::Slice => "slice",
            Self::Throttle => "throttle",
            Self::Pause => "pause",
            Self::Kill => "kill",
            Self::Failover => "failover",
            Self::Partition => "partition",
            Self::Compaction => "compaction",
            Self::Rollback => "rollback",
            Self::Revocation => "revocation",
            Self::Deletion => "deletion",
        })
    }
}

/// Writes the side as in the name of a test.
impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publisher => "the_publisher",
            Self::Subscriber => "the_subscriber",
            Self::Both => "both",
        })
    }
}
