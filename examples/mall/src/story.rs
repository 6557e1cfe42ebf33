//! The story: three user servers and an order API; one is killed, one is drained, and a customer
//! shops.

use crate::customer::shop;
use crate::door::name;
use crate::store::Store;
use crate::tally::Tally;
use crate::timeline::Timeline;
use crate::worker::{Job, Worker};
use crate::{order, user};
use anyhow::{Context, Result, anyhow, ensure};
use futures_util::StreamExt;
use futures_util::future::{join_all, select_all};
use service_registry::store::{Change, Updates};
use service_registry::{Instance, InstanceId, InstanceStatus, Update, View};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// What nothing in the story takes longer than, but for a lease that has to run out first.
const LIMIT: Duration = Duration::from_secs(15);

const API: &str = "the order API";
const USERS: [&str; 3] = ["alice", "bob", "carol"];
const TO_BE_KILLED: &str = "carol";
const TO_BE_DRAINED: &str = "bob";

/// Tells it from the opening to the closing, or until Ctrl-C.
pub(crate) async fn tell(timeline: Timeline, store: &Store, processes: bool) -> Result<ExitCode> {
    ensure!(
        !(processes && store.is_private()),
        "processes cannot share memory: name an etcd or a Redis, registry=`{}`",
        store.target()
    );
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let interrupted = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let mut interrupted = pin!(interrupted);
    timeline.say(format_args!("the mall opens, registry {}", store.target()));
    let tally = Arc::new(Tally::default());
    let mut mall = tokio::select! {
        opened = Mall::open(timeline.clone(), store, processes) => opened?,
        () = &mut interrupted => return Ok(timeline.end(&tally)), // nobody works yet
    };
    let mut news = News::of(&mall.users, timeline.clone());
    let from_open_to_close = async {
        let told = mall.day(interrupted, &tally).await;
        timeline.say("the mall closes");
        mall.close().await.and(told)
    };
    tokio::select! {
        biased; // news first: all that was seen from here on is told by then
        never = news.follow() => match never {},
        told = from_open_to_close => told?,
    }
    Ok(timeline.end(&tally))
}

struct Mall {
    timeline: Timeline,
    ttl: Duration,
    users: View,
    apis: View,
    /// Those who work, by name.
    staff: BTreeMap<&'static str, Worker>,
}

impl Mall {
    async fn open(timeline: Timeline, store: &Store, processes: bool) -> Result<Self> {
        let hire = if processes { Worker::in_process } else { Worker::in_thread };
        let (users, apis) = (store.view(user::SERVICE).await?, store.view(order::SERVICE).await?);
        let mut staff = BTreeMap::from([(API, hire(Job::Order, store)?)]);
        for name in USERS {
            staff.insert(name, hire(Job::User(name), store)?);
        }
        Ok(Self { timeline, ttl: store.ttl, users, apis, staff })
    }

    /// All that happens, unless it is interrupted.
    async fn day(
        &mut self,
        mut interrupted: impl Future<Output = ()> + Unpin,
        tally: &Arc<Tally>,
    ) -> Result<()> {
        let url = tokio::select! {
            url = self.ready() => url?,
            () = &mut interrupted => return Ok(()),
        };
        self.timeline.say(format_args!("orders are taken at {url}"));
        let (enough, told) = oneshot::channel::<()>();
        let customer = tokio::spawn({
            let tally = tally.clone();
            async move { shop(&url, 0.., async { drop(told.await) }, &tally).await }
        });
        let timeline = self.timeline.clone();
        let told = tokio::select! {
            told = self.plot() => told,
            never = timeline.follow(tally) => match never {},
            () = interrupted => Ok(()),
        };
        drop(enough);
        customer.await?;
        told
    }

    /// Waits until everybody is registered, and gives the URL of the order API.
    async fn ready(&mut self) -> Result<String> {
        let listed = async {
            until(LIMIT, &mut self.users, "all user servers to be registered", |names| {
                names == USERS
            })
            .await?;
            until(LIMIT, &mut self.apis, "the order API to be registered", |names| names == [API])
                .await
        };
        let ended = select_all(self.staff.values_mut().map(|worker| Box::pin(worker.ended())));
        tokio::select! {
            listed = listed => listed?,
            (ended, ..) = ended => return ended.and(Err(anyhow!("a server ended by itself"))),
        }
        Ok(format!("http://{}", self.apis.state().records()[0].instance().address()))
    }

    /// What the customer should not notice.
    async fn plot(&mut self) -> Result<()> {
        let Self { timeline, ttl, users, staff, .. } = self;
        sleep(Duration::from_millis(2500)).await;
        if let Some(worker) = staff.remove(TO_BE_KILLED) {
            worker.kill().await?;
            timeline.say(format_args!(
                "{TO_BE_KILLED} is killed: nobody withdraws her, she is listed for up to {ttl:?}"
            ));
        }
        let without = |name: &'static str| move |names: &[&str]| !names.contains(&name);
        until(LIMIT + *ttl, users, "the killed one to be gone", without(TO_BE_KILLED)).await?;
        sleep(Duration::from_secs(2)).await;
        if let Some(worker) = staff.get_mut(TO_BE_DRAINED) {
            timeline.say(format_args!("{TO_BE_DRAINED} is asked to leave"));
            timeout(LIMIT, worker.leave()).await.context("the drained one has not left")??;
            staff.remove(TO_BE_DRAINED);
        }
        until(LIMIT, users, "the drained one to be gone", without(TO_BE_DRAINED)).await?;
        sleep(Duration::from_secs(2)).await;
        Ok(())
    }

    /// Asks all who are there to leave, and waits until they have, as far as others can tell.
    async fn close(mut self) -> Result<()> {
        let left = join_all(self.staff.values_mut().map(Worker::leave));
        let left = timeout(LIMIT, left).await.context("not all servers have left in time")?;
        left.into_iter().collect::<Result<()>>()?;
        let staff = self.staff;
        let none = |names: &[&str]| !names.iter().any(|name| staff.contains_key(name));
        until(LIMIT, &mut self.users, "all to be gone", none).await
    }
}

/// Waits until the names that are listed are as asked.
async fn until(
    limit: Duration,
    view: &mut View,
    what: &str,
    are: impl Fn(&[&str]) -> bool,
) -> Result<()> {
    let seen = async {
        loop {
            {
                let state = view.state();
                let mut names: Vec<_> = state.instances().map(name).collect();
                names.sort_unstable();
                if are(&names) {
                    return;
                }
            }
            view.changed().await.expect("the view is open");
        }
    };
    let seen = timeout(limit, seen).await;
    seen.with_context(|| format!("waited in vain for {what}, limit=`{limit:?}`"))
}

/// What the registry says of the user servers.
struct News {
    updates: Updates,
    timeline: Timeline,
    listed: BTreeMap<InstanceId, Instance>,
}

impl News {
    fn of(users: &View, timeline: Timeline) -> Self {
        Self { updates: users.updates(), timeline, listed: BTreeMap::new() }
    }

    /// Tells it as it comes.
    async fn follow(&mut self) -> Infallible {
        loop {
            match self.updates.next().await {
                Some(update) => self.tell(&update),
                None => pending().await,
            }
        }
    }

    fn tell(&mut self, update: &Update) {
        let batch = match update {
            Update::Batch(batch) => batch,
            // What it took to get there is not known.
            Update::Reset(all) => {
                let all = all.instances();
                self.listed = all.map(|one| (one.id().clone(), one.clone())).collect();
                return;
            }
            Update::Status(status) => return self.timeline.say(format!("the list is {status}")),
        };
        for change in &batch.changes {
            self.timeline.say(meaning(change, self.listed.get(change.id())));
            match change {
                Change::Put(record) => {
                    self.listed.insert(record.id().clone(), record.instance().clone());
                }
                Change::Delete(deleted) => drop(self.listed.remove(deleted.id())),
            }
        }
    }
}

/// What a change means for whoever was listed `before`.
fn meaning(change: &Change, before: Option<&Instance>) -> String {
    match (change, before) {
        (Change::Put(record), _) => {
            let now = record.instance();
            if now.status() == InstanceStatus::Draining {
                return format!("{} drains, and gets no new calls", name(now));
            }
            format!("{} is registered at {}", name(now), now.address())
        }
        (Change::Delete(_), Some(before)) if before.status() == InstanceStatus::Draining => {
            format!("{} is gone, as announced", name(before))
        }
        (Change::Delete(_), Some(before)) => format!("{} is gone without a word", name(before)),
        (Change::Delete(deleted), None) => format!("{} is gone", deleted.id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_registry::store::{CallOptions, Claim};

    #[tokio::test]
    async fn after_a_reset_exactly_the_listed_instances_are_known() {
        let store = Store::open("mem://mall").unwrap();
        let users = registry_testkit::lag::timeout(LIMIT, store.view(user::SERVICE))
            .await
            .unwrap()
            .unwrap();
        let mut news = News::of(&users, Timeline::start());
        let [gone, here] = ["gone", "here"].map(|id| {
            let address = "h:1".parse().unwrap();
            Instance::from_parts(user::SERVICE.parse().unwrap(), id.parse().unwrap(), address)
        });
        news.listed.insert(gone.id().clone(), gone);
        let registry = store.connect().await.unwrap().registry().clone();
        registry.register(&here, &Claim::new(LIMIT).unwrap(), &CallOptions::DEFAULT).await.unwrap();
        news.tell(&Update::Reset(
            registry.load(here.service(), &CallOptions::DEFAULT).await.unwrap(),
        ));
        assert_eq!(news.listed, BTreeMap::from([(here.id().clone(), here)]));
    }
}
