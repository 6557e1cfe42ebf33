//! Opening a watch: the caller reads the log up to its end, then a feed takes over.
//!
//! Nothing is lost or repeated in between, and neither waits for the other. The caller reads the log from its cursor
//! to the end, C, on the command connection, then subscribes to the feed. If the feed has read the shard up to R,
//!
//! * at R <= C the feed skips the changes that the caller has read;
//! * at R > C the feed publishes the changes after R, and the caller continues reading from C to R;
//! * a feed that does not read the shard yet starts at C.

use crate::error::StoreError;
use crate::feed::{Feeds, Subscription};
use crate::history::{Entry, Position};
use crate::shard::{Shard, member};
use crate::skipped::warn_once;
use crate::store::{Page, Store};
use futures_util::{StreamExt, stream};
use registry_core::{BacklogEnd, Batch, Cursor, Lease, Origin, Result, ServiceName, Watch};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The limit of a watch's backlog in bytes when it is opened. A watch that missed more must load again.
const MAX_BACKLOG: usize = 1 << 30;

pub(crate) async fn watch(
    store: &Store,
    feeds: &Feeds,
    service: &ServiceName,
    after: &Cursor,
) -> Result<Watch> {
    let position = Position::of(&store.origin(service), after)?;
    let mut reader = LogReader::new(store, service, None, position);
    let Page { due, lineage, .. } = reader.read_to_end().await?;
    let watch = reader.follow(feeds, due, after.clone()).await?;
    Ok(watch.with_lineage(lineage))
}

/// Watches the record of a lease. The watch starts where that is the last acknowledged record.
pub(crate) async fn watch_record(store: &Store, feeds: &Feeds, lease: &Lease) -> Result<Watch> {
    let found = store.find_record(lease).await?;
    let instance = lease.instance();
    let reader = LogReader::new(store, instance.service(), Some(member(instance)), found.at);
    let after = reader.cursor();
    let watch = reader.follow(feeds, found.due, after).await?;
    Ok(watch.with_lineage(found.lineage))
}

/// Reads the log of a shard page by page, and collects the changes to one service or one of its records.
struct LogReader<'a> {
    store: &'a Store,
    service: &'a ServiceName,
    member: Option<String>,
    origin: Origin,
    shard: Shard,
    at: Position,
    backlog: Vec<Arc<Batch>>,
    /// The size of the changes in the backlog in bytes.
    backlog_size: usize,
    /// Whether an undecodable record was logged.
    has_warned: bool,
}

impl<'a> LogReader<'a> {
    fn new(
        store: &'a Store,
        service: &'a ServiceName,
        member: Option<String>,
        at: Position,
    ) -> Self {
        let (origin, shard) = (store.origin(service), store.client.keyspace().shard_of(service));
        let (backlog, backlog_size) = (Vec::new(), 0);
        let has_warned = false;
        Self { store, service, member, origin, shard, at, backlog, backlog_size, has_warned }
    }

    /// Returns a watch of the changes read after the cursor `after`, and of those that follow. The next lease
    /// of the shard expires in `due`.
    async fn follow(
        mut self,
        feeds: &Feeds,
        due: Option<Duration>,
        after: Cursor,
    ) -> Result<Watch, StoreError> {
        let (publisher, live) = Watch::channel(self.cursor(), Vec::new());
        let subscription = Subscription {
            shard: self.shard,
            service: self.service.clone(),
            member: self.member.clone(),
            origin: self.origin.clone(),
            at: self.at,
            due: due.map(|due| Instant::now() + due),
            publisher,
        };
        let live_from = feeds.subscribe(subscription).await?;
        self.read_up_to(live_from).await?;
        let backlog = self.into_backlog();
        let last = backlog.last().map_or_else(|| after.revision(), |batch| batch.revision());
        let watch = Watch::new(after, stream::iter(backlog).map(Ok).chain(live));
        Ok(watch.with_backlog_end(BacklogEnd::at(last)))
    }

    /// Reads to the end of the log. Returns the last page.
    async fn read_to_end(&mut self) -> Result<Page, StoreError> {
        loop {
            let page = self.store.read_log(self.shard, self.at).await?;
            for entry in &page.entries {
                self.apply(entry);
            }
            if self.at.revision >= page.end {
                return Ok(page);
            }
            if page.entries.is_empty() {
                return Err(StoreError::HistoryChanged);
            }
            if self.backlog_size > MAX_BACKLOG {
                return Err(StoreError::Compacted);
            }
        }
    }

    /// Reads up to `end`, the position of the feed.
    async fn read_up_to(&mut self, end: Position) -> Result<(), StoreError> {
        while self.at.revision < end.revision {
            let page = self.store.read_log(self.shard, self.at).await?;
            if page.entries.is_empty() {
                return Err(StoreError::HistoryChanged);
            }
            for entry in page.entries {
                if self.at.revision < end.revision {
                    self.apply(&entry);
                }
            }
        }
        // They differ only after a rollback in between, and either may be outdated.
        if self.at == end { Ok(()) } else { Err(StoreError::HistoryChanged) }
    }

    fn apply(&mut self, entry: &Entry) {
        self.at = entry.position();
        if self.member.as_ref().is_some_and(|member| member.as_bytes() != entry.member()) {
            return;
        }
        let report = |id: &_, why: &_| warn_once(&mut self.has_warned, self.service, id, why);
        if let Some(change) = entry.change(self.service, report) {
            self.backlog_size += entry.size();
            self.backlog.push(Arc::new(Batch::new(self.cursor(), vec![change])));
        }
    }

    fn cursor(&self) -> Cursor {
        self.at.cursor(&self.origin)
    }

    /// Returns the changes, followed by progress to the end of the log.
    fn into_backlog(mut self) -> Vec<Arc<Batch>> {
        self.backlog.push(Arc::new(Batch::progress(self.cursor())));
        self.backlog
    }
}
