//! A connection for blocking reads of logs.

use crate::connect::Address;
use crate::deadline::millis;
use crate::deadline::with_deadline;
use crate::error::StoreError;
use crate::history::RawEntry;
use redis::aio::MultiplexedConnection;
use std::time::Duration;

/// A connection for blocking reads of logs. Dropping it closes it, and ends a read in progress.
pub(crate) struct FeedConnection {
    address: Address,
    connection: MultiplexedConnection,
    /// How long the server blocks until a log grows.
    block: Duration,
    /// The deadline of a read.
    deadline: Duration,
}

/// What was read from one log: its key and the entries.
pub(crate) type RawLog = (String, Vec<RawEntry>);

impl FeedConnection {
    /// How long the server blocks at most.
    const MAX_BLOCK: Duration = Duration::from_secs(5);
    /// How many entries of each log come in one reply.
    const PAGE: usize = 256;

    pub(super) fn new(
        address: Address,
        connection: MultiplexedConnection,
        silence_timeout: Duration,
    ) -> Self {
        // A busy server needs a while for its reply, after the block. It takes a block of 0 for one without an end.
        let block = (silence_timeout / 2).clamp(Duration::from_millis(1), Self::MAX_BLOCK);
        Self { address, connection, block, deadline: silence_timeout }
    }

    /// Returns the address of the server.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Reads the entries of `logs` after the revision given for each. Waits until one of the logs has
    /// any; returns nothing if none does in time.
    pub(crate) async fn read(&mut self, logs: &[(String, u64)]) -> Result<Vec<RawLog>, StoreError> {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(Self::PAGE).arg("BLOCK").arg(millis(self.block));
        read.arg("STREAMS");
        for (log, _) in logs {
            read.arg(log);
        }
        for (_, revision) in logs {
            read.arg(format!("{revision}-0"));
        }
        let reply = read.query_async::<Option<Vec<RawLog>>>(&mut self.connection);
        Ok(with_deadline(self.deadline, reply).await?.unwrap_or_default())
    }
}
