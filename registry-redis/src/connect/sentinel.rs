//! A primary under Sentinel.
//!
//! All sentinels are asked at once. Of the answers of a majority, or of all that came in time, the one with
//! the highest epoch counts: a sentinel that was partitioned still names the old primary. They are asked again
//! when the primary fails, and also periodically: a partitioned old primary goes on serving its clients.

use super::address::{Address, write_list};
use super::dial::{Dialer, parse_database};
use super::link::Link;
use super::topology::Topology;
use crate::deadline::{random_below, with_deadline};
use crate::error::StoreError;
use crate::options::RedisOptions;
use crate::shard::KeyGroup;
use async_trait::async_trait;
use futures_util::stream::{FuturesUnordered, StreamExt};
use registry_core::{Error, ErrorKind, Result, Target};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How often the sentinels are asked. A lease that is still renewed at the old primary must reach the new one
/// before it expires there: this and a third of a ttl until the next renewal are less than the ttl. The processes of a
/// fleet ask at different times.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(2500);

const JITTER: Duration = Duration::from_millis(500);

/// A clone is a handle to the same state.
#[derive(Clone, Debug)]
pub(super) struct Sentinel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sentinels: Vec<Address>,
    /// The name under which they monitor the primary.
    name: String,
    dialer: Dialer,
    deadline: Duration,
    primary: Mutex<Option<Address>>,
    /// The highest epoch of all answers.
    epoch: AtomicU64,
    /// Held by the task that queries the sentinels, so that others wait for its answer.
    querying: tokio::sync::Mutex<()>,
    poller: Mutex<Option<JoinHandle<()>>>,
    /// Connections to sentinels that answered. A fleet that dialled them at each poll would keep them busy.
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

    /// Returns the sentinels of a URL, and the database of the primary. `primary` has the credentials of
    /// the URL, which are the primary's, and its TLS files.
    pub(super) fn parse(
        target: &Target,
        options: &RedisOptions,
        primary: &Dialer,
    ) -> Result<(Self, u32)> {
        let (name, database) = target.path().split_once('/').unwrap_or_else(|| (target.path(), ""));
        if name.is_empty() {
            return Err(Error::new(
                ErrorKind::Invalid,
                "the path of redis+sentinel:// is what the sentinels call the primary, as in redis+sentinel://s1,s2,s3/mymaster",
            ));
        }
        let database = parse_database(database)?;
        let sentinels = Address::all_of(target, Self::PORT)?;
        let (user, password) = match target.option("sentinel_login") {
            Some("same") => (primary.user.clone(), primary.password.clone()),
            Some(other) => {
                let message = format!("option `sentinel_login` is `same`, got=`{other}`");
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
            primary: Mutex::default(),
            epoch: AtomicU64::default(),
            querying: tokio::sync::Mutex::default(),
            poller: Mutex::default(),
            links: Mutex::default(),
        }));
        Ok((sentinel, database))
    }

    fn known_primary(&self) -> Option<Address> {
        lock(&self.0.primary).clone()
    }

    /// Polls the sentinels as long as a handle exists, on the runtime of the caller that finds no poller.
    fn keep_polling(&self) {
        let mut poller = lock(&self.0.poller);
        if poller.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let inner = Arc::downgrade(&self.0);
        *poller = Some(tokio::spawn(async move {
            loop {
                sleep(MIN_POLL_INTERVAL + random_below(JITTER)).await;
                let Some(inner) = inner.upgrade() else { return };
                let sentinel = Self(inner);
                // A caller may be querying because the primary failed.
                let _guard = sentinel.0.querying.lock().await;
                if let Err(error) = sentinel.query().await {
                    // The last answer stands: serving needs no sentinel.
                    tracing::debug!(%error, "no sentinel says whether the primary is still the same");
                }
            }
        }));
    }

    /// Asks all sentinels for the primary.
    async fn query(&self) -> Result<Address, StoreError> {
        let mut queries: FuturesUnordered<_> =
            self.0.sentinels.iter().map(|address| self.query_one(address)).collect();
        let majority = queries.len() / 2 + 1;
        let seen = self.0.epoch.load(Ordering::Relaxed);
        let (mut best, mut answers, mut errors) = (None::<Answer>, 0, Vec::new());
        // A majority may not have heard of a failover yet: answers of an epoch below `seen` are outdated.
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
        let Some(answer) = best else { return Err(most_actionable(errors)) };
        let mut primary = lock(&self.0.primary);
        if let Some(primary) = &*primary
            && answer.epoch < seen
        {
            return Ok(primary.clone());
        }
        self.0.epoch.store(answer.epoch, Ordering::Relaxed);
        if primary.as_ref().is_some_and(|primary| *primary != answer.primary) {
            tracing::info!(primary = %answer.primary, "sentinel names another primary");
        }
        *primary = Some(answer.primary.clone());
        Ok(answer.primary)
    }

    async fn query_one(&self, sentinel: &Address) -> Result<Answer, StoreError> {
        let Inner { dialer, deadline, .. } = &*self.0;
        with_deadline(*deadline, async {
            // Taken out, so that one that does not answer is not used again.
            let open =
                lock(&self.0.links).remove(sentinel).filter(|link| !link.traffic().is_closed());
            if let Some(link) = open {
                match self.ask(&link).await {
                    Err(error) if error.is_io() => {}
                    outcome => {
                        lock(&self.0.links).insert(sentinel.clone(), link);
                        return outcome;
                    }
                }
            }
            let link = dialer.dial(sentinel, "registry-sentinel").await?;
            let answer = self.ask(&link).await.map_err(|error| error.at(sentinel))?;
            lock(&self.0.links).insert(sentinel.clone(), link);
            Ok(answer)
        })
        .await
    }

    async fn ask(&self, link: &Link) -> Result<Answer, StoreError> {
        // During a failover a sentinel reports the new epoch already, but the old address in all
        // replies except the one that is meant for clients.
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
        self.known_primary()
    }

    async fn locate(&self, _: KeyGroup) -> Result<Address, StoreError> {
        self.keep_polling();
        if let Some(primary) = self.known_primary() {
            return Ok(primary);
        }
        let _guard = self.0.querying.lock().await;
        if let Some(primary) = self.known_primary() {
            return Ok(primary); // the task that held the lock has asked
        }
        self.query().await
    }

    fn invalidate(&self, address: &Address) {
        lock(&self.0.primary).take_if(|primary| primary == address);
    }
}

impl fmt::Display for Sentinel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(&self.0.sentinels, f)?;
        write!(f, "/{}", self.0.name)
    }
}

/// The lock is held for a few assignments, in which nothing panics.
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

/// Returns one of several errors: one that the caller must fix, if there is any.
fn most_actionable(mut errors: Vec<StoreError>) -> StoreError {
    let actionable = errors.iter().position(|error| !error.is_unavailable());
    errors.swap_remove(actionable.unwrap_or_default())
}
