//! The primary, as Sentinel names it.
//!
//! All sentinels are asked at once. The answer of the highest epoch counts among those of a majority, or
//! among all that came in time: a sentinel that was cut off still names the primary of before. It is asked
//! again when the primary fails, and now and then while it does not: an old primary that was cut off
//! serves whoever reaches it.

use super::{Address, Dialer, list};
use crate::error::Fault;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long an answer counts while its primary serves: who goes on renewing with an old primary has less than
/// the rest of a ttl until the new one lets the lease expire.
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
    known: Mutex<Option<Known>>,
    /// Held by whoever asks.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Known {
    primary: Address,
    since: Instant,
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
        Self(Arc::new(Inner { sentinels, name, dialer, deadline, known, asking }))
    }

    /// The primary: as last heard of, or as they say now.
    pub(super) async fn primary(&self) -> Result<Address, Fault> {
        if let Some(known) = self.known_primary() {
            return Ok(known);
        }
        let _turn = self.0.asking.lock().await;
        if let Some(known) = &*self.known() {
            return Ok(known.primary.clone()); // heard by whose turn it was before
        }
        self.ask().await
    }

    /// The primary as last heard of. If that is long ago they are asked again, and nobody waits for it.
    pub(super) fn known_primary(&self) -> Option<Address> {
        let Known { primary, since } = self.known().clone()?;
        if since.elapsed() >= ASK_AFTER {
            self.ask_aside();
        }
        Some(primary)
    }

    /// Forgets `address`, if it is what they last named.
    pub(super) fn doubt(&self, address: &Address) {
        self.known().take_if(|known| known.primary == *address);
    }

    /// Asks again without making anybody wait, unless that is under way.
    fn ask_aside(&self) {
        let sentinel = self.clone();
        tokio::spawn(async move {
            let Ok(_turn) = sentinel.0.asking.try_lock() else { return };
            // Where they do not answer, what they said before stands: they are not needed to serve.
            if let Err(fault) = sentinel.ask().await {
                tracing::debug!(%fault, "no sentinel says whether the primary is still the same");
                if let Some(known) = &mut *sentinel.known() {
                    known.since = Instant::now();
                }
            }
        });
    }

    async fn ask(&self) -> Result<Address, Fault> {
        let mut asked: FuturesUnordered<_> =
            self.0.sentinels.iter().map(|one| self.ask_one(one)).collect();
        let majority = asked.len() / 2 + 1;
        let (mut answers, mut faults) = (Vec::new(), Vec::new());
        while answers.len() < majority
            && let Some(outcome) = asked.next().await
        {
            match outcome {
                Ok(answer) => answers.push(answer),
                Err(fault) => faults.push(fault),
            }
        }
        let Some(answer) = answers.into_iter().max_by_key(|answer| answer.epoch) else {
            return Err(worst(faults));
        };
        let mut known = self.known();
        if known.as_ref().is_some_and(|known| known.primary != answer.primary) {
            tracing::info!(primary = %answer.primary, "sentinel names another primary");
        }
        let primary = answer.primary;
        *known = Some(Known { primary: primary.clone(), since: Instant::now() });
        Ok(primary)
    }

    async fn ask_one(&self, sentinel: &Address) -> Result<Answer, Fault> {
        let Inner { name, dialer, deadline, .. } = &*self.0;
        let asked = async {
            let mut connection = dialer.dial(sentinel, "registry-sentinel").await?;
            let mut ask = redis::cmd("SENTINEL");
            ask.arg("MASTER").arg(name);
            let said: HashMap<String, String> = ask.query_async(&mut connection).await?;
            parse(&said).ok_or_else(|| Fault::Reply(format!("{said:?}")))
        };
        timeout(*deadline, asked).await.unwrap_or(Err(Fault::Deadline(*deadline)))
    }

    /// Held for a few assignments, and nothing panics meanwhile.
    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Sentinel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(&self.0.sentinels, f)?;
        write!(f, "/{}", self.0.name)
    }
}

fn parse(said: &HashMap<String, String>) -> Option<Answer> {
    let port = said.get("port")?.parse().ok()?;
    let epoch = said.get("config-epoch")?.parse().ok()?;
    Some(Answer { epoch, primary: Address::new(said.get("ip")?, port) })
}

/// Which of several failures to tell: one that the caller must mend, if there is any.
fn worst(mut faults: Vec<Fault>) -> Fault {
    let unavailable = |fault: &Fault| fault.kind() == registry_core::ErrorKind::Unavailable;
    let worst = faults.iter().position(|fault| !unavailable(fault)).unwrap_or_default();
    faults.swap_remove(worst)
}
