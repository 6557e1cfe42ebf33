//! Loads of a service: page by page, then reconciled to one revision.
//!
//! Redis keeps no old revisions, so the pages of a large service show different ones. The log has the changes
//! between them. It is read from the revision of the first page to that of the last, and a change applies if
//! it is newer than the page that contained the instance. The history must contain the position of every
//! page; otherwise there was a failover between two pages.

use crate::error::StoreError;
use crate::history::{Entry, Gap, Position};
use crate::scripts;
use crate::shard::{Shard, member_id};
use crate::skipped::Skipped;
use crate::store::{MAX_DUE_CALLS, Store};
use crate::value::{Content, Value};
use futures_util::future::join;
use registry_core::{InstanceId, Lineage, Record, ServiceName, Snapshot};
use std::collections::BTreeMap;
use tokio::task::yield_now;

/// How many records one call reads. At 500 bytes each, they occupy the server for 1.5 ms.
const PAGE: usize = 1000;

/// The limit of record pages, and of log pages, per load: 4,000,000 records and 1,000,000 changes.
const MAX_PAGES: usize = 4000;

/// The limit of attempts if the history changes during a load.
const MAX_ATTEMPTS: usize = 3;

/// Reads a service as of one revision.
pub(crate) async fn load(store: &Store, service: &ServiceName) -> Result<Snapshot, StoreError> {
    for _ in 0..MAX_ATTEMPTS {
        let loader = Loader { store, service, shard: store.client.keyspace().shard_of(service) };
        match loader.load().await {
            // More changes were written during the load than the log keeps, or there was a failover.
            Err(StoreError::Compacted | StoreError::Diverged) => {}
            outcome => return outcome,
        }
    }
    Err(StoreError::HistoryChanged)
}

/// The numbers of decodable and undecodable records of a service.
pub(crate) struct Survey {
    pub(crate) instances: usize,
    /// The undecodable records, as `service/id`.
    pub(crate) unreadable: Vec<String>,
}

/// Reads all records of a service, page by page.
pub(crate) async fn survey(store: &Store, service: &ServiceName) -> Result<Survey, StoreError> {
    let loader = Loader { store, service, shard: store.client.keyspace().shard_of(service) };
    let (mut rows, mut unnamed, mut last) = (Vec::new(), 0, Vec::new());
    for _ in 0..MAX_PAGES {
        let page = loader.page(&last).await?;
        unnamed += loader.decode(&page, &mut rows);
        match page.last {
            Some(member) => last = member,
            None => break,
        }
    }
    let without_name = std::iter::repeat_n(format!("{service}/?"), unnamed);
    let unreadable = rows.iter().filter(|(_, row)| matches!(row.content, Content::Undecodable(_)));
    let unreadable: Vec<_> =
        unreadable.map(|(id, _)| format!("{service}/{id}")).chain(without_name).collect();
    let instances = rows.len() + unnamed - unreadable.len();
    Ok(Survey { instances, unreadable })
}

struct Loader<'a> {
    store: &'a Store,
    service: &'a ServiceName,
    shard: Shard,
}

/// The records read by one call.
struct Page {
    at: Position,
    lineage: Lineage,
    /// The member before the next page, if there is one.
    last: Option<Vec<u8>>,
    members: Vec<Vec<u8>>,
    values: Vec<Option<Vec<u8>>>,
}

/// A record and the revision of its put.
struct Row {
    put_revision: u64,
    content: Content,
}

impl Loader<'_> {
    async fn load(&self) -> Result<Snapshot, StoreError> {
        let mut page = self.page(b"").await?;
        let mut positions = vec![page.at];
        let mut rows = Vec::with_capacity(page.members.len());
        let mut unnamed = 0;
        while let Some(last) = page.last.take() {
            // This page is decoded while the server reads the next one, so the request must be sent first.
            let decode = async {
                yield_now().await;
                unnamed += self.decode(&page, &mut rows);
            };
            let (next, ()) = join(self.page(&last), decode).await;
            page = next?;
            positions.push(page.at);
            if positions.len() > MAX_PAGES {
                return Err(StoreError::Endless("records"));
            }
        }
        unnamed += self.decode(&page, &mut rows);
        let position = self.reconcile(&positions, &mut rows).await?;
        let cursor = position.cursor(&self.store.origin(self.service));
        let (records, skipped) = split(rows, unnamed);
        skipped.warn(self.service);
        let snapshot = Snapshot::new(cursor, records).with_undecodable(skipped.count);
        Ok(snapshot.with_lineage(page.lineage))
    }

    /// Reads the page after the member `after`.
    async fn page(&self, after: &[u8]) -> Result<Page, StoreError> {
        type Reply = (String, u64, String, String, Vec<u8>, Vec<Vec<u8>>, Vec<Option<Vec<u8>>>);
        for _ in 0..MAX_DUE_CALLS {
            let (service, len) = (self.service.as_str().as_bytes(), PAGE.to_string());
            let args = [b"", b"", service, len.as_bytes(), after];
            let (status, revision, digest, lineage, last, members, values): Reply =
                self.store.client.run(&scripts::LOAD, self.shard, &args).await?;
            match status.as_str() {
                "OK" => {
                    let digest = digest.parse().map_err(|_| StoreError::UnexpectedReply(digest))?;
                    let at = Position { revision, digest };
                    let (lineage, last) = (Lineage::new(lineage), Some(last));
                    let last = last.filter(|last| !last.is_empty());
                    if last.as_deref().is_some_and(|last| last <= after) {
                        break;
                    }
                    return Ok(Page { at, lineage, last, members, values });
                }
                "DUE" => {}
                _ => return Err(StoreError::UnexpectedReply(status)),
            }
        }
        Err(StoreError::Endless("records"))
    }

    /// Decodes a page into `rows`. Returns the number of members without a valid name.
    fn decode(&self, page: &Page, rows: &mut Vec<(InstanceId, Row)>) -> usize {
        let before = rows.len();
        rows.extend(page.members.iter().zip(&page.values).filter_map(|(member, value)| {
            let id = member_id(self.service, member)?;
            let row = parse_value(self.service, &id, value.as_deref().unwrap_or_default());
            Some((id, row))
        }));
        page.members.len() - (rows.len() - before)
    }

    /// Brings the rows of pages that were read at these positions to the last position.
    async fn reconcile(
        &self,
        positions: &[Position],
        rows: &mut Vec<(InstanceId, Row)>,
    ) -> Result<Position, StoreError> {
        let [mut at, .., end] = *positions else { return Ok(positions[0]) };
        let mut changes = BTreeMap::new();
        let mut remaining = positions.iter().peekable();
        // Checks that the history contains the positions up to `at`.
        let mut pass = |at: Position| -> Result<(), StoreError> {
            while let Some(position) =
                remaining.next_if(|position| position.revision <= at.revision)
            {
                if *position != at {
                    return Err(Gap::Forked.into());
                }
            }
            Ok(())
        };
        pass(at)?;
        let mut pages = 0;
        while at.revision < end.revision {
            let page = self.store.read_log(self.shard, at).await?;
            pages += 1;
            if page.entries.is_empty() || pages > MAX_PAGES {
                return Err(Gap::Missing.into());
            }
            for entry in page.entries {
                at = entry.position();
                pass(at)?;
                self.record_change(&entry, &mut changes);
            }
        }
        if remaining.next().is_some() {
            return Err(Gap::Forked.into()); // an earlier page was at a later revision than the last one
        }
        merge(rows, changes);
        Ok(at)
    }

    /// Records the change of an entry, if it belongs to the service.
    fn record_change(&self, entry: &Entry, changes: &mut BTreeMap<InstanceId, (u64, Option<Row>)>) {
        let Some(id) = member_id(self.service, entry.member()) else { return };
        let put_revision = entry.position().revision;
        let row = entry.value().map(|value| {
            let content = value.decode(self.service, &id, put_revision);
            Row { put_revision, content }
        });
        changes.insert(id, (put_revision, row));
    }
}

/// Applies the changes that are newer than the page's row.
fn merge(rows: &mut Vec<(InstanceId, Row)>, mut changes: BTreeMap<InstanceId, (u64, Option<Row>)>) {
    if changes.is_empty() {
        return;
    }
    let old = std::mem::take(rows);
    for (id, row) in old {
        match changes.remove(&id) {
            // The page was read after the change.
            Some((revision, _)) if revision <= row.put_revision => rows.push((id, row)),
            Some((_, row)) => rows.extend(row.map(|row| (id, row))),
            None => rows.push((id, row)),
        }
    }
    rows.extend(changes.into_iter().filter_map(|(id, (_, row))| Some((id, row?))));
}

/// Splits rows into decoded records and skipped ones. `unnamed` counts skipped members that have no row.
fn split(rows: Vec<(InstanceId, Row)>, unnamed: usize) -> (Vec<Record>, Skipped) {
    let mut skipped = Skipped { count: unnamed, example: None };
    let records = rows.into_iter().filter_map(|(id, row)| match row.content {
        Content::Live(record) => Some(record),
        Content::Withdrawn => None,
        Content::Undecodable(why) => {
            skipped.count += 1;
            skipped.example.get_or_insert((id, why));
            None
        }
    });
    (records.collect(), skipped)
}

/// Parses a value of the state. A malformed one was written by another program, and counts as older than all
/// changes.
fn parse_value(service: &ServiceName, id: &InstanceId, value: &[u8]) -> Row {
    let Some((put_revision, value)) = Value::parse_stored(value) else {
        let why = "the value is not in this library's format".to_owned();
        return Row { put_revision: 0, content: Content::Undecodable(why) };
    };
    Row { put_revision, content: value.decode(service, id, put_revision) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry_testbed::Warnings;

    fn row(id: &str, put_revision: u64) -> (InstanceId, Row) {
        (id.parse().unwrap(), Row { put_revision, content: Content::Undecodable("?".into()) })
    }

    fn merged(shown: &[(&str, u64)], changes: &[(&str, u64, bool)]) -> Vec<(String, u64)> {
        let mut rows = shown.iter().map(|(id, at)| row(id, *at)).collect();
        let changes = changes.iter().map(|(id, at, is_put)| {
            let (id, row) = row(id, *at);
            (id, (*at, is_put.then_some(row)))
        });
        merge(&mut rows, changes.collect());
        rows.into_iter().map(|(id, row)| (id.to_string(), row.put_revision)).collect()
    }

    /// Regression: each of 100,000 undecodable records caused a log line at each load.
    #[test]
    fn undecodable_records_are_logged_in_one_line_with_their_number() {
        let warnings = Warnings::capture();
        let service = "a".parse().unwrap();
        let foreign = |n| {
            let id = format!("\u{202e}{n}").parse().unwrap();
            let row = parse_value(&service, &id, b"junk\n");
            (id, row)
        };
        let (records, skipped) = split((0..1_000).map(foreign).collect(), 7);
        assert!(records.is_empty());
        skipped.warn(&service);
        let lines = warnings.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].contains("undecodable=1007") && lines[0].contains("id=\\u{202e}0"),
            "{lines:?}"
        );
        split(Vec::new(), 0).1.warn(&service);
        assert_eq!(warnings.lines().len(), 1);
    }

    #[test]
    fn change_in_the_log_applies_if_it_is_newer_than_the_page() {
        let shown = [("a", 3), ("b", 7), ("c", 2)];
        let pair = |id: &str, at| (id.to_owned(), at);
        assert_eq!(merged(&shown, &[]), shown.map(|(id, at)| pair(id, at)));
        // Put again, put before the page was read, deleted, and put without a row on any page.
        let changes = [("a", 5, true), ("b", 6, true), ("c", 8, false), ("d", 9, true)];
        assert_eq!(merged(&shown, &changes), [pair("a", 5), pair("b", 7), pair("d", 9)]);
        // Deleted before the page contained it again, and put and deleted between two pages.
        let changes = [("b", 6, false), ("e", 9, false)];
        assert_eq!(merged(&shown, &changes), [pair("a", 3), pair("b", 7), pair("c", 2)]);
    }
}
