//! How a watch is opened: its caller catches up, then the feed takes over.
//!
//! The two meet without a gap and without a wait. The caller reads the log from its cursor to the end,
//! C, on the command connection, and asks the feed to publish to it. Where the feed has come to R in
//! that shard,
//!
//! * at R <= C it leaves out what the caller has read already;
//! * at R > C it publishes what follows R, and the caller reads on from C to R;
//! * if it does not read the shard yet, it begins at C.

use crate::error::Fault;
use crate::feed::Join;
use crate::history::{Entry, Position};
use crate::shard::Shard;
use crate::store::Store;
use futures_util::{StreamExt, stream};
use registry_core::{Batch, Cursor, Origin, Result, ServiceName, Watch};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How many entries are read in one call. At 64 KiB each at most, they are a reply of 16 MiB.
const PAGE: usize = 256;

pub(crate) async fn watch(
    store: &Arc<Store>,
    service: &ServiceName,
    after: &Cursor,
) -> Result<Watch> {
    let origin = store.origin(service);
    let shard = store.link.keyspace().shard_of(service);
    let at = Position::of(&origin, after)?;
    let mut reader = Reader { store, service, origin, shard, at, backlog: Vec::new() };

    let due = reader.read_to_end().await?;
    let (publisher, live) = Watch::channel(reader.cursor(), Vec::new());
    let join = Join {
        shard,
        service: service.clone(),
        origin: reader.origin.clone(),
        at: reader.at,
        due: due.map(|due| Instant::now() + due),
        publisher,
    };
    let live_from = store.feed(shard).join(store, join).await?;
    reader.read_up_to(live_from).await?;

    Ok(Watch::new(after.clone(), stream::iter(reader.into_backlog()).map(Ok).chain(live)))
}

/// Reads the log of a shard page by page, and keeps what concerns one service.
struct Reader<'a> {
    store: &'a Store,
    service: &'a ServiceName,
    origin: Origin,
    shard: Shard,
    at: Position,
    backlog: Vec<Batch>,
}

impl Reader<'_> {
    /// Reads all there is. Returns when the next lease of the shard falls due.
    async fn read_to_end(&mut self) -> Result<Option<Duration>, Fault> {
        loop {
            let page = self.store.open(self.shard, self.at, PAGE).await?;
            for entry in page.entries {
                self.take(&entry);
            }
            if self.at.revision >= page.end {
                return Ok(page.due);
            }
        }
    }

    /// Reads up to `end`, which the feed has read already.
    async fn read_up_to(&mut self, end: Position) -> Result<(), Fault> {
        while self.at.revision < end.revision {
            let page = self.store.open(self.shard, self.at, PAGE).await?;
            if page.entries.is_empty() {
                return Err(Fault::Unsettled);
            }
            for entry in page.entries {
                if self.at.revision < end.revision {
                    self.take(&entry);
                }
            }
        }
        // Only a rollback in this very moment makes them differ, and who is right is not known.
        if self.at == end { Ok(()) } else { Err(Fault::Unsettled) }
    }

    fn take(&mut self, entry: &Entry) {
        self.at = entry.position();
        if let Some(change) = entry.change(self.service) {
            self.backlog.push(Batch::new(self.cursor(), vec![change]));
        }
    }

    fn cursor(&self) -> Cursor {
        self.at.cursor(&self.origin)
    }

    /// What was read, with its end: a watch is not held up by where its last change was.
    fn into_backlog(mut self) -> Vec<Batch> {
        self.backlog.push(Batch::progress(self.cursor()));
        self.backlog
    }
}
