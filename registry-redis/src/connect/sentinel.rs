//! The primary, as Sentinel names it.
//!
//! All sentinels are asked at once. The answer of the highest epoch counts among those of a majority, or
//! among all that came in time: a sentinel that was cut off still names the primary of before. They are asked
//! again when the primary fails, and all the time while it does not: an old primary that was cut off
//! serves whoever reaches it.

use super::{Address, Dialer, list};
use crate::error::Fault;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long an answer counts. Who goes on renewing with an old primary has the rest of a ttl until the new one
/// lets the lease expire: this, and a third of a ttl until the next renewal, is less.
const ASK_AFTER: Duration = Duration::from_secs(3);

/// A handle; a clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Sentinel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sentinels: Vec<Address>,
    /// What they call the primary and its replicas.
    name: String,
    dialer: Dialer,
    deadline: Duration,
    known: Mutex<Option<Address>>,
    /// The highest epoch that was ever heard of.
    epoch: AtomicU64,
    /// Held by whoever asks.
    asking: tokio::sync::Mutex<()>,
    /// Asks again and again.
    watching: Mutex<Option<JoinHandle<()>>>,
}

/// What a sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    epoch: u64,
    primary: Address,
}

impl Sentinel {
    pub(super) fn new(
        sentinels: Vec<Address>,
        name: String,
        dialer: Dialer,
        deadline: Duration,
    ) -> Self {
        let (known, asking) = (Mutex::default(), tokio::sync::Mutex::default());
        let (epoch, watching) = (AtomicU64::default(), Mutex::default());
        Self(Arc::new(Inner { sentinels, name, dialer, deadline, known, epoch, asking, watching }))
    }

    /// The primary: as last heard of, or as they say now.
    pub(super) async fn primary(&self) -> Result<Address, Fault> {
        self.keep_asking();
        if let Some(known) = self.known_primary() {
            return Ok(known);
        }
        let _turn = self.0.asking.lock().await;
        if let Some(known) = self.known_primary() {
            return Ok(known); // heard by whose turn it was before
        }
        self.ask().await
    }

    /// The primary as last heard of.
    pub(super) fn known_primary(&self) -> Option<Address> {
        lock(&self.0.known).clone()
    }

    /// Forgets `address`, if it is what they last named.
    pub(super) fn doubt(&self, address: &Address) {
        lock(&self.0.known).take_if(|known| known == address);
    }

    /// Asks again all the time, for as long as anybody holds this, on the runtime of whoever used it last.
    fn keep_asking(&self) {
        let mut watching = lock(&self.0.watching);
        if watching.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let inner = Arc::downgrade(&self.0);
        *watching = Some(tokio::spawn(async move {
            loop {
                sleep(ASK_AFTER).await;
                let Some(inner) = inner.upgrade() else { return };
                let sentinel = Self(inner);
                // Whoever asks because the primary failed is waited for.
                let _turn = sentinel.0.asking.lock().await;
                if let Err(fault) = sentinel.ask().await {
                    // What they said before stands: they are not needed to serve.
                    tracing::debug!(%fault, "no sentinel says whether the primary is still the same");
                }
            }
        }));
    }

    async fn ask(&self) -> Result<Address, Fault> {
        let mut asked: FuturesUnordered<_> =
            self.0.sentinels.iter().map(|one| self.ask_one(one)).collect();
        let majority = asked.len() / 2 + 1;
        let seen = self.0.epoch.load(Ordering::Relaxed);
        let (mut best, mut answers, mut faults) = (None::<Answer>, 0, Vec::new());
        // Those that have not heard of a failover yet may be a majority: they say less than is known.
        while (answers < majority || best.as_ref().is_none_or(|best| best.epoch < seen))
            && let Some(outcome) = asked.next().await
        {
            match outcome {
                Ok(answer) => {
                    answers += 1;
                    if best.as_ref().is_none_or(|best| best.epoch < answer.epoch) {
                        best = Some(answer);
                    }
                }
                Err(fault) => faults.push(fault),
            }
        }
        let Some(answer) = best else { return Err(worst(faults)) };
        let mut known = lock(&self.0.known);
        if let Some(known) = &*known
            && answer.epoch < seen
        {
            return Ok(known.clone());
        }
        self.0.epoch.store(answer.epoch, Ordering::Relaxed);
        if known.as_ref().is_some_and(|known| *known != answer.primary) {
            tracing::info!(primary = %answer.primary, "sentinel names another primary");
        }
        *known = Some(answer.primary.clone());
        Ok(answer.primary)
    }

    async fn ask_one(&self, sentinel: &Address) -> Result<Answer, Fault> {
        let Inner { name, dialer, deadline, .. } = &*self.0;
        let asked = async {
            let mut connection = dialer.dial(sentinel, "registry-sentinel").await?;
            // While it makes a failover a sentinel counts the epoch already, and tells the old address in
            // all but the one question that is meant for clients.
            let mut ask = redis::pipe();
            ask.cmd("SENTINEL").arg("MASTER").arg(name);
            ask.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
            let (said, address): (HashMap<String, String>, Option<(String, u16)>) =
                ask.query_async(&mut connection).await?;
            parse(&said, address).ok_or_else(|| Fault::Reply(format!("{said:?}")))
        };
        timeout(*deadline, asked).await.unwrap_or(Err(Fault::Deadline(*deadline)))
    }
}

/// Held for a few assignments, and nothing panics meanwhile.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Sentinel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(&self.0.sentinels, f)?;
        write!(f, "/{}", self.0.name)
    }
}

fn parse(said: &HashMap<String, String>, address: Option<(String, u16)>) -> Option<Answer> {
    let epoch = said.get("config-epoch")?.parse().ok()?;
    let (host, port) = address?;
    Some(Answer { epoch, primary: Address::new(&host, port) })
}

/// Which of several failures to tell: one that the caller must mend, if there is any.
fn worst(mut faults: Vec<Fault>) -> Fault {
    let unavailable = |fault: &Fault| fault.kind() == registry_core::ErrorKind::Unavailable;
    let worst = faults.iter().position(|fault| !unavailable(fault)).unwrap_or_default();
    faults.swap_remove(worst)
}
