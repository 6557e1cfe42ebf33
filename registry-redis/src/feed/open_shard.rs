//! A shard as the feed follows it: a position, and the watches that go on from there.

use super::Join;
use crate::error::Fault;
use crate::history::{Digest, Entry, Gap, Position};
use crate::shard::split_member;
use registry_core::{Batch, Origin, Publisher, ServiceName};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// After how long the history of a shard is checked again. A read does not tell: on a log that was
/// wiped or trimmed it waits in silence.
const CHECK_AFTER: Duration = Duration::from_secs(5);

/// How long news may take to come in that a check has seen already.
const STRANDED_AFTER: Duration = Duration::from_secs(5);

/// One shard that somebody watches.
#[derive(Debug)]
pub(super) struct OpenShard {
    at: Position,
    services: HashMap<ServiceName, Watched>,
    /// Where watches that joined ahead of us have been: we must come through there too.
    ahead: BTreeMap<u64, Digest>,
    /// Up to where every watch knows how far the log has come.
    reported: u64,
    /// When to check the shard: no lease falls due before that.
    check_at: Instant,
    checking: bool,
    /// Since when a check has seen news that do not come in.
    overdue: Option<Instant>,
}

/// A service, and who watches it.
#[derive(Debug)]
struct Watched {
    service: ServiceName,
    origin: Origin,
    watchers: Vec<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    publisher: Publisher,
    /// The last revision it was told of, or has read on its own.
    told: u64,
}

impl OpenShard {
    /// Begins to follow the log at `at`.
    pub(super) fn new(at: Position) -> Self {
        Self {
            at,
            services: HashMap::new(),
            ahead: BTreeMap::new(),
            reported: at.revision,
            check_at: Instant::now() + CHECK_AFTER,
            checking: false,
            overdue: None,
        }
    }

    pub(super) fn at(&self) -> Position {
        self.at
    }

    /// Adds a watch. Returns from where on it is published to; or the join itself, if the watch has
    /// come along another history.
    pub(super) fn join(&mut self, join: Join) -> Result<Position, Box<Join>> {
        if join.at.revision == self.at.revision && join.at.digest != self.at.digest {
            return Err(Box::new(join));
        }
        let from = if join.at.revision > self.at.revision {
            self.ahead.insert(join.at.revision, join.at.digest);
            join.at
        } else {
            self.at
        };
        if let Some(due) = join.due {
            self.check_by(due);
        }
        let Join { service, origin, publisher, .. } = join;
        let watched = self.services.entry(service.clone());
        let watched = watched.or_insert_with(|| Watched { service, origin, watchers: Vec::new() });
        watched.watchers.push(Watcher { publisher, told: from.revision });
        Ok(from)
    }

    /// Moves on over an entry, and publishes it.
    pub(super) fn take(&mut self, entry: &Entry) -> Result<(), Gap> {
        self.at.step(entry)?;
        self.overdue = None;
        if self.ahead.remove(&self.at.revision).is_some_and(|digest| digest != self.at.digest) {
            return Err(Gap::Forked);
        }
        if let Some(ttl) = entry.ttl() {
            self.check_by(Instant::now() + ttl);
        }
        self.publish(entry);
        Ok(())
    }

    fn publish(&mut self, entry: &Entry) {
        let Some((service, _)) = split_member(entry.member()) else { return };
        let Some(watched) = self.services.get_mut(service) else { return };
        let Some(change) = entry.change(&watched.service) else { return };
        let batch = Batch::new(self.at.cursor(&watched.origin), vec![change]);
        watched.tell(&batch);
    }

    /// How many revisions watches may not know of, since the changes were not theirs.
    pub(super) fn unreported(&self) -> u64 {
        self.at.revision - self.reported
    }

    /// Tells all watches how far the log has come.
    pub(super) fn report(&mut self) {
        for watched in self.services.values_mut() {
            watched.tell(&Batch::progress(self.at.cursor(&watched.origin)));
        }
        self.reported = self.at.revision;
    }

    /// When to check the shard next, unless that is under way.
    pub(super) fn next_check(&self) -> Option<Instant> {
        if self.checking { None } else { Some(self.check_at) }
    }

    /// Has the shard checked no later than `instant`.
    pub(super) fn check_by(&mut self, instant: Instant) {
        self.check_at = self.check_at.min(instant);
    }

    /// From here on only new leases say when to check: the answer covers all that stand now.
    pub(super) fn begin_check(&mut self) {
        self.checking = true;
        self.check_at = Instant::now() + CHECK_AFTER;
    }

    pub(super) fn end_check(&mut self) {
        self.checking = false;
    }

    /// Notes how far the log has come, as a check saw it on a connection of its own.
    pub(super) fn expect(&mut self, end: u64) {
        if end > self.at.revision {
            self.overdue.get_or_insert_with(Instant::now);
        }
    }

    /// Whether nothing comes in though there is something: the feed's server is not the one that the
    /// checks reach, or no longer.
    pub(super) fn is_stranded(&self) -> bool {
        self.overdue.is_some_and(|since| since.elapsed() >= STRANDED_AFTER)
    }

    /// Forgets the watches that nobody holds any more. Whether any are left.
    pub(super) fn prune(&mut self) -> bool {
        self.services.retain(|_, watched| {
            watched.watchers.retain(|watcher| !watcher.publisher.is_closed());
            !watched.watchers.is_empty()
        });
        !self.services.is_empty()
    }

    /// Ends all watches.
    pub(super) fn fail(self, fault: &Fault) {
        for watcher in self.services.into_values().flat_map(|watched| watched.watchers) {
            watcher.publisher.fail(fault.clone().into());
        }
    }
}

impl Watched {
    /// Publishes to every watch that has not been there, and forgets those that are over.
    fn tell(&mut self, batch: &Batch) {
        let revision = batch.revision().get();
        self.watchers.retain_mut(|watcher| {
            if watcher.told >= revision {
                return true;
            }
            watcher.told = revision;
            watcher.publisher.publish(batch.clone())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{entry, position};
    use futures_util::{FutureExt, StreamExt};
    use registry_core::{Change, ErrorKind, Watch};

    const RECORD: &str = r#"{"v":1,"address":"10.0.0.1:80"}"#;

    fn join(service: &str, at: Position) -> (Join, Watch) {
        let service: ServiceName = service.parse().unwrap();
        let origin = Origin::new("redis", "p", &service);
        let (publisher, watch) = Watch::channel(at.cursor(&origin), Vec::new());
        let due = None;
        (
            Join {
                shard: crate::shard::Shard::of(&service, 1),
                service,
                origin,
                at,
                due,
                publisher,
            },
            watch,
        )
    }

    fn open(at: u64, service: &str) -> (OpenShard, Watch) {
        let mut shard = OpenShard::new(position(at));
        let (join, watch) = join(service, position(at));
        assert_eq!(shard.join(join).unwrap(), position(at));
        (shard, watch)
    }

    /// The revisions and the numbers of changes that the watch has to say.
    fn said(watch: &mut Watch) -> Vec<(u64, usize)> {
        let batch = || watch.next().now_or_never()?.map(|batch| batch.unwrap());
        std::iter::from_fn(batch).map(|b| (b.revision().get(), b.changes.len())).collect()
    }

    #[tokio::test]
    async fn a_watch_is_told_its_own_changes_and_how_far_those_of_others_go() {
        let (mut shard, mut watch) = open(4, "a");
        shard.take(&entry(5, "a\u{1f}1", Some(RECORD))).unwrap();
        shard.take(&entry(6, "b\u{1f}1", Some(RECORD))).unwrap();
        shard.take(&entry(7, "a\u{1f}1", None)).unwrap();
        shard.take(&entry(8, "ab\u{1f}1", None)).unwrap();
        assert_eq!(said(&mut watch), [(5, 1), (7, 1)]);
        assert_eq!(shard.unreported(), 4);
        shard.report();
        shard.report();
        assert_eq!(said(&mut watch), [(8, 0)]);
        assert_eq!(shard.unreported(), 0);
    }

    #[tokio::test]
    async fn a_watch_that_joins_ahead_is_told_nothing_twice() {
        let (mut shard, mut behind) = open(4, "a");
        let (ahead, mut watch) = join("a", position(6));
        assert_eq!(shard.join(ahead).unwrap(), position(6));
        for n in 5..=7 {
            shard.take(&entry(n, "a\u{1f}1", None)).unwrap();
        }
        assert_eq!(said(&mut watch), [(7, 1)]);
        assert_eq!(said(&mut behind), [(5, 1), (6, 1), (7, 1)]);
    }

    #[tokio::test]
    async fn a_watch_that_joins_behind_learns_from_where_it_is_told() {
        let (mut shard, _first) = open(4, "a");
        let (late, mut watch) = join("a", position(2));
        assert_eq!(shard.join(late).unwrap(), position(4));
        shard.take(&entry(5, "a\u{1f}1", None)).unwrap();
        assert_eq!(said(&mut watch), [(5, 1)]);
    }

    #[tokio::test]
    async fn a_watch_of_another_history_does_not_go_along() {
        let (mut shard, _watch) = open(4, "a");
        let forked = |revision| Position { revision, ..position(99) };
        let (same, _same) = join("a", forked(4));
        assert!(shard.join(same).is_err());
        let (ahead, _ahead) = join("a", forked(5));
        shard.join(ahead).unwrap();
        assert_eq!(shard.take(&entry(5, "b\u{1f}1", None)), Err(Gap::Forked));
    }

    #[tokio::test]
    async fn a_shard_nobody_watches_is_let_go() {
        let (mut shard, watch) = open(4, "a");
        assert!(shard.prune());
        drop(watch);
        assert!(!shard.prune());
    }

    #[tokio::test]
    async fn a_watch_hears_why_it_ends_after_what_was_told_before() {
        let (mut shard, mut watch) = open(4, "a");
        shard.take(&entry(5, "a\u{1f}1", None)).unwrap();
        shard.fail(&Fault::Diverged);
        let batch = watch.next().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(batch.changes, [Change::Delete("1".parse().unwrap())]);
        let error = watch.next().now_or_never().unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Diverged);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_is_due_when_the_first_lease_is_and_new_leases_are_not_forgotten_meanwhile() {
        let start = Instant::now();
        let (mut shard, _watch) = open(4, "a");
        assert_eq!(shard.next_check(), Some(start + CHECK_AFTER));
        shard.check_by(start + Duration::from_secs(2));
        shard.check_by(start + Duration::from_secs(3));
        assert_eq!(shard.next_check(), Some(start + Duration::from_secs(2)));
        shard.begin_check();
        assert_eq!(shard.next_check(), None);
        let mut brief = entry(5, "b\u{1f}1", Some(RECORD));
        brief.set_ttl(Duration::from_secs(1));
        shard.take(&brief).unwrap();
        shard.end_check();
        shard.check_by(start + Duration::from_secs(4));
        assert_eq!(shard.next_check(), Some(start + Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_is_stranded_when_news_that_are_there_do_not_come_in() {
        let (mut shard, _watch) = open(4, "a");
        shard.expect(4);
        tokio::time::advance(2 * STRANDED_AFTER).await;
        assert!(!shard.is_stranded());
        shard.expect(6);
        tokio::time::advance(STRANDED_AFTER / 2).await;
        shard.expect(7);
        shard.take(&entry(5, "b\u{1f}1", None)).unwrap();
        tokio::time::advance(STRANDED_AFTER).await;
        assert!(!shard.is_stranded(), "it moves");
        shard.expect(7);
        tokio::time::advance(STRANDED_AFTER).await;
        assert!(shard.is_stranded());
    }
}
