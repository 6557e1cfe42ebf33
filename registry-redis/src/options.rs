//! The options of a registry.

use crate::shard::SHARDS;
use registry_core::{Error, ErrorKind, Result, Secret, Target, silence_timeout};
use std::time::Duration;

/// The shortest silence timeout derived from a ttl. The server is probed after half of it; a random delay and
/// a round trip must fit into the other half.
const MIN_SILENCE_TIMEOUT: Duration = Duration::from_millis(500);

/// The options of a [`RedisRegistry`](crate::RedisRegistry). The defaults suit a server in the same data center.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    pub(crate) request_deadline: Duration,
    pub(crate) connect_deadline: Duration,
    pub(crate) log_cap: u32,
    pub(crate) shards: u8,
    pub(crate) ack: Ack,
    pub(crate) is_reader: bool,
    pub(crate) silence_timeout: Option<Duration>,
    pub(crate) sentinel_login: Option<(Option<String>, Secret)>,
}

/// The servers that must have a write before it is acknowledged.
///
/// By default, Redis acknowledges a write that its primary has in memory, so a crash or a failover may lose
/// acknowledged writes. Waiting for more servers reduces lost writes, but does not eliminate them: a failover
/// may promote a replica that was not among those that acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ack {
    /// The primary, in its memory.
    #[default]
    Primary,
    /// The primary and at least this many replicas, in memory (`WAIT`).
    Replicas(u32),
    /// The primary and at least this many replicas, on disk (`WAITAOF`). Requires Redis 7.2 or later, and
    /// `appendonly yes` on each server. A write takes up to a second with `appendfsync everysec`, and longer
    /// than any deadline with `no`.
    Fsync {
        /// The number of replicas.
        replicas: u32,
    },
}

impl RedisOptions {
    /// Sets the deadline of one request, 2 s by default. A request that exceeds it fails `Unavailable`, and
    /// its connection is closed.
    ///
    /// If the deadline is shorter than a busy or saving server needs, calls fail that would have succeeded.
    /// If it is longer than a third of the ttl, a single hanging request can cost a lease.
    #[must_use]
    pub fn with_request_deadline(mut self, deadline: Duration) -> Self {
        self.request_deadline = deadline;
        self
    }

    /// Sets the deadline for connecting and logging in, 2 s by default. It is separate from the request's deadline.
    ///
    /// With less than a few round trips, no connection succeeds. A longer deadline makes calls hang for
    /// longer if the server's machine is gone.
    #[must_use]
    pub fn with_connect_deadline(mut self, deadline: Duration) -> Self {
        self.connect_deadline = deadline;
        self
    }

    /// Sets how many changes the log of a shard keeps for resuming watches, 10,000 by default. With records
    /// of 500 bytes, a full log takes 8 MB of the server's memory; there are 16 shards.
    ///
    /// A watch that resumes after more changes fails `Compacted`, and its client loads again. With a small log,
    /// every short outage of a client causes a load. Below about 400 changes, even a client that keeps up may fail
    /// so, since the server trims a hundred entries at a time. All clients of a prefix should use the same value.
    #[must_use]
    pub fn with_log_cap(mut self, changes: u32) -> Self {
        self.log_cap = changes;
        self
    }

    /// Sets which servers must have a write before it is acknowledged: only the primary by default. In a URL
    /// it is `?ack=replicas:1`, `?ack=fsync` or `?ack=fsync:1`.
    ///
    /// A write that too few servers have within three quarters of the request deadline fails `Unavailable`:
    /// the primary has it, and the caller should retry it. With this option, writes use a separate
    /// connection, on which each waits for the previous one. Renewals wait only for the primary: losing one
    /// in a failover costs the lease part of its ttl.
    #[must_use]
    pub fn with_ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// Makes the registry read-only. It uses only commands with which the server allows no changes (`EVAL_RO`, Redis
    /// 7.0). In a URL it is `?access=read`. See the permissions of a reader in the documentation of this crate.
    ///
    /// It does not list an instance whose lease has expired. Its watches report the expiry once an owner's
    /// call has recorded it. Registrations are `Denied`.
    #[must_use]
    pub fn with_read_only(mut self) -> Self {
        self.is_reader = true;
        self
    }

    /// Sets how long a watch waits for a silent server before it ends `Unavailable`. Defaults to two thirds
    /// of the [ttl of the URL](Target::ttl) or of the default ttl, and at least 500 ms. A watch also ends if
    /// its shard executes no script for as long, since no lease can be renewed there.
    ///
    /// The server sends something after half of this time, 5 s at most. If the other half is shorter than a
    /// busy server needs, working watches end. If the timeout is longer than the ttl, a view may treat live
    /// instances as dead before it is marked stale.
    #[must_use]
    pub fn with_silence_timeout(mut self, timeout: Duration) -> Self {
        self.silence_timeout = Some(timeout);
        self
    }

    /// Sets the credentials for the sentinels, if they require any. The user and the password of the URL are
    /// for the primary only, unless it has `?sentinel_login=same`.
    #[must_use]
    pub fn with_sentinel_login(mut self, user: Option<String>, password: Secret) -> Self {
        self.sentinel_login = Some((user, password));
        self
    }

    /// Sets the number of shards, for tests. A prefix keeps the number of its first use.
    #[doc(hidden)]
    #[must_use]
    pub fn with_shards(mut self, shards: u8) -> Self {
        self.shards = shards;
        self
    }

    /// Returns how long a watch waits for a silent server, for a registry with that URL.
    pub(crate) fn silence_timeout(&self, target: &Target) -> Duration {
        self.silence_timeout
            .unwrap_or_else(|| silence_timeout(target.ttl()).max(MIN_SILENCE_TIMEOUT))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let deadlines =
            [Some(self.request_deadline), Some(self.connect_deadline), self.silence_timeout];
        if deadlines.contains(&Some(Duration::ZERO)) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "a deadline or timeout of 0 was set: set one above 0",
            ));
        }
        if self.log_cap == 0 {
            return Err(Error::new(ErrorKind::Invalid, "the log cap is 0: set at least 1 change"));
        }
        if !(1..=SHARDS).contains(&self.shards) {
            let message =
                format!("the number of shards must be 1 to {SHARDS}, got=`{}`", self.shards);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(())
    }
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            request_deadline: Duration::from_secs(2),
            connect_deadline: Duration::from_secs(2),
            log_cap: 10_000,
            shards: SHARDS,
            ack: Ack::Primary,
            is_reader: false,
            silence_timeout: None,
            sentinel_login: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_cannot_work_are_refused() {
        let options = RedisOptions::default;
        assert!(options().check().is_ok());
        let bad = [
            options().with_request_deadline(Duration::ZERO),
            options().with_connect_deadline(Duration::ZERO),
            options().with_silence_timeout(Duration::ZERO),
            options().with_log_cap(0),
            options().with_shards(0),
            options().with_shards(17),
        ];
        for bad in bad {
            assert_eq!(bad.check().unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
    }
}
