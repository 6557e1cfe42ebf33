//! A primary under Sentinel.
//!
//! All sentinels are queried at once. Among the answers of a majority, or of all that arrive in time, the one
//! with the highest epoch wins, since a partitioned sentinel still names the old primary. They are queried
//! when the primary fails, and also periodically, since a partitioned old primary keeps serving its clients.
//!
//! Each runtime queries over its own connections, since another runtime may not be driven. All share the answers.

use super::address::{Address, write_list};
use super::dial::{Dialer, parse_database};
use super::link::Link;
use super::topology::Topology;
use crate::deadline::{SHARING_TIMEOUT, random_below, with_deadline};
use crate::error::StoreError;
use crate::options::RedisOptions;
use crate::shard::KeyGroup;
use async_trait::async_trait;
use futures_util::stream::{FuturesUnordered, StreamExt};
use registry_core::{Error, ErrorKind, Result, Target, printable};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// The interval between queries. A lease that is still renewed at the old primary must reach the new one
/// before it expires there: this interval and the third of a ttl until the next renewal must be less than the
/// ttl. The processes of a fleet query at different times.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(2500);

const JITTER: Duration = Duration::from_millis(500);

/// A clone is a handle to the same state.
#[derive(Clone, Debug)]
pub(super) struct Sentinel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sentinels: Vec<Address>,
    /// The name of the primary at the sentinels.
    name: String,
    dialer: Dialer,
    deadline: Duration,
    known: Mutex<Known>,
    pollers: Mutex<HashMap<runtime::Id, Poller>>,
}

/// The combined answers of the sentinels.
#[derive(Debug, Default)]
struct Known {
    primary: Option<Address>,
    /// The highest epoch of all answers.
    epoch: u64,
}

/// The task of a runtime that queries the sentinels periodically, and what it shares with callers.
#[derive(Debug)]
struct Poller {
    task: AbortHandle,
    queries: Arc<Queries>,
}

/// The queries of one runtime.
#[derive(Debug, Default)]
struct Queries {
    /// The lock is held during a query, so that others wait for its answer.
    querying: tokio::sync::Mutex<()>,
    /// Connections to sentinels that answered. Dialling for each query would keep the sentinels of a large
    /// fleet busy.
    links: Mutex<HashMap<Address, Link>>,
}

/// The answer of a sentinel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    epoch: u64,
    primary: Address,
}

impl Sentinel {
    const PORT: u16 = 26379;

    /// Returns the sentinels of a URL, and the database of the primary. `primary` has the URL's credentials,
    /// which are for the primary, and its TLS files.
    pub(super) fn parse(
        target: &Target,
        options: &RedisOptions,
        primary: &Dialer,
    ) -> Result<(Self, u32)> {
        let (name, database) = target.path().split_once('/').unwrap_or_else(|| (target.path(), ""));
        if name.is_empty() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "redis+sentinel:// needs the name of the primary in its path, as in redis+sentinel://s1,s2,s3/mymaster",
            ));
        }
        let database = parse_database(database)?;
        let sentinels = Address::all_of(target, Self::PORT)?;
        let (user, password) = match target.option("sentinel_login") {
            Some("same") => (primary.user.clone(), primary.password.clone()),
            Some(other) => {
                let message = format!("option `sentinel_login` must be `same`, got=`{other}`");
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            None => {
                let (user, password) = options.sentinel_login.clone().unzip();
                (user.flatten(), password)
            }
        };
        let dialer = Dialer { user, password, database: 0, tls: primary.tls.clone() };
        let sentinel = Self(Arc::new(Inner {
            sentinels,
            name: name.to_owned(),
            dialer,
            deadline: options.connect_deadline / 2,
            known: Mutex::default(),
            pollers: Mutex::default(),
        }));
        Ok((sentinel, database))
    }

    fn known_primary(&self) -> Option<Address> {
        lock(&self.0.known).primary.clone()
    }

    /// Polls the sentinels on the current runtime while a handle exists. Returns the queries of that runtime.
    fn keep_polling(&self) -> Arc<Queries> {
        let runtime = runtime::Handle::current();
        let mut pollers = lock(&self.0.pollers);
        if let Some(poller) = pollers.get(&runtime.id())
            && !poller.task.is_finished()
        {
            return poller.queries.clone();
        }
        // Tasks of runtimes that shut down are finished.
        pollers.retain(|_, poller| !poller.task.is_finished());
        let queries = Arc::<Queries>::default();
        let task = runtime.spawn(poll(Arc::downgrade(&self.0), queries.clone())).abort_handle();
        pollers.insert(runtime.id(), Poller { task, queries: queries.clone() });
        queries
    }

    /// Waits a limited time for a query in flight, since its task may no longer be polled.
    async fn wait_for_query<'a>(
        &self,
        queries: &'a Queries,
    ) -> Option<tokio::sync::MutexGuard<'a, ()>> {
        timeout(SHARING_TIMEOUT.min(self.0.deadline / 2), queries.querying.lock()).await.ok()
    }

    /// Queries all sentinels for the primary, and waits for a majority.
    async fn query(&self, links: &Mutex<HashMap<Address, Link>>) -> Result<Address, StoreError> {
        self.query_some(links).await.0
    }

    /// Does the same, then waits for the other sentinels, since an abandoned query loses its connection.
    async fn query_all(&self, links: &Mutex<HashMap<Address, Link>>) -> Result<(), StoreError> {
        let (primary, mut others) = self.query_some(links).await;
        while others.next().await.is_some() {}
        primary.map(drop)
    }

    /// Queries all sentinels for the primary, and waits for a majority. Returns also the remaining queries.
    async fn query_some<'a>(
        &'a self,
        links: &'a Mutex<HashMap<Address, Link>>,
    ) -> (
        Result<Address, StoreError>,
        FuturesUnordered<impl Future<Output = Result<Answer, StoreError>> + 'a>,
    ) {
        let mut queries: FuturesUnordered<_> =
            self.0.sentinels.iter().map(|address| self.query_one(address, links)).collect();
        let majority = queries.len() / 2 + 1;
        let seen = lock(&self.0.known).epoch;
        let (mut best, mut answers, mut errors) = (None::<Answer>, 0, Vec::new());
        // A majority may not know of a failover yet, so answers below the epoch `seen` are outdated.
        while (answers < majority || best.as_ref().is_none_or(|best| best.epoch < seen))
            && let Some(outcome) = queries.next().await
        {
            match outcome {
                Ok(answer) => {
                    answers += 1;
                    if best.as_ref().is_none_or(|best| best.epoch < answer.epoch) {
                        best = Some(answer);
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        let Some(answer) = best else { return (Err(most_actionable(errors)), queries) };
        let mut known = lock(&self.0.known);
        if let Some(primary) = &known.primary
            && answer.epoch < known.epoch
        {
            return (Ok(primary.clone()), queries);
        }
        if known.primary.as_ref().is_some_and(|primary| *primary != answer.primary) {
            let primary = answer.primary.to_string();
            tracing::info!(primary = %printable(&primary), "the sentinels name another primary");
        }
        *known = Known { primary: Some(answer.primary.clone()), epoch: answer.epoch };
        (Ok(answer.primary), queries)
    }

    async fn query_one(
        &self,
        sentinel: &Address,
        links: &Mutex<HashMap<Address, Link>>,
    ) -> Result<Answer, StoreError> {
        let Inner { dialer, deadline, .. } = &*self.0;
        with_deadline(*deadline, async {
            // Removed, so that a connection that does not answer is not used again.
            let open = lock(links).remove(sentinel).filter(|link| !link.traffic().is_closed());
            if let Some(link) = open {
                match self.ask(&link).await {
                    Err(error) if error.is_io() => {}
                    outcome => {
                        lock(links).insert(sentinel.clone(), link);
                        return outcome;
                    }
                }
            }
            let link = dialer.dial(sentinel, "registry-sentinel").await?;
            let answer = self.ask(&link).await.map_err(|error| error.at(sentinel))?;
            lock(links).insert(sentinel.clone(), link);
            Ok(answer)
        })
        .await
    }

    async fn ask(&self, link: &Link) -> Result<Answer, StoreError> {
        // During a failover, a sentinel already reports the new epoch, but the new address only in the reply
        // meant for clients.
        let name = &self.0.name;
        let mut query = redis::pipe();
        query.cmd("SENTINEL").arg("MASTER").arg(name);
        query.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let (fields, address): (HashMap<String, String>, Option<(String, u16)>) =
            query.query_async(&mut link.requests()).await?;
        parse_answer(&fields, address)
            .ok_or_else(|| StoreError::UnexpectedReply(format!("{fields:?}")))
    }
}

#[async_trait]
impl Topology for Sentinel {
    fn known_server(&self, _: KeyGroup) -> Option<Address> {
        // Every runtime that makes calls polls, since another runtime may have ended or may not be driven.
        self.keep_polling();
        self.known_primary()
    }

    async fn locate(&self, _: KeyGroup) -> Result<Address, StoreError> {
        let queries = self.keep_polling();
        if let Some(primary) = self.known_primary() {
            return Ok(primary);
        }
        let _guard = self.wait_for_query(&queries).await;
        if let Some(primary) = self.known_primary() {
            return Ok(primary); // found by the query that held the lock
        }
        self.query(&queries.links).await
    }

    fn invalidate(&self, address: &Address) {
        lock(&self.0.known).primary.take_if(|primary| primary == address);
    }
}

/// Queries the sentinels periodically while a handle exists.
async fn poll(inner: Weak<Inner>, queries: Arc<Queries>) {
    loop {
        sleep(MIN_POLL_INTERVAL + random_below(JITTER)).await;
        let Some(inner) = inner.upgrade() else { return };
        let sentinel = Sentinel(inner);
        // A caller may already be querying because the primary failed.
        let _guard = sentinel.wait_for_query(&queries).await;
        if let Err(error) = sentinel.query_all(&queries.links).await {
            // The last answer stays valid, since calls need no sentinel.
            let error = error.to_string();
            tracing::debug!(error = %printable(&error), "no sentinel answered the periodic query for the primary");
        }
    }
}

impl fmt::Display for Sentinel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(&self.0.sentinels, f)?;
        write!(f, "/{}", self.0.name)
    }
}

/// The lock is held for a few assignments that cannot panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse_answer(
    fields: &HashMap<String, String>,
    address: Option<(String, u16)>,
) -> Option<Answer> {
    let epoch = fields.get("config-epoch")?.parse().ok()?;
    let (host, port) = address?;
    Some(Answer { epoch, primary: Address::new(&host, port) })
}

/// Returns an error that the caller can fix, if there is one, or else any of them.
fn most_actionable(mut errors: Vec<StoreError>) -> StoreError {
    let actionable = errors.iter().position(|error| !error.is_unavailable());
    errors.swap_remove(actionable.unwrap_or_default())
}
