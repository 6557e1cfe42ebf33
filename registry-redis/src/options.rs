//! The options of a registry.

use crate::shard::SHARDS;
use registry_core::{Error, ErrorKind, Result, Secret};
use std::time::Duration;

/// How a [`RedisRegistry`](crate::RedisRegistry) uses its server. The defaults suit a server nearby.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    pub(crate) request_deadline: Duration,
    pub(crate) connect_deadline: Duration,
    pub(crate) log_cap: u32,
    pub(crate) shards: u8,
    pub(crate) ack: Ack,
    pub(crate) sentinel_login: Option<(Option<String>, Secret)>,
}

/// Who must have a write before it is acknowledged.
///
/// Redis acknowledges what its primary has in memory, so that a crash or a failover may lose what was
/// acknowledged. The more is waited for, the less is lost, and never nothing: a failover may promote a
/// replica that was not among those that answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ack {
    /// The primary, in its memory.
    #[default]
    Primary,
    /// So many replicas besides, in their memories (`WAIT`).
    Replicas(u32),
    /// The primary on its disk, and so many replicas on theirs (`WAITAOF`): with Redis 7.2 or later, and
    /// `appendonly yes` everywhere. With `appendfsync everysec` a write waits a second for that, with `no`
    /// for longer than any deadline.
    Fsync {
        /// How many replicas besides the primary.
        replicas: u32,
    },
}

impl RedisOptions {
    /// Sets how long one request may take, before it fails `Unavailable` and its connection is given
    /// up. 2 s by default.
    ///
    /// Below the time the server takes to answer when it is busy or saves a large data set, calls
    /// fail that would have succeeded. Above a third of the ttl, a single request that hangs can
    /// cost a lease.
    #[must_use]
    pub fn with_request_deadline(mut self, deadline: Duration) -> Self {
        self.request_deadline = deadline;
        self
    }

    /// Sets how long it may take to connect and to log in, in front of a request. 2 s by default.
    ///
    /// Below a few round trips no connection ever succeeds. The longer it is, the longer a call
    /// hangs that finds the server's machine gone.
    #[must_use]
    pub fn with_connect_deadline(mut self, deadline: Duration) -> Self {
        self.connect_deadline = deadline;
        self
    }

    /// Sets how many changes of a shard are kept for watches that resume. 10,000 by default: with
    /// records of 500 bytes, 8 MB of the server's memory for each of the 16 shards that has so many.
    ///
    /// A watch that comes back after more of them is told `Compacted` and loads again. With few, every
    /// short outage of a reader becomes a load; below some 400 even a reader that keeps up may meet
    /// it, as the server trims a hundred at a time. All users of a prefix should agree in it.
    #[must_use]
    pub fn with_log_cap(mut self, changes: u32) -> Self {
        self.log_cap = changes;
        self
    }

    /// Sets who must have a write before it is acknowledged: the primary alone by default. A URL says it
    /// as `?ack=replicas:1`, `?ack=fsync` or `?ack=fsync:1`.
    ///
    /// A write that too few have in three quarters of the request deadline fails `Unavailable`: it stands
    /// on the primary, and is to be repeated. Writes go one after another then, over a connection of their
    /// own, each waiting for the replicas.
    #[must_use]
    pub fn with_ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// Sets who we are to the sentinels, where they ask for that. The user and the password of the URL
    /// are for the primary; `?sentinel_login=same` in it says that they are for the sentinels, too.
    #[must_use]
    pub fn with_sentinel_login(mut self, user: Option<String>, password: Secret) -> Self {
        self.sentinel_login = Some((user, password));
        self
    }

    /// Sets the number of shards, for tests. A prefix keeps the number it was first used with.
    #[doc(hidden)]
    #[must_use]
    pub fn with_shards(mut self, shards: u8) -> Self {
        self.shards = shards;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let deadlines = [self.request_deadline, self.connect_deadline];
        if deadlines.contains(&Duration::ZERO) {
            return Err(Error::new(ErrorKind::Invalid, "a deadline is longer than zero"));
        }
        if self.log_cap == 0 {
            return Err(Error::new(ErrorKind::Invalid, "a log keeps at least one change"));
        }
        if !(1..=SHARDS).contains(&self.shards) {
            let message = format!("a prefix has 1 to {SHARDS} shards, got=`{}`", self.shards);
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
            options().with_log_cap(0),
            options().with_shards(0),
            options().with_shards(17),
        ];
        for bad in bad {
            assert_eq!(bad.check().unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
    }
}
