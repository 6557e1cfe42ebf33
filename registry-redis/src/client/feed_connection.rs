//! Connections for blocking reads of logs.

use crate::connect::{Address, Link};
use crate::deadline::{millis, while_receiving};
use crate::error::StoreError;
use crate::history::RawEntry;
use std::time::Duration;
use tokio::time::Instant;

/// A connection for blocking reads of logs. Dropping it closes it and ends a read in flight.
pub(crate) struct FeedConnection {
    address: Address,
    link: Link,
    /// How long the server blocks until a log has new entries.
    block: Duration,
    /// The deadline of a read.
    deadline: Duration,
}

/// The entries read from one log, and its key.
pub(crate) type RawLog = (String, Vec<RawEntry>);

impl FeedConnection {
    /// The longest time that the server blocks.
    const MAX_BLOCK: Duration = Duration::from_secs(5);
    /// The limit of entries per reply, for all logs and for each one. At 64 KiB each, the largest reply has 64 MiB.
    const MAX_ENTRIES: usize = 1024;
    const MAX_PAGE: usize = 256;

    pub(super) fn new(address: Address, link: Link, silence_timeout: Duration) -> Self {
        // A busy server replies some time after the block. A block of 0 would never end.
        let block = (silence_timeout / 2).clamp(Duration::from_millis(1), Self::MAX_BLOCK);
        Self { address, link, block, deadline: silence_timeout }
    }

    /// Returns the address of the server.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Reads the entries of `logs` after the revision given for each. Waits until one of the logs has any;
    /// returns nothing if none has in time.
    pub(crate) async fn read(&mut self, logs: &[(String, u64)]) -> Result<Vec<RawLog>, StoreError> {
        let mut read = redis::cmd("XREAD");
        let page = (Self::MAX_ENTRIES / logs.len().max(1)).clamp(1, Self::MAX_PAGE);
        read.arg("COUNT").arg(page).arg("BLOCK").arg(millis(self.block));
        read.arg("STREAMS");
        for (log, _) in logs {
            read.arg(log);
        }
        for (_, revision) in logs {
            read.arg(format!("{revision}-{}", u64::MAX));
        }
        let (mut requests, traffic) = (self.link.requests(), self.link.traffic());
        let reply = read.query_async::<Option<Vec<RawLog>>>(&mut requests);
        let start = Instant::now();
        match while_receiving(self.deadline, traffic, reply).await {
            // Otherwise a server that does not block would be polled in a busy loop.
            Ok(None) if start.elapsed() < self.block / 2 => Err(StoreError::FeedEnded),
            Ok(logs) => Ok(logs.unwrap_or_default()),
            Err(error) => Err(traffic.explain(error).at(&self.address)),
        }
    }
}
