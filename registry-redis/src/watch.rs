//! Opening a watch: the caller catches up with the log, then a feed takes over.
//!
//! Nothing is lost or repeated between them, and neither waits for the other. The caller reads the log from
//! its cursor to the end, C, on the command connection, and subscribes to the feed. If the feed has
//! read up to R in that shard,
//!
//! * at R <= C the feed leaves out the changes that the caller has read;
//! * at R > C the feed publishes the changes after R, and the caller reads on from C to R;
//! * a feed that does not read the shard yet begins at C.

use crate::error::StoreError;
use crate::feed::{Feeds, Subscription};
use crate::history::{Entry, Position};
use crate::shard::Shard;
use crate::store::Store;
use futures_util::{StreamExt, stream};
use registry_core::{Batch, Cursor, Origin, Result, ServiceName, Watch};
use std::time::Duration;
use tokio::time::Instant;

/// How many entries are read in one call. At 64 KiB each at most, the reply is below 16 MiB.
const PAGE: usize = 256;

pub(crate) async fn watch(
    store: &Store,
    feeds: &Feeds,
    service: &ServiceName,
    after: &Cursor,
) -> Result<Watch> {
    let origin = store.origin(service);
    let shard = store.client.keyspace().shard_of(service);
    let at = Position::of(&origin, after)?;
    let mut reader = LogReader { store, service, origin, shard, at, backlog: Vec::new() };

    let due = reader.read_to_end().await?;
    let (publisher, live) = Watch::channel(reader.cursor(), Vec::new());
    let subscription = Subscription {
        shard,
        service: service.clone(),
        origin: reader.origin.clone(),
        at: reader.at,
        due: due.map(|due| Instant::now() + due),
        publisher,
    };
    let live_from = feeds.subscribe(subscription).await?;
    reader.read_up_to(live_from).await?;

    Ok(Watch::new(after.clone(), stream::iter(reader.into_backlog()).map(Ok).chain(live)))
}

/// Reads the log of a shard page by page, and keeps the changes to one service.
struct LogReader<'a> {
    store: &'a Store,
    service: &'a ServiceName,
    origin: Origin,
    shard: Shard,
    at: Position,
    backlog: Vec<Batch>,
}

impl LogReader<'_> {
    /// Reads to the end. Returns in what time the next lease of the shard expires.
    async fn read_to_end(&mut self) -> Result<Option<Duration>, StoreError> {
        loop {
            let page = self.store.read_log(self.shard, self.at, PAGE).await?;
            for entry in page.entries {
                self.apply(&entry);
            }
            if self.at.revision >= page.end {
                return Ok(page.due);
            }
        }
    }

    /// Reads up to `end`, the position of the feed.
    async fn read_up_to(&mut self, end: Position) -> Result<(), StoreError> {
        while self.at.revision < end.revision {
            let page = self.store.read_log(self.shard, self.at, PAGE).await?;
            if page.entries.is_empty() {
                return Err(StoreError::HistoryChanged);
            }
            for entry in page.entries {
                if self.at.revision < end.revision {
                    self.apply(&entry);
                }
            }
        }
        // They differ only if a rollback happened meanwhile, and either may be the outdated one.
        if self.at == end { Ok(()) } else { Err(StoreError::HistoryChanged) }
    }

    fn apply(&mut self, entry: &Entry) {
        self.at = entry.position();
        if let Some(change) = entry.change(self.service) {
            self.backlog.push(Batch::new(self.cursor(), vec![change]));
        }
    }

    fn cursor(&self) -> Cursor {
        self.at.cursor(&self.origin)
    }

    /// Returns the changes, and progress to the end of the log.
    fn into_backlog(mut self) -> Vec<Batch> {
        self.backlog.push(Batch::progress(self.cursor()));
        self.backlog
    }
}
