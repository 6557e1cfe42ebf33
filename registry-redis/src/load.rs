//! How a service is loaded: page by page, and brought to one revision.
//!
//! Redis keeps no old revisions, so that the pages of a large service differ in theirs. The log says what
//! happened in between. It is followed from the first page to the last, and what it says of an instance
//! counts where it is newer than the page that showed it. The history must lead through every page's
//! position, or a failover came in between.

use crate::error::Fault;
use crate::history::{Digest, Entry, Gap, Position, decode};
use crate::scripts;
use crate::shard::{Shard, member_id};
use crate::store::Store;
use futures_util::future::join;
use registry_core::{Change, Instance, InstanceId, ServiceName, Snapshot};
use std::collections::BTreeMap;
use tokio::task::yield_now;

/// How many records are read in one call: with 500 bytes each, that takes the server 1.5 ms, in which it
/// serves nobody else.
const PAGE: usize = 1000;

/// How many entries of the log are read in one call.
const LOG_PAGE: usize = 256;

/// How often a load begins again whose history did not lead on, before its caller is told.
const TRIES: usize = 3;

/// Reads a service as of one revision.
pub(crate) async fn load(store: &Store, service: &ServiceName) -> Result<Snapshot, Fault> {
    for _ in 0..TRIES {
        let loading = Loading { store, service, shard: store.link.keyspace().shard_of(service) };
        match loading.load().await {
            // More was written meanwhile than the log keeps, or there was a failover.
            Err(Fault::Compacted | Fault::Diverged) => {}
            outcome => return outcome,
        }
    }
    Err(Fault::Unsettled)
}

/// What a look at all records of a service comes to.
pub(crate) struct Surveyed {
    pub(crate) instances: usize,
    /// The names of those that cannot be decoded: `service/id`.
    pub(crate) unreadable: Vec<String>,
}

/// Looks at all records of a service, page by page.
pub(crate) async fn survey(store: &Store, service: &ServiceName) -> Result<Surveyed, Fault> {
    let loading = Loading { store, service, shard: store.link.keyspace().shard_of(service) };
    let (mut rows, mut nameless, mut last) = (Vec::new(), 0, Vec::new());
    loop {
        let page = loading.page(&last).await?;
        nameless += loading.decode(&page, &mut rows);
        match page.members.last() {
            Some(member) if !page.is_last => last.clone_from(member),
            _ => break,
        }
    }
    let unnamed = std::iter::repeat_n(format!("{service}/?"), nameless);
    let unreadable = rows.iter().filter(|(_, row)| row.instance.is_none());
    let unreadable: Vec<_> =
        unreadable.map(|(id, _)| format!("{service}/{id}")).chain(unnamed).collect();
    let instances = rows.len() + nameless - unreadable.len();
    Ok(Surveyed { instances, unreadable })
}

struct Loading<'a> {
    store: &'a Store,
    service: &'a ServiceName,
    shard: Shard,
}

/// What one call reads.
struct Page {
    at: Position,
    is_last: bool,
    members: Vec<Vec<u8>>,
    values: Vec<Option<Vec<u8>>>,
}

/// An instance as a page showed it, and the revision it was put at; without a record if that cannot be
/// decoded.
struct Row {
    put_at: u64,
    instance: Option<Instance>,
}

impl Loading<'_> {
    async fn load(&self) -> Result<Snapshot, Fault> {
        let mut page = self.page(b"").await?;
        let mut positions = vec![page.at];
        let mut rows = Vec::with_capacity(page.members.len());
        let mut nameless = 0;
        while !page.is_last {
            let last = page.members.last().cloned().unwrap_or_default();
            // The server reads the next page while this one is decoded: once the request is on its way.
            let decode = async {
                yield_now().await;
                nameless += self.decode(&page, &mut rows);
            };
            let (next, ()) = join(self.page(&last), decode).await;
            page = next?;
            positions.push(page.at);
        }
        nameless += self.decode(&page, &mut rows);
        let at = self.settle(&positions, &mut rows).await?;
        let cursor = at.cursor(&self.store.origin(self.service));
        let count = rows.len() + nameless;
        let instances: Vec<Instance> =
            rows.into_iter().filter_map(|(_, row)| row.instance).collect();
        let undecodable = count - instances.len();
        Ok(Snapshot::new(cursor, instances).with_undecodable(undecodable))
    }

    /// Reads the page after a member.
    async fn page(&self, after: &[u8]) -> Result<Page, Fault> {
        type Reply = (String, u64, String, u8, Vec<Vec<u8>>, Vec<Option<Vec<u8>>>);
        loop {
            let (seed, len) = (Digest::random().to_string(), PAGE.to_string());
            let args = [self.service.as_str().as_bytes(), seed.as_bytes(), len.as_bytes(), after];
            let (status, revision, digest, more, members, values): Reply =
                self.store.link.run(&scripts::LOAD, self.shard, &args).await?;
            match status.as_str() {
                "OK" => {
                    let digest = digest.parse().map_err(|_| Fault::Reply(digest))?;
                    let at = Position { revision, digest };
                    return Ok(Page { at, is_last: more == 0, members, values });
                }
                "DUE" => {}
                _ => return Err(Fault::Reply(status)),
            }
        }
    }

    /// Adds what a page shows. Gives how many have no name that an instance could have.
    fn decode(&self, page: &Page, rows: &mut Vec<(InstanceId, Row)>) -> usize {
        let before = rows.len();
        rows.extend(page.members.iter().zip(&page.values).filter_map(|(member, value)| {
            let id = member_id(self.service, member)?;
            let row = read(self.service, &id, value.as_deref().unwrap_or_default());
            Some((id, row))
        }));
        page.members.len() - (rows.len() - before)
    }

    /// Brings pages read at these positions to one position.
    async fn settle(
        &self,
        positions: &[Position],
        rows: &mut Vec<(InstanceId, Row)>,
    ) -> Result<Position, Fault> {
        let [mut at, .., end] = *positions else { return Ok(positions[0]) };
        let mut news = BTreeMap::new();
        let mut left = positions.iter().peekable();
        let mut pass = |at: Position| -> Result<(), Fault> {
            while let Some(position) = left.next_if(|position| position.revision <= at.revision) {
                if *position != at {
                    return Err(Gap::Forked.into());
                }
            }
            Ok(())
        };
        pass(at)?;
        while at.revision < end.revision {
            let page = self.store.open(self.shard, at, LOG_PAGE).await?;
            if page.entries.is_empty() {
                return Err(Gap::Missing.into());
            }
            for entry in page.entries {
                at = entry.position();
                pass(at)?;
                self.note(&entry, &mut news);
            }
        }
        if left.next().is_some() {
            return Err(Gap::Forked.into()); // a page was further on than the last one
        }
        merge(rows, news);
        Ok(at)
    }

    /// Notes what an entry says of an instance of the service.
    fn note(&self, entry: &Entry, news: &mut BTreeMap<InstanceId, (u64, Option<Row>)>) {
        let Some(id) = member_id(self.service, entry.member()) else { return };
        let put_at = entry.position().revision;
        let row = entry.is_put().then(|| match entry.change(self.service) {
            Some(Change::Put(instance)) => Row { put_at, instance: Some(instance) },
            _ => Row { put_at, instance: None },
        });
        news.insert(id, (put_at, row));
    }
}

/// Brings what pages showed up to date.
fn merge(rows: &mut Vec<(InstanceId, Row)>, mut news: BTreeMap<InstanceId, (u64, Option<Row>)>) {
    if news.is_empty() {
        return;
    }
    let old = std::mem::take(rows);
    for (id, row) in old {
        match news.remove(&id) {
            // The page was read after that.
            Some((revision, _)) if revision <= row.put_at => rows.push((id, row)),
            Some((_, newer)) => rows.extend(newer.map(|newer| (id, newer))),
            None => rows.push((id, row)),
        }
    }
    rows.extend(news.into_iter().filter_map(|(id, (_, newer))| Some((id, newer?))));
}

/// Reads a value of `inst`: `<mrev> <lease> <ttl> <record>`. One that is not of that form is none of this
/// library, and older than all that is.
fn read(service: &ServiceName, id: &InstanceId, value: &[u8]) -> Row {
    let mut parts = value.splitn(4, |byte| *byte == b' ');
    let put_at = parts.next().and_then(|mrev| str::from_utf8(mrev).ok()?.parse().ok());
    let record = parts.nth(2).unwrap_or_default();
    Row { put_at: put_at.unwrap_or_default(), instance: decode(service, id, record) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, put_at: u64) -> (InstanceId, Row) {
        (id.parse().unwrap(), Row { put_at, instance: None })
    }

    fn merged(shown: &[(&str, u64)], news: &[(&str, u64, bool)]) -> Vec<(String, u64)> {
        let mut rows = shown.iter().map(|(id, at)| row(id, *at)).collect();
        let news = news.iter().map(|(id, at, is_put)| {
            let (id, row) = row(id, *at);
            (id, (*at, is_put.then_some(row)))
        });
        merge(&mut rows, news.collect());
        rows.into_iter().map(|(id, row)| (id.to_string(), row.put_at)).collect()
    }

    #[test]
    fn what_the_log_says_counts_where_it_is_newer_than_the_page() {
        let shown = [("a", 3), ("b", 7), ("c", 2)];
        let pair = |id: &str, at| (id.to_owned(), at);
        assert_eq!(merged(&shown, &[]), shown.map(|(id, at)| pair(id, at)));
        // Put again, put before the page was read, deleted, and put where no page showed it.
        let news = [("a", 5, true), ("b", 6, true), ("c", 8, false), ("d", 9, true)];
        assert_eq!(merged(&shown, &news), [pair("a", 5), pair("b", 7), pair("d", 9)]);
        // Deleted before the page showed it again; and put and deleted between two pages.
        let news = [("b", 6, false), ("e", 9, false)];
        assert_eq!(merged(&shown, &news), [pair("a", 3), pair("b", 7), pair("c", 2)]);
    }
}
