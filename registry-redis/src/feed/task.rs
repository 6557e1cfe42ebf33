//! The task of a feed. It waits for all of its inputs at once, never for a single one.

use super::queue::{Request, RequestQueue};
use super::watched_shard::WatchedShard;
use crate::client::{FeedConnection, RawLog};
use crate::connect::Address;
use crate::deadline::random_below;
use crate::error::StoreError;
use crate::history::{self, Entry, Gap, Position};
use crate::shard::Shard;
use crate::store::{Page, Store};
use futures_util::future::{BoxFuture, FutureExt, pending};
use futures_util::stream::{FuturesUnordered, StreamExt};
use registry_core::printable;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{self, Instant, MissedTickBehavior};

/// How often watches receive progress and dropped watches are removed.
const TICK: Duration = Duration::from_secs(1);

/// The random delay of checks, so that processes do not check for expired leases all at once.
const JITTER: Duration = Duration::from_millis(50);

/// The longest delay before a failed check is retried.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(1);

pub(super) struct FeedTask {
    store: Arc<Store>,
    queue: RequestQueue,
    requests: mpsc::Receiver<Request>,
    shards: BTreeMap<Shard, WatchedShard>,
    /// The read in flight, and the positions at which it started.
    reading: Option<BoxFuture<'static, Result<Read, StoreError>>>,
    reading_from: Vec<(Shard, Position)>,
    /// The connection being made for a read that includes new shards.
    connecting: Option<BoxFuture<'static, Result<FeedConnection, StoreError>>>,
    /// The checks in flight, on the command connection.
    checks: FuturesUnordered<BoxFuture<'static, Check>>,
    jitter: Duration,
    /// The server of the read in flight.
    address: Option<Address>,
}

/// The result of a read.
struct Read {
    connection: FeedConnection,
    logs: Vec<RawLog>,
}

/// The result of a check whether the history of a shard contains a position.
struct Check {
    shard: Shard,
    at: Position,
    began: Instant,
    outcome: Result<Page, StoreError>,
}

impl FeedTask {
    pub(super) fn new(
        store: Arc<Store>,
        queue: RequestQueue,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        Self {
            store,
            queue,
            requests,
            shards: BTreeMap::new(),
            reading: None,
            reading_from: Vec::new(),
            connecting: None,
            checks: FuturesUnordered::new(),
            jitter: random_below(JITTER),
            address: None,
        }
    }

    /// Serves watches until none is left or the connection fails.
    pub(super) async fn run(mut self) {
        tracing::debug!(client = ?self.store.client, "feed started");
        let outcome = self.serve().await;
        let why = outcome.as_ref().err().map(ToString::to_string);
        let why = printable(why.as_deref().unwrap_or("no watch is left"));
        tracing::debug!(client = ?self.store.client, %why, "feed stopped");
        if let Err(error) = outcome {
            while let Some((subscription, _)) = self.queue.next_or_stop(&mut self.requests) {
                subscription.publisher.fail(error.of_watch());
            }
            for shard in self.shards.into_values() {
                shard.fail(&error);
            }
        }
    }

    async fn serve(&mut self) -> Result<(), StoreError> {
        let mut tick = time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next_check = self.next_check();
            let silent_at = self.shards.values().map(WatchedShard::silent_at).min();
            tokio::select! {
                Some(request) = self.requests.recv() => self.subscribe(request),
                connection = completed(&mut self.connecting) => match connection {
                    Ok(connection) => self.start_read(connection),
                    Err(error) if self.reading.is_none() => return Err(error),
                    Err(error) => self.end_shards_not_read(&error),
                },
                read = completed(&mut self.reading) => {
                    let connection = self.publish(read?);
                    // Let the watches that received something run before the next read.
                    yield_now().await;
                    self.start_read(connection);
                }
                Some(check) = self.checks.next() => self.finish_check(check)?,
                () = sleep_until(next_check) => self.start_checks(),
                () = sleep_until(silent_at) => self.end_silent_shards(),
                _ = tick.tick() => self.tick()?,
            }
            while self.shards.is_empty() {
                match self.queue.next_or_stop(&mut self.requests) {
                    Some(request) => self.subscribe(request),
                    None => return Ok(()),
                }
            }
        }
    }

    fn subscribe(&mut self, (mut subscription, reply): Request) {
        let from = loop {
            let (shard, at) = (subscription.shard, subscription.at);
            let watched = self.shards.entry(shard).or_insert_with(|| {
                // The read in flight does not include the shard. It continues until the new connection is made.
                self.connecting.get_or_insert_with(|| connect(self.store.clone(), shard));
                WatchedShard::new(at, self.store.client.silence_timeout())
            });
            match watched.subscribe(subscription) {
                Ok(from) => break from,
                // The watch has just read its history from the server, so the feed's is outdated.
                Err(refused) => {
                    subscription = *refused;
                    self.close(shard, Gap::Forked);
                }
            }
        };
        // If the caller was cancelled, its watch is dropped too, and the next tick removes it.
        let _ = reply.send(from);
    }

    /// Starts a read of all shards from their positions, in place of a read in flight.
    fn start_read(&mut self, mut connection: FeedConnection) {
        if self.shards.is_empty() {
            return;
        }
        self.connecting = None;
        self.address = Some(connection.address().clone());
        let from: Vec<_> =
            self.shards.iter().map(|(shard, watched)| (*shard, watched.at())).collect();
        let log = |(shard, at): &(Shard, Position)| {
            (self.store.client.keyspace().log(*shard).to_owned(), at.revision)
        };
        let logs: Vec<_> = from.iter().map(log).collect();
        self.reading_from = from;
        let read = async move {
            let logs = connection.read(&logs).await?;
            Ok(Read { connection, logs })
        };
        self.reading = Some(read.boxed());
    }

    /// Ends the watches of the shards that the read in flight does not include, since no connection could be
    /// made for them. That is not silence, since the server may still answer on the connection of that read.
    fn end_shards_not_read(&mut self, error: &StoreError) {
        let from = &self.reading_from;
        let is_left_out =
            |shard, watched: &mut WatchedShard| !from.contains(&(shard, watched.at()));
        for watched in extract(&mut self.shards, is_left_out) {
            watched.end(&error.clone().into());
        }
    }

    /// Publishes what was read. Returns the connection for the next read.
    fn publish(&mut self, Read { connection, logs }: Read) -> FeedConnection {
        let from = std::mem::take(&mut self.reading_from);
        for (log, entries) in logs {
            let keyspace = self.store.client.keyspace();
            let from = from.iter().find(|(shard, _)| keyspace.log(*shard) == log);
            let Some((shard, from)) = from.copied() else { continue };
            // The shard may have been closed since, or closed and opened at another position.
            let Some(watched) = self.shards.get_mut(&shard).filter(|watched| watched.at() == from)
            else {
                continue;
            };
            let quarter = u64::from(self.store.client.options().log_cap / 4).max(1);
            let gap = entries.into_iter().try_for_each(|entry| {
                if history::is_between(&entry, watched.at()) {
                    return Ok(());
                }
                watched.apply(&Entry::parse(entry)?)?;
                if watched.unreported_revisions() >= quarter {
                    watched.report_progress();
                }
                Ok(())
            });
            if let Err(gap) = gap {
                self.close(shard, gap);
            }
        }
        connection
    }

    /// Ends the watches of a shard whose log does not continue at its position. A check asks the server for the
    /// reason. If it finds none, the log contained entries of another program, which the check has just deleted.
    fn close(&mut self, shard: Shard, gap: Gap) {
        let Some(watched) = self.shards.remove(&shard) else { return };
        let store = self.store.clone();
        tokio::spawn(async move {
            let outcome = store.check_log(shard, watched.at()).await;
            watched.fail(&outcome.err().unwrap_or(match gap {
                Gap::Missing => StoreError::Compacted,
                Gap::Forked => StoreError::ForeignEntries,
            }));
        });
    }

    fn next_check(&self) -> Option<Instant> {
        self.shards.values().filter_map(|watched| watched.next_check(self.jitter)).min()
    }

    /// Starts the checks that are due. A check also makes the server delete expired leases.
    fn start_checks(&mut self) {
        let now = Instant::now();
        for (shard, watched) in &mut self.shards {
            if watched.next_check(self.jitter).is_some_and(|next| next <= now) {
                self.checks.push(check(self.store.clone(), *shard, watched));
            }
        }
    }

    fn finish_check(&mut self, check_made: Check) -> Result<(), StoreError> {
        let Check { shard, at, began, outcome } = check_made;
        let Some(watched) = self.shards.get_mut(&shard) else { return Ok(()) };
        watched.checks().end(began, outcome.as_ref().map(|page| page.due));
        match outcome {
            Ok(page) => watched.expect(page.end),
            Err(StoreError::Compacted | StoreError::Diverged) if watched.at() != at => {
                // The feed has read on in between, and may be past the trimmed entries.
                self.checks.push(check(self.store.clone(), shard, watched));
            }
            Err(error @ (StoreError::Compacted | StoreError::Diverged)) => {
                if let Some(watched) = self.shards.remove(&shard) {
                    watched.fail(&error);
                }
            }
            Err(error) if error.is_demotion() => return Err(error),
            Err(error) => {
                let why = error.to_string();
                tracing::warn!(?shard, error = %printable(&why), "could not check for expired leases, will retry");
                let delay = self.store.client.silence_timeout() / 8;
                watched.checks().check_by(Instant::now() + delay.min(MAX_RETRY_DELAY));
            }
        }
        Ok(())
    }

    /// Ends the watches of silent shards, even though their logs can be read.
    fn end_silent_shards(&mut self) {
        let now = Instant::now();
        let client = &self.store.client;
        let is_silent = |shard, watched: &mut WatchedShard| {
            if watched.silent_at() <= now
                && let Some(received) = client.last_received(shard)
            {
                watched.checks().record_received(received);
            }
            watched.silent_at() <= now
        };
        for watched in extract(&mut self.shards, is_silent) {
            watched.fail_silent();
        }
    }

    fn tick(&mut self) -> Result<(), StoreError> {
        if self.shards.values().any(WatchedShard::is_stalled) {
            return Err(StoreError::FeedStalled);
        }
        if let Some(address) = &self.address
            && !self.shards.keys().all(|shard| self.store.client.is_current(address, *shard))
        {
            return Err(StoreError::ShardMoved);
        }
        self.shards.retain(|_, watched| {
            if watched.unreported_revisions() > 0 {
                watched.report_progress();
            }
            watched.prune()
        });
        Ok(())
    }
}

fn connect(
    store: Arc<Store>,
    shard: Shard,
) -> BoxFuture<'static, Result<FeedConnection, StoreError>> {
    async move { store.client.connect_feed(shard).await }.boxed()
}

fn check(store: Arc<Store>, shard: Shard, watched: &mut WatchedShard) -> BoxFuture<'static, Check> {
    watched.checks().begin();
    let (at, began) = (watched.at(), Instant::now());
    async move { Check { shard, at, began, outcome: store.check_log(shard, at).await } }.boxed()
}

/// Removes the shards for which `predicate` returns true.
fn extract(
    shards: &mut BTreeMap<Shard, WatchedShard>,
    mut predicate: impl FnMut(Shard, &mut WatchedShard) -> bool,
) -> Vec<WatchedShard> {
    let found = shards
        .iter_mut()
        .filter_map(|(shard, watched)| predicate(*shard, watched).then_some(*shard));
    let found: Vec<_> = found.collect();
    found.iter().filter_map(|shard| shards.remove(shard)).collect()
}

/// Waits for the future in flight, if there is one, and removes it.
async fn completed<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    match work {
        Some(running) => {
            let outcome = running.await;
            *work = None;
            outcome
        }
        None => pending().await,
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => time::sleep_until(instant).await,
        None => pending().await,
    }
}
