//! The schedules: faults, and the servers that they apply to.

use crate::bounds::WATCHES_OWN_RECORD;
use crate::topology::{Store, Topology};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The faults of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Schedule {
    /// The links of owners and views are silent. Later new connections work, but old ones stay silent.
    SilentLink,
    /// The store is killed and restarted with its data.
    Restart,
    /// The store is killed and restarted without its data.
    Wipe,
    /// The leader is paused and resumed.
    PausedLeader,
    /// One server of several is paused, and resumed before a failover.
    PausedNode,
    /// The links of clients to one of several servers are silent.
    SilentNode,
    /// Only the connections or streams with the watches of views are silent.
    SilentFeed,
    /// A Redis is killed. Without replicas it is restarted with its data; else a replica takes over.
    Crash,
    /// The runtime that created the handles is shut down.
    LostRuntime,
    /// The scripts of Redis are flushed continuously.
    FlushedScripts,
    /// The replicas that must acknowledge writes are paused.
    PausedReplicas,
    /// Replies to a registration are delayed while a newer incarnation registers.
    SlowClaim,
    /// Keys are deleted by hand.
    DeletedKey,
    /// All keys are deleted by hand.
    WipedPrefix,
    /// Keys are deleted by hand each time that they are registered again.
    DeletedAgain,
    /// Views reconnect over a slow link to a large backlog.
    SlowBacklog,
}

impl Schedule {
    pub(crate) const ALL: [Self; 16] = [
        Self::SilentLink,
        Self::Restart,
        Self::Wipe,
        Self::PausedLeader,
        Self::PausedNode,
        Self::SilentNode,
        Self::SilentFeed,
        Self::Crash,
        Self::LostRuntime,
        Self::FlushedScripts,
        Self::PausedReplicas,
        Self::SlowClaim,
        Self::DeletedKey,
        Self::WipedPrefix,
        Self::DeletedAgain,
        Self::SlowBacklog,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::SilentLink => "A1",
            Self::Restart => "A2",
            Self::Wipe => "A2-wiped",
            Self::PausedLeader => "A3",
            Self::PausedNode => "A4",
            Self::SilentNode => "A4-link",
            Self::SilentFeed => "A5",
            Self::Crash => "A6",
            Self::LostRuntime => "A8",
            Self::FlushedScripts => "A9",
            Self::PausedReplicas => "A17",
            Self::SlowClaim => "A7",
            Self::DeletedKey => "X2",
            Self::WipedPrefix => "X2-prefix",
            Self::DeletedAgain => "X2-again",
            Self::SlowBacklog => "B6",
        }
    }

    /// Returns the schedules that a name selects: `A2` also selects `A2-wiped`.
    pub(crate) fn named(name: &str) -> Result<Vec<Self>> {
        let is_named = |one: &Self| {
            let rest = one.name().strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let found: Vec<Self> = Self::ALL.into_iter().filter(is_named).collect();
        if found.is_empty() {
            let names = Self::ALL.map(Self::name).join(", ");
            bail!("unknown schedule `{name}`, expected one of {names}");
        }
        Ok(found)
    }

    /// Returns whether the schedule applies to these servers.
    pub(crate) fn runs_on(self, topology: Topology) -> bool {
        use Topology::{Cluster, Etcd, EtcdThree, Redis, Sentinel};
        match self {
            Self::SilentLink => true,
            Self::Restart => matches!(topology, Etcd | EtcdThree),
            Self::Wipe => matches!(topology, Etcd | EtcdThree | Redis),
            Self::PausedLeader => topology == EtcdThree,
            Self::Crash => matches!(topology, Redis | Sentinel | Cluster),
            Self::PausedNode | Self::SilentNode => matches!(topology, EtcdThree | Cluster),
            Self::SilentFeed | Self::LostRuntime => matches!(topology, Etcd | Redis),
            Self::FlushedScripts => topology == Redis,
            Self::PausedReplicas => topology == Sentinel,
            Self::SlowBacklog => matches!(topology, Etcd | Redis),
            Self::SlowClaim | Self::WipedPrefix => matches!(topology, Etcd | EtcdThree | Redis),
            Self::DeletedKey | Self::DeletedAgain => matches!(topology, Etcd | EtcdThree | Redis),
        }
    }

    /// Returns whether the schedule applies to this ttl. Below 4 s, a lease may not survive an election.
    pub(crate) fn runs_with(self, ttl: Duration) -> bool {
        self != Self::PausedLeader || ttl >= Duration::from_secs(4)
    }

    /// Returns whether the short form runs the schedule on these servers.
    pub(crate) fn is_quick(self, topology: Topology) -> bool {
        let repairs = matches!(self, Self::DeletedKey | Self::DeletedAgain);
        match topology {
            // Without own-record watches, a deleted instance may be missing for longer than a view retains it.
            Topology::Etcd if repairs => WATCHES_OWN_RECORD,
            Topology::Etcd | Topology::Redis => true,
            Topology::EtcdThree => self == Self::PausedLeader,
            Topology::Sentinel | Topology::Cluster => self == Self::Crash,
        }
    }

    /// Estimates how long a run takes.
    pub(crate) fn estimate(self, topology: Topology, ttl: Duration, quick: bool) -> Duration {
        let start = if topology.store() == Store::Etcd { 4 } else { 3 };
        let fault = match self {
            Self::SilentLink if !quick => 25,
            Self::SilentLink | Self::Restart | Self::Wipe | Self::PausedLeader | Self::Crash => {
                if quick {
                    12
                } else {
                    20
                }
            }
            Self::FlushedScripts if !quick => 15,
            Self::PausedReplicas | Self::FlushedScripts => 5,
            Self::SlowClaim => 10,
            Self::PausedNode | Self::SilentNode | Self::SilentFeed | Self::LostRuntime => 3,
            Self::DeletedAgain => 12,
            Self::SlowBacklog => 6,
            Self::DeletedKey | Self::WipedPrefix => 0,
        };
        let fault = Duration::from_secs(fault)
            + match self {
                Self::PausedNode | Self::SilentNode | Self::SilentFeed => ttl,
                Self::LostRuntime => 2 * ttl,
                Self::PausedReplicas => 3 * ttl,
                _ => Duration::ZERO,
            };
        Duration::from_secs(start + 2) + fault + 3 * ttl
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_selects_its_variants() {
        assert_eq!(Schedule::named("A2").unwrap(), [Schedule::Restart, Schedule::Wipe]);
        assert_eq!(Schedule::named("A2-wiped").unwrap(), [Schedule::Wipe]);
        let error = Schedule::named("A").unwrap_err().to_string();
        assert!(error.contains("A2-wiped"), "{error}");
    }

    #[test]
    fn every_schedule_runs_somewhere() {
        for schedule in Schedule::ALL {
            assert!(Topology::ALL.into_iter().any(|topology| schedule.runs_on(topology)));
        }
    }
}
