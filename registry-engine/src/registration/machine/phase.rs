//! The phases of a registration.

use registry_core::{Holder, Lease, Result};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) enum Phase {
    /// No claim was acknowledged yet. Only here may a claim displace a holder.
    Registering { since: Instant, takeover: StartTakeover },
    /// A lease is held and renewed.
    Active {
        lease: Lease,
        /// When the last acknowledged request was sent.
        renewed: Instant,
        /// Whether the store may hold another instance than the desired one.
        update_pending: bool,
    },
    /// The lease is lost or presumed expired. The instance is registered again.
    Retrying {
        /// Since when the status says so. It says so once the first request is sent.
        since: Option<Instant>,
        /// The lease that is presumed expired. `None`: the store reported it lost.
        expired: Option<Lease>,
    },
    /// Another incarnation holds the id.
    Superseded {
        /// The holder that is watched. `None`: the next request is sent when it is due.
        holder: Option<Holder>,
        /// A holder that the watch said is gone. It is not watched if the store still names it.
        released: Option<Holder>,
    },
    /// The instance is being withdrawn. No deadline is an unlimited stop timeout.
    Stopping { lease: Option<Lease>, deadline: Option<Instant> },
    /// The registration ended. The outcome is that of the withdrawal.
    Stopped(Result<()>),
}

/// Whom the start displaces: the holder that it reads before its first write, and nobody else.
///
/// The order in which claims reach the store decides which incarnation is the newest. A claim that the read does not
/// show was applied after it, so the start yields to that. A claim may be applied though its reply is lost, so a start that
/// learned the holder from the refusal of its repeat would displace the incarnation that displaced it.
#[derive(Clone, Copy, Debug)]
pub(super) enum StartTakeover {
    /// The holder is to be read. Until then nothing is written.
    Unread,
    /// Takeover is off, or the id was vacant.
    No,
    From(Holder),
}

/// What the task performs now, unless it waits.
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

    /// Returns since when the status is `Retrying`, if it is.
    pub(super) fn retrying_since(&self) -> Option<Instant> {
        match self {
            Self::Registering { since, .. } => Some(*since),
            Self::Retrying { since, .. } => *since,
            _ => None,
        }
    }

    /// Returns when the lease is presumed expired, if one is held.
    pub(super) fn expiry(&self) -> Option<Instant> {
        match self {
            Self::Active { lease, renewed, .. } => Some(*renewed + lease.ttl()),
            _ => None,
        }
    }

    /// Returns how long the lease is still valid, if one is held that is not presumed expired.
    pub(super) fn remaining(&self, now: Instant) -> Option<Duration> {
        self.expiry().filter(|expiry| now < *expiry).map(|expiry| expiry - now)
    }
}
