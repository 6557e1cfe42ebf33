//! The task of a feed. It waits for everything at once, and for nothing in particular.

use super::open_shard::OpenShard;
use super::{Feed, Request};
use crate::connect::Address;
use crate::error::Fault;
use crate::history::{Entry, Gap, Position};
use crate::link::{FeedLink, RawLog};
use crate::shard::Shard;
use crate::store::{Page, Store};
use futures_util::future::{BoxFuture, FutureExt, pending};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{self, Instant, MissedTickBehavior};

/// How often watches are told of progress, and those that were dropped are looked for.
const TICK: Duration = Duration::from_secs(1);

/// By how much at most processes differ in when they look for due leases, so that not all do at once.
const JITTER: Duration = Duration::from_millis(50);

/// When a check that got no answer is made again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Task {
    store: Arc<Store>,
    feed: Feed,
    joins: mpsc::Receiver<Request>,
    shards: BTreeMap<Shard, OpenShard>,
    /// The read under way.
    reading: Option<BoxFuture<'static, Result<Read, Fault>>>,
    /// The connection being made for a read that takes in new shards.
    opening: Option<BoxFuture<'static, Result<FeedLink, Fault>>>,
    /// What is being asked on the command connection.
    checks: FuturesUnordered<BoxFuture<'static, Check>>,
    jitter: Duration,
    /// Where the read under way goes.
    address: Option<Address>,
}

/// What was read, and from where on.
struct Read {
    link: FeedLink,
    asked: Vec<(Shard, Position)>,
    grown: Vec<RawLog>,
}

/// Whether the history of a shard went through a position.
struct Check {
    shard: Shard,
    at: Position,
    outcome: Result<Page, Fault>,
}

impl Task {
    pub(super) fn new(store: Arc<Store>, feed: Feed, joins: mpsc::Receiver<Request>) -> Self {
        Self {
            store,
            feed,
            joins,
            shards: BTreeMap::new(),
            reading: None,
            opening: None,
            checks: FuturesUnordered::new(),
            jitter: random_below(JITTER),
            address: None,
        }
    }

    /// Serves watches until there are none, or the connection fails.
    pub(super) async fn run(mut self) {
        tracing::debug!(link = ?self.store.link, "the feed begins");
        let outcome = self.serve().await;
        tracing::debug!(link = ?self.store.link, ?outcome, "the feed ends");
        if let Err(fault) = outcome {
            while let Some((join, _)) = self.feed.next_or_retire(&mut self.joins) {
                join.publisher.fail(fault.clone().into());
            }
            for shard in self.shards.into_values() {
                shard.fail(&fault);
            }
        }
    }

    async fn serve(&mut self) -> Result<(), Fault> {
        let mut tick = time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next_check = self.next_check();
            tokio::select! {
                Some(request) = self.joins.recv() => self.join(request),
                link = done(&mut self.opening) => self.read(link?),
                read = done(&mut self.reading) => {
                    let link = self.take(read?);
                    // Who was told something is not to wait until it is read on.
                    yield_now().await;
                    self.read(link);
                }
                Some(check) = self.checks.next() => self.judge(check)?,
                () = at(next_check) => self.check_due(),
                _ = tick.tick() => self.tick()?,
            }
            while self.shards.is_empty() {
                match self.feed.next_or_retire(&mut self.joins) {
                    Some(request) => self.join(request),
                    None => return Ok(()),
                }
            }
        }
    }

    fn join(&mut self, (join, answer): Request) {
        let mut join = join;
        let from = loop {
            let (shard, at) = (join.shard, join.at);
            let open = self.shards.entry(shard).or_insert_with(|| {
                // The read under way knows nothing of it. It goes on until there is a new connection.
                self.opening.get_or_insert_with(|| open(self.store.clone(), shard));
                OpenShard::new(at)
            });
            match open.join(join) {
                Ok(from) => break from,
                // Its history is fresh from the server, ours is not.
                Err(refused) => {
                    join = *refused;
                    self.close(shard, Gap::Forked);
                }
            }
        };
        // A caller that is gone has dropped its watch too, and that is noticed in time.
        let _ = answer.send(from);
    }

    /// Reads all shards from where they are. A read under way is given up with its connection.
    fn read(&mut self, mut link: FeedLink) {
        if self.shards.is_empty() {
            return;
        }
        self.opening = None;
        self.address = Some(link.address().clone());
        let asked: Vec<_> = self.shards.iter().map(|(shard, open)| (*shard, open.at())).collect();
        let log = |(shard, at): &(Shard, Position)| {
            (self.store.link.keyspace().log(*shard).to_owned(), at.revision)
        };
        let logs: Vec<_> = asked.iter().map(log).collect();
        let read = async move {
            let grown = link.read(&logs).await?;
            Ok(Read { link, asked, grown })
        };
        self.reading = Some(read.boxed());
    }

    /// Takes in what was read. Gives the connection to read on.
    fn take(&mut self, Read { link, asked, grown }: Read) -> FeedLink {
        for (log, entries) in grown {
            let keyspace = self.store.link.keyspace();
            let asked = asked.iter().find(|(shard, _)| keyspace.log(*shard) == log);
            let Some((shard, from)) = asked.copied() else { continue };
            // It may have been closed since, or closed and opened elsewhere.
            let Some(open) = self.shards.get_mut(&shard).filter(|open| open.at() == from) else {
                continue;
            };
            let quarter = u64::from(self.store.link.options().log_cap / 4).max(1);
            let gap = entries.into_iter().try_for_each(|entry| {
                open.take(&Entry::parse(entry)?)?;
                if open.unreported() >= quarter {
                    open.report();
                }
                Ok(())
            });
            if let Err(gap) = gap {
                self.close(shard, gap);
            }
        }
        link
    }

    /// Gives a shard up since its log does not lead on. The server says why; if it sees nothing wrong,
    /// the log holds what this library did not write.
    fn close(&mut self, shard: Shard, gap: Gap) {
        let Some(open) = self.shards.remove(&shard) else { return };
        let store = self.store.clone();
        tokio::spawn(async move {
            let outcome = store.open(shard, open.at(), 1).await;
            open.fail(&outcome.err().unwrap_or_else(|| gap.into()));
        });
    }

    fn next_check(&self) -> Option<Instant> {
        let next = self.shards.values().filter_map(OpenShard::next_check).min();
        next.map(|next| next + self.jitter)
    }

    /// Checks the shards whose time has come. It also lets due leases expire.
    fn check_due(&mut self) {
        let now = Instant::now();
        for (shard, open) in &mut self.shards {
            if open.next_check().is_some_and(|next| next + self.jitter <= now) {
                self.checks.push(check(self.store.clone(), *shard, open));
            }
        }
    }

    fn judge(&mut self, Check { shard, at, outcome }: Check) -> Result<(), Fault> {
        let Some(open) = self.shards.get_mut(&shard) else { return Ok(()) };
        open.end_check();
        match outcome {
            Ok(Page { end, due, .. }) => {
                open.expect(end);
                match due {
                    // More leases are due than one call lets expire.
                    Some(Duration::ZERO) => {
                        self.checks.push(check(self.store.clone(), shard, open));
                    }
                    Some(due) => open.check_by(Instant::now() + due),
                    None => {}
                }
            }
            Err(Fault::Compacted | Fault::Diverged) if open.at() != at => {
                // It has read on meanwhile, so it may well be past what is gone.
                self.checks.push(check(self.store.clone(), shard, open));
            }
            Err(fault @ (Fault::Compacted | Fault::Diverged)) => {
                if let Some(open) = self.shards.remove(&shard) {
                    open.fail(&fault);
                }
            }
            Err(fault) if fault.is_demotion() => return Err(fault),
            Err(fault) => {
                tracing::warn!(?shard, %fault, "could not look for due leases, will try again");
                open.check_by(Instant::now() + RETRY_AFTER);
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Fault> {
        if self.shards.values().any(OpenShard::is_stranded) {
            return Err(Fault::Stranded);
        }
        if let Some(address) = &self.address
            && !self.shards.keys().all(|shard| self.store.link.leads_to(address, *shard))
        {
            return Err(Fault::Moved);
        }
        self.shards.retain(|_, open| {
            if open.unreported() > 0 {
                open.report();
            }
            open.prune()
        });
        Ok(())
    }
}

fn open(store: Arc<Store>, shard: Shard) -> BoxFuture<'static, Result<FeedLink, Fault>> {
    async move { store.link.feed(shard).await }.boxed()
}

fn check(store: Arc<Store>, shard: Shard, open: &mut OpenShard) -> BoxFuture<'static, Check> {
    open.begin_check();
    let at = open.at();
    async move { Check { shard, at, outcome: store.open(shard, at, 1).await } }.boxed()
}

/// Waits for what is under way, if anything is, and takes it out.
async fn done<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    match work {
        Some(running) => {
            let outcome = running.await;
            *work = None;
            outcome
        }
        None => pending().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => time::sleep_until(instant).await,
        None => pending().await,
    }
}

fn random_below(limit: Duration) -> Duration {
    // Without randomness the processes look at the same time, which costs the server a little.
    let fraction = getrandom::u32().map_or(0.0, |bits| f64::from(bits) / f64::from(u32::MAX));
    limit.mul_f64(fraction)
}
