//! The faults of the suite, by the same names for every store.

use std::fmt;

/// A fault of the network or of the store. [`SuiteOptions`](super::SuiteOptions) say which a store can
/// suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The connections are closed, once (FIN).
    Cut,
    /// The connections are reset, once (RST).
    Reset,
    /// Connections stand, and nothing comes through.
    Silence,
    /// Requests arrive, and replies do not.
    LostReplies,
    /// Connections are closed, and no new ones can be made.
    Outage,
    /// Everything takes longer, but less than a renewal may take.
    Delay,
    /// Messages arrive in small pieces.
    Slice,
    /// There is little bandwidth, but enough for what is needed.
    Throttle,
    /// The server stands still (`SIGSTOP`), and goes on when it is healed.
    Pause,
    /// The server is killed (`SIGKILL`), and starts again with its data when it is healed.
    Kill,
    /// The server is killed when others have all it has, and one of them takes over. It joins them again
    /// when it is healed.
    Failover,
    /// The server is cut off from the others, who replace it, while it is still reached by those who use it:
    /// what it acknowledges is lost. It joins them again when it is healed.
    Partition,
    /// While the subscribers are cut off, the store forgets its history.
    Compaction,
    /// The store loses everything it ever stored.
    Rollback,
    /// The leases of a service are ended, behind their owners' backs.
    Revocation,
    /// The records of a service are deleted, behind their owners' backs.
    Deletion,
}

/// Whose connection to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Side {
    /// That of the registrations.
    Publisher,
    /// That of the views.
    Subscriber,
    /// Both.
    Both,
}

impl Fault {
    /// Whether it is a fault of the network, and not of the store.
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

    /// Whether it is over as soon as it is injected.
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

    /// Whether everything still works, only slower.
    pub(super) fn is_degradation(self) -> bool {
        matches!(self, Self::Delay | Self::Slice | Self::Throttle)
    }

    /// Whether nobody reaches the store, not even directly.
    pub(super) fn stops_the_store(self) -> bool {
        matches!(self, Self::Pause | Self::Kill)
    }

    /// Whether the store loses acknowledged writes.
    pub(super) fn loses_history(self) -> bool {
        matches!(self, Self::Rollback | Self::Partition)
    }

    /// Whether no renewal reaches the store while it lasts.
    pub(super) fn blocks_renewals(self) -> bool {
        matches!(self, Self::Silence | Self::Outage | Self::Pause | Self::Kill)
    }

    /// Whether a client takes a while to detect it.
    pub(super) fn is_silent(self) -> bool {
        matches!(self, Self::Silence | Self::LostReplies | Self::Pause)
    }
}

impl Side {
    /// Whether it includes the publishers.
    pub fn has_publisher(self) -> bool {
        matches!(self, Self::Publisher | Self::Both)
    }

    /// Whether it includes the subscribers.
    pub fn has_subscriber(self) -> bool {
        matches!(self, Self::Subscriber | Self::Both)
    }
}

/// As in the name of a test.
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

/// As in the name of a test.
impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publisher => "the_publisher",
            Self::Subscriber => "the_subscriber",
            Self::Both => "both",
        })
    }
}
