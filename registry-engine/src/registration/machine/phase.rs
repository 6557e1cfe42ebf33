//! The phases of a registration.

use registry_core::{Holder, Lease, Result};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) enum Phase {
    /// No claim was acknowledged yet. Only in this phase may a claim take over from a holder.
    Registering { since: Instant, takeover: StartTakeover },
    /// A lease is held and renewed.
    Active {
        lease: Lease,
        /// When the last acknowledged request was sent.
        renewed: Instant,
        /// Whether the store may hold another instance than the desired one.
        update_pending: bool,
    },
    /// The lease is lost or presumed expired, and the instance is being registered again.
    Retrying {
        /// When the status was set to `Retrying`. `None` until it is.
        since: Option<Instant>,
        /// The lease that is presumed expired. `None` if the store reported it lost.
        expired: Option<Lease>,
    },
    /// Another incarnation holds the id.
    Superseded {
        /// The holder whose release is watched. `None` if only the next request finds out.
        holder: Option<Holder>,
        /// A holder that the watch reported as gone. If the store still names it, the watch is not trusted for it
        /// again.
        released: Option<Holder>,
    },
    /// The instance is being withdrawn. There is no deadline if the stop timeout is unlimited.
    Stopping { lease: Option<Lease>, deadline: Option<Instant> },
    /// The registration ended. The outcome is that of the withdrawal.
    Stopped(Result<()>),
}

/// The takeover of the start: it may displace only the holder that it reads before its first write.
///
/// The order in which claims reach the store decides which incarnation is the newest. A claim that is applied after the
/// read is newer, so the start yields to it. The start must not take the holder from a refused claim instead: if an
/// earlier claim was applied but its reply was lost, the refusal would name the newer incarnation that displaced this
/// one.
#[derive(Clone, Copy, Debug)]
pub(super) enum StartTakeover {
    /// The holder must be read before anything is written.
    Unread,
    /// Takeover is off, or the id was vacant.
    No,
    From(Holder),
}

/// The action that the task is performing, unless it waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum InFlight {
    ReadHolder,
    Register,
    Renew,
    Schedule,
    Deregister,
}

impl Phase {
    /// Returns the last granted lease, unless the store reported it lost.
    pub(super) fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Active { lease, .. } => Some(lease),
            Self::Retrying { expired: lease, .. } | Self::Stopping { lease, .. } => lease.as_ref(),
            Self::Registering { .. } | Self::Superseded { .. } | Self::Stopped(_) => None,
        }
    }

    /// Returns when the status was set to `Retrying`, if it is.
    pub(super) fn retrying_since(&self) -> Option<Instant> {
        match self {
            Self::Registering { since, .. } => Some(*since),
            Self::Retrying { since, .. } => *since,
            _ => None,
        }
    }

    /// Returns when the held lease expires, if there is one.
    pub(super) fn expiry(&self) -> Option<Instant> {
        match self {
            Self::Active { lease, renewed, .. } => Some(*renewed + lease.ttl()),
            _ => None,
        }
    }

    /// Returns the remaining time of the held lease, if there is one that has not expired.
    pub(super) fn remaining(&self, now: Instant) -> Option<Duration> {
        self.expiry().filter(|expiry| now < *expiry).map(|expiry| expiry - now)
    }
}
