//! The schedules: events in a fleet under calls.

use crate::spec::{Peer, RunSpec};
use crate::store::MEMBERS;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The `Etcd.ID` that two servers share in `same-id`.
pub(crate) const SAME_ID: Option<u32> = Some(7);

/// A schedule. All fleets of a run execute it at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Schedule {
    /// Another server starts.
    Join,
    /// A server is terminated (SIGTERM).
    Drain,
    /// A server is killed (SIGKILL).
    Kill,
    /// Six servers are terminated, one after the other, and each is replaced by a new one.
    Rolling,
    /// The key of a server is deleted by hand.
    KeyDeleted,
    /// All keys of a service are deleted by hand.
    PrefixDeleted,
    /// The lease of a server is revoked by hand.
    LeaseRevoked,
    /// etcd is down for 5 s, less than the ttl.
    #[value(name = "down-5s")]
    Down5,
    /// etcd is down for 15 s, more than the ttl.
    #[value(name = "down-15s")]
    Down15,
    /// etcd is down for 15 s and loses all data.
    Wiped,
    /// etcd is compacted while all clients are connected.
    Compaction,
    /// The links of callers to etcd are down for 2 s, while a server is terminated and etcd is compacted.
    CutCompaction,
    /// The leader is killed, and restarted 5 s later.
    LeaderChange,
    /// Two of three members are down for 6 s.
    QuorumLost,
    /// Two servers have the same `Etcd.ID`, and the later one is terminated.
    SameId,
    /// A server with an `Etcd.ID` is killed, and restarted at another port.
    MovedId,
    /// The servers in Rust have metadata and a weight. A side record is deleted by hand.
    SideKeys,
    /// The servers listen on `[::1]`, and one is terminated.
    #[value(name = "ipv6")]
    Ipv6,
    /// The servers publish the host `localhost`, and one is terminated.
    Hostname,
    /// etcd requires a user, and a server is terminated.
    Auth,
    /// etcd requires mutual TLS, and a server is terminated.
    Tls,
}

impl Schedule {
    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Returns whether the schedule is part of the short form.
    pub(crate) fn is_quick(self) -> bool {
        matches!(
            self,
            Self::Join
                | Self::Drain
                | Self::Kill
                | Self::KeyDeleted
                | Self::PrefixDeleted
                | Self::LeaseRevoked
                | Self::Down15
                | Self::CutCompaction
                | Self::MovedId
                | Self::SideKeys
                | Self::Ipv6
                | Self::Auth
                | Self::Tls
        )
    }

    /// Returns whether the schedule applies to this number of members and this library.
    pub(crate) fn runs_with(self, members: usize, peer: Peer) -> bool {
        match self {
            Self::LeaderChange | Self::QuorumLost => members == MEMBERS && peer != Peer::Naming,
            Self::Join | Self::Drain | Self::Kill | Self::Rolling | Self::Compaction => true,
            // etcd's naming package has no configuration, and never registers a lost endpoint again.
            _ => peer != Peer::Naming,
        }
    }

    /// Returns whether a service has no key for a time. Calls in that time fail.
    pub(crate) fn unlists_all(self) -> bool {
        matches!(self, Self::PrefixDeleted | Self::Wiped)
    }

    /// Returns the host that servers listen on.
    pub(crate) fn host(self) -> &'static str {
        match self {
            Self::Ipv6 => "[::1]",
            Self::Hostname => "localhost",
            _ => "127.0.0.1",
        }
    }

    /// Returns the `Etcd.ID` of each initial server.
    pub(crate) fn ids(self) -> &'static [Option<u32>] {
        match self {
            Self::SameId => &[SAME_ID],
            Self::MovedId => &[Some(7), Some(8)],
            _ => &[None, None],
        }
    }

    /// Returns how long to observe after the last step.
    pub(crate) fn tail(self) -> Duration {
        Duration::from_secs(match self {
            // Until the lease of a killed server has expired, and Go servers have registered again.
            Self::Kill | Self::Down15 | Self::Wiped | Self::QuorumLost => 12,
            Self::LeaseRevoked | Self::Down5 | Self::LeaderChange => 6,
            _ => 2,
        })
    }
}

/// Estimates how long a run takes.
pub(crate) fn estimate(spec: &RunSpec) -> Duration {
    let own = match spec.schedule {
        Schedule::Down5 | Schedule::LeaderChange | Schedule::CutCompaction => 7,
        Schedule::QuorumLost => 10,
        Schedule::Down15 | Schedule::Wiped => 17,
        Schedule::Rolling => 24,
        Schedule::SameId | Schedule::LeaseRevoked | Schedule::SideKeys => 6,
        _ => 3,
    };
    let start = if spec.members == MEMBERS { 9 } else { 6 };
    Duration::from_secs(own + start) + spec.schedule.tail()
}
