//! A shard in a feed: its position, and the watches that continue from there.

use super::checks::Checks;
use super::queue::Subscription;
use crate::digest::Digest;
use crate::error::StoreError;
use crate::history::{Entry, Gap, Position};
use crate::shard::split_member;
use crate::skipped::warn_once;
use registry_core::{Batch, Error, Origin, Publisher, ServiceName};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the feed may take to receive changes that a check has seen.
const STALLED_AFTER: Duration = Duration::from_secs(5);

/// A shard that has watches.
#[derive(Debug)]
pub(super) struct WatchedShard {
    at: Position,
    services: HashMap<ServiceName, Watched>,
    /// The records watched by their owners, by member.
    records: HashMap<Vec<u8>, Watched>,
    /// The positions of watches that subscribed ahead of the feed. The feed's history must contain them.
    expected: BTreeMap<u64, Digest>,
    /// The revision of the last progress that all watches received.
    reported: u64,
    checks: Checks,
    /// Since when a check has seen changes that the feed has not received.
    overdue: Option<Instant>,
}

/// A service, or one of its records, and its watches.
#[derive(Debug)]
struct Watched {
    service: ServiceName,
    origin: Origin,
    watchers: Vec<Watcher>,
    /// Whether an undecodable record was logged.
    has_warned: bool,
}

#[derive(Debug)]
struct Watcher {
    publisher: Publisher,
    /// The last revision that it was sent or has read itself.
    sent: u64,
}

impl WatchedShard {
    /// Starts to follow the log at `at`, which was just read.
    pub(super) fn new(at: Position, silence_timeout: Duration) -> Self {
        Self {
            at,
            services: HashMap::new(),
            records: HashMap::new(),
            expected: BTreeMap::new(),
            reported: at.revision,
            checks: Checks::new(silence_timeout),
            overdue: None,
        }
    }

    pub(super) fn at(&self) -> Position {
        self.at
    }

    /// Adds a watch. Returns the position after which it receives changes, or the subscription itself if the
    /// watch has another history.
    pub(super) fn subscribe(
        &mut self,
        subscription: Subscription,
    ) -> Result<Position, Box<Subscription>> {
        let at = subscription.at;
        if at.revision == self.at.revision && at.digest != self.at.digest {
            return Err(Box::new(subscription));
        }
        let from = if at.revision > self.at.revision {
            self.expected.insert(at.revision, at.digest);
            at
        } else {
            self.at
        };
        if let Some(due) = subscription.due {
            self.checks.check_by(due);
        }
        let Subscription { service, member, origin, publisher, .. } = subscription;
        let new = Watched::new(service.clone(), origin);
        let watched = match member {
            Some(member) => self.records.entry(member.into_bytes()).or_insert(new),
            None => self.services.entry(service).or_insert(new),
        };
        watched.watchers.push(Watcher { publisher, sent: from.revision });
        Ok(from)
    }

    /// Advances past an entry and publishes it.
    pub(super) fn apply(&mut self, entry: &Entry) -> Result<(), Gap> {
        self.at.advance(entry)?;
        self.overdue = None;
        if self.expected.remove(&self.at.revision).is_some_and(|digest| digest != self.at.digest) {
            return Err(Gap::Forked);
        }
        if let Some(value) = entry.value() {
            self.checks.check_by(Instant::now() + value.ttl());
        }
        self.publish(entry);
        Ok(())
    }

    fn publish(&mut self, entry: &Entry) {
        let Some((service, _)) = split_member(entry.member()) else { return };
        let mut of_service = self.services.get_mut(service);
        let mut of_record = self.records.get_mut(entry.member());
        let Some(any) = of_service.as_deref_mut().or(of_record.as_deref_mut()) else { return };
        let Watched { service, origin, has_warned, .. } = any;
        let change = entry.change(service, |id, why| warn_once(has_warned, service, id, why));
        let Some(change) = change else { return };
        let batch = Arc::new(Batch::new(self.at.cursor(origin), vec![change]));
        for watched in of_service.into_iter().chain(of_record) {
            watched.publish(&batch);
        }
    }

    /// Returns the number of revisions since the last progress. Watches may not know them, since the changes
    /// were of other services.
    pub(super) fn unreported_revisions(&self) -> u64 {
        self.at.revision - self.reported
    }

    /// Sends progress to all watches.
    pub(super) fn report_progress(&mut self) {
        for watched in self.services.values_mut().chain(self.records.values_mut()) {
            watched.publish(&Arc::new(Batch::progress(self.at.cursor(&watched.origin))));
        }
        self.reported = self.at.revision;
    }

    pub(super) fn checks(&mut self) -> &mut Checks {
        &mut self.checks
    }

    /// Returns when the next check is due, unless one is in flight.
    pub(super) fn next_check(&self, jitter: Duration) -> Option<Instant> {
        self.checks.next(jitter)
    }

    /// Returns when the shard counts as silent.
    pub(super) fn silent_at(&self) -> Instant {
        self.checks.silent_at()
    }

    /// Records the end of the log as a check saw it on another connection.
    pub(super) fn expect(&mut self, end: u64) {
        if end > self.at.revision {
            self.overdue.get_or_insert_with(Instant::now);
        }
    }

    /// Returns whether the feed receives nothing although there are changes. Then its server is not the one
    /// that the checks reach.
    pub(super) fn is_stalled(&self) -> bool {
        self.overdue.is_some_and(|since| since.elapsed() >= STALLED_AFTER)
    }

    /// Removes dropped watches. Returns whether any are left.
    pub(super) fn prune(&mut self) -> bool {
        self.services.retain(|_, watched| watched.prune());
        self.records.retain(|_, watched| watched.prune());
        !(self.services.is_empty() && self.records.is_empty())
    }

    /// Ends all watches because the shard is silent.
    pub(super) fn fail_silent(self) {
        let silence = Error::silent(self.checks.silence_timeout());
        let silence = silence.with_source(self.checks.failure());
        self.end(&silence);
    }

    /// Ends all watches.
    pub(super) fn fail(self, error: &StoreError) {
        self.end(&error.of_watch());
    }

    /// Ends all watches with this error, which must not be treated as silence.
    pub(super) fn end(self, error: &Error) {
        let watched = self.services.into_values().chain(self.records.into_values());
        for watcher in watched.flat_map(|watched| watched.watchers) {
            watcher.publisher.fail(error.clone());
        }
    }
}

impl Watched {
    fn new(service: ServiceName, origin: Origin) -> Self {
        Self { service, origin, watchers: Vec::new(), has_warned: false }
    }

    /// Publishes to every watch that has not reached the batch's revision, and removes ended watches.
    fn publish(&mut self, batch: &Arc<Batch>) {
        let revision = batch.revision().get();
        self.watchers.retain_mut(|watcher| {
            if watcher.sent >= revision {
                return true;
            }
            watcher.sent = revision;
            watcher.publisher.publish(batch.clone())
        });
    }

    /// Removes dropped watches. Returns whether any are left.
    fn prune(&mut self) -> bool {
        self.watchers.retain(|watcher| !watcher.publisher.is_closed());
        !self.watchers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{entry, position};
    use futures_util::{FutureExt, StreamExt};
    use registry_core::{Change, ErrorKind, Watch};
    use registry_testbed::Warnings;

    const RECORD: &str = r#"{"v":1,"address":"10.0.0.1:80"}"#;
    const SILENCE: Duration = Duration::from_secs(8);

    fn subscription(service: &str, at: Position) -> (Subscription, Watch) {
        subscription_of(service, None, at)
    }

    fn subscription_of(service: &str, member: Option<&str>, at: Position) -> (Subscription, Watch) {
        let service: ServiceName = service.parse().unwrap();
        let origin = Origin::new("redis", "p", &service);
        let (publisher, watch) = Watch::channel(at.cursor(&origin), Vec::new());
        let due = None;
        (
            Subscription {
                shard: crate::shard::Shard::of(&service, 1),
                service,
                member: member.map(str::to_owned),
                origin,
                at,
                due,
                publisher,
            },
            watch,
        )
    }

    fn watched(at: u64, service: &str) -> (WatchedShard, Watch) {
        let mut shard = WatchedShard::new(position(at), SILENCE);
        let (subscription, watch) = subscription(service, position(at));
        assert_eq!(shard.subscribe(subscription).unwrap(), position(at));
        (shard, watch)
    }

    /// Returns the revision and the number of changes of each batch that the watch has received.
    fn received(watch: &mut Watch) -> Vec<(u64, usize)> {
        let batch = || watch.next().now_or_never()?.map(|batch| batch.unwrap());
        std::iter::from_fn(batch).map(|b| (b.revision().get(), b.changes.len())).collect()
    }

    /// Regression: each of 100,000 undecodable records caused a log line.
    #[tokio::test]
    async fn undecodable_records_are_logged_once_per_watch() {
        let warnings = Warnings::capture();
        let (mut shard, _watch) = watched(4, "a");
        let record = "{\"address\":\"\\n\\u001b[2J\u{202e}\"}";
        for n in 5..1_005 {
            shard.apply(&entry(n, &format!("a\u{1f}\u{200b}{n}"), Some(record))).unwrap();
        }
        let lines = warnings.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].contains("service=a") && lines[0].contains("no readable address"),
            "{lines:?}"
        );
        assert_eq!(registry_core::printable(&lines[0]), lines[0]);
    }

    #[tokio::test]
    async fn watch_receives_its_own_changes_and_progress_past_others() {
        let (mut shard, mut watch) = watched(4, "a");
        shard.apply(&entry(5, "a\u{1f}1", Some(RECORD))).unwrap();
        shard.apply(&entry(6, "b\u{1f}1", Some(RECORD))).unwrap();
        shard.apply(&entry(7, "a\u{1f}1", None)).unwrap();
        shard.apply(&entry(8, "ab\u{1f}1", None)).unwrap();
        assert_eq!(received(&mut watch), [(5, 1), (7, 1)]);
        assert_eq!(shard.unreported_revisions(), 4);
        shard.report_progress();
        shard.report_progress();
        assert_eq!(received(&mut watch), [(8, 0)]);
        assert_eq!(shard.unreported_revisions(), 0);
    }

    #[tokio::test]
    async fn watch_of_a_record_receives_its_changes_and_progress_past_others() {
        let (mut shard, mut of_service) = watched(4, "a");
        let (own, mut watch) = subscription_of("a", Some("a\u{1f}1"), position(4));
        shard.subscribe(own).unwrap();
        shard.apply(&entry(5, "a\u{1f}2", Some(RECORD))).unwrap();
        shard.apply(&entry(6, "a\u{1f}1", None)).unwrap();
        shard.apply(&entry(7, "a\u{1f}12", None)).unwrap();
        shard.report_progress();
        assert_eq!(received(&mut watch), [(6, 1), (7, 0)]);
        assert_eq!(received(&mut of_service), [(5, 1), (6, 1), (7, 1)]);
        drop(of_service);
        assert!(shard.prune());
        drop(watch);
        assert!(!shard.prune());
    }

    #[tokio::test]
    async fn watch_that_subscribes_ahead_receives_nothing_twice() {
        let (mut shard, mut behind) = watched(4, "a");
        let (ahead, mut watch) = subscription("a", position(6));
        assert_eq!(shard.subscribe(ahead).unwrap(), position(6));
        for n in 5..=7 {
            shard.apply(&entry(n, "a\u{1f}1", None)).unwrap();
        }
        assert_eq!(received(&mut watch), [(7, 1)]);
        assert_eq!(received(&mut behind), [(5, 1), (6, 1), (7, 1)]);
    }

    #[tokio::test]
    async fn watch_that_subscribes_behind_learns_the_position_of_the_feed() {
        let (mut shard, _first) = watched(4, "a");
        let (late, mut watch) = subscription("a", position(2));
        assert_eq!(shard.subscribe(late).unwrap(), position(4));
        shard.apply(&entry(5, "a\u{1f}1", None)).unwrap();
        assert_eq!(received(&mut watch), [(5, 1)]);
    }

    #[tokio::test]
    async fn watch_with_another_history_is_refused() {
        let (mut shard, _watch) = watched(4, "a");
        let forked = |revision| Position { revision, ..position(99) };
        let (same, _same) = subscription("a", forked(4));
        assert!(shard.subscribe(same).is_err());
        let (ahead, _ahead) = subscription("a", forked(5));
        shard.subscribe(ahead).unwrap();
        assert_eq!(shard.apply(&entry(5, "b\u{1f}1", None)), Err(Gap::Forked));
    }

    #[tokio::test]
    async fn shard_without_watches_is_pruned() {
        let (mut shard, watch) = watched(4, "a");
        assert!(shard.prune());
        drop(watch);
        assert!(!shard.prune());
    }

    #[tokio::test]
    async fn watch_receives_its_error_after_the_batches_before_it() {
        let (mut shard, mut watch) = watched(4, "a");
        shard.apply(&entry(5, "a\u{1f}1", None)).unwrap();
        shard.fail(&StoreError::Diverged);
        let batch = watch.next().now_or_never().unwrap().unwrap().unwrap();
        let [Change::Delete(deleted)] = &batch.changes[..] else { panic!("{batch:?}") };
        assert_eq!(deleted.id().as_str(), "1");
        let error = watch.next().now_or_never().unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Diverged);
    }

    #[tokio::test(start_paused = true)]
    async fn check_is_due_when_the_lease_of_a_put_may_have_expired() {
        let start = Instant::now();
        let (mut shard, _watch) = watched(4, "a");
        let mut brief = entry(5, "b\u{1f}1", Some(RECORD));
        brief.set_ttl(Duration::from_secs(1));
        shard.apply(&brief).unwrap();
        assert_eq!(shard.next_check(Duration::ZERO), Some(start + Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn shard_is_stalled_when_known_changes_do_not_arrive() {
        let (mut shard, _watch) = watched(4, "a");
        shard.expect(4);
        tokio::time::advance(2 * STALLED_AFTER).await;
        assert!(!shard.is_stalled());
        shard.expect(6);
        tokio::time::advance(STALLED_AFTER / 2).await;
        shard.expect(7);
        shard.apply(&entry(5, "b\u{1f}1", None)).unwrap();
        tokio::time::advance(STALLED_AFTER).await;
        assert!(!shard.is_stalled(), "the feed advances");
        shard.expect(7);
        tokio::time::advance(STALLED_AFTER).await;
        assert!(shard.is_stalled());
    }
}
