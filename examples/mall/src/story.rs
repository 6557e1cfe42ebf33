//! Runs three user servers, an order API and a customer. One server is killed and one is drained.

use crate::customer::place_orders;
use crate::listening::name;
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

/// Limit of each step, beside the time until a lease expires.
const LIMIT: Duration = Duration::from_secs(15);

const API: &str = "the order API";
const USERS: [&str; 3] = ["alice", "bob", "carol"];
const TO_BE_KILLED: &str = "carol";
const TO_BE_DRAINED: &str = "bob";

/// Runs everything to the end, or until Ctrl-C.
pub(crate) async fn run(timeline: Timeline, store: &Store, processes: bool) -> Result<ExitCode> {
    ensure!(
        !(processes && store.is_private()),
        "processes cannot share a registry in memory: use etcd or Redis, registry=`{}`",
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
        () = &mut interrupted => return Ok(timeline.end(&tally)),
    };
    let mut changes = Changes::of(&mall.users, timeline.clone());
    let day = async {
        let outcome = mall.run(interrupted, &tally).await;
        timeline.say("the mall closes");
        mall.close().await.and(outcome)
    };
    tokio::select! {
        biased; // changes first, so that all of them are printed at the end
        never = changes.follow() => match never {},
        outcome = day => outcome?,
    }
    Ok(timeline.end(&tally))
}

struct Mall {
    timeline: Timeline,
    ttl: Duration,
    users: View,
    apis: View,
    /// The running servers, by name.
    workers: BTreeMap<&'static str, Worker>,
}

impl Mall {
    async fn open(timeline: Timeline, store: &Store, processes: bool) -> Result<Self> {
        let start = if processes { Worker::in_process } else { Worker::in_thread };
        let (users, apis) = (store.view(user::SERVICE).await?, store.view(order::SERVICE).await?);
        let mut workers = BTreeMap::from([(API, start(Job::Order, store)?)]);
        for name in USERS {
            workers.insert(name, start(Job::User(name), store)?);
        }
        Ok(Self { timeline, ttl: store.ttl, users, apis, workers })
    }

    /// Places orders while servers are killed and drained, until that is done or interrupted.
    async fn run(
        &mut self,
        mut interrupted: impl Future<Output = ()> + Unpin,
        tally: &Arc<Tally>,
    ) -> Result<()> {
        let url = tokio::select! {
            url = self.ready() => url?,
            () = &mut interrupted => return Ok(()),
        };
        self.timeline.say(format_args!("orders are taken at {url}"));
        let (end, ended) = oneshot::channel::<()>();
        let customer = tokio::spawn({
            let tally = tally.clone();
            async move { place_orders(&url, 0.., async { drop(ended.await) }, &tally).await }
        });
        let timeline = self.timeline.clone();
        let outcome = tokio::select! {
            outcome = self.kill_and_drain() => outcome,
            never = timeline.follow(tally) => match never {},
            () = interrupted => Ok(()),
        };
        drop(end);
        customer.await?;
        outcome
    }

    /// Waits until all servers are registered. Returns the URL of the order API.
    async fn ready(&mut self) -> Result<String> {
        let listed = async {
            until(LIMIT, &mut self.users, "all user servers to be registered", |names| {
                names == USERS
            })
            .await?;
            until(LIMIT, &mut self.apis, "the order API to be registered", |names| names == [API])
                .await
        };
        let ended = select_all(self.workers.values_mut().map(|worker| Box::pin(worker.ended())));
        tokio::select! {
            listed = listed => listed?,
            (ended, ..) = ended => return ended.and(Err(anyhow!("a server ended by itself"))),
        }
        Ok(format!("http://{}", self.apis.state().records()[0].instance().address()))
    }

    /// Kills one server and drains another one, which the customer must not notice.
    async fn kill_and_drain(&mut self) -> Result<()> {
        let Self { timeline, ttl, users, workers, .. } = self;
        sleep(Duration::from_millis(2500)).await;
        if let Some(worker) = workers.remove(TO_BE_KILLED) {
            worker.kill().await?;
            timeline.say(format_args!(
                "{TO_BE_KILLED} is killed, and stays listed until her lease expires: up to {ttl:?}"
            ));
        }
        let without = |name: &'static str| move |names: &[&str]| !names.contains(&name);
        until(LIMIT + *ttl, users, "the killed server to be removed", without(TO_BE_KILLED))
            .await?;
        sleep(Duration::from_secs(2)).await;
        if let Some(worker) = workers.get_mut(TO_BE_DRAINED) {
            timeline.say(format_args!("{TO_BE_DRAINED} is asked to stop"));
            timeout(LIMIT, worker.stop()).await.context("the drained server has not stopped")??;
            workers.remove(TO_BE_DRAINED);
        }
        until(LIMIT, users, "the drained server to be removed", without(TO_BE_DRAINED)).await?;
        sleep(Duration::from_secs(2)).await;
        Ok(())
    }

    /// Stops all servers, and waits until none is listed.
    async fn close(mut self) -> Result<()> {
        let stopped = join_all(self.workers.values_mut().map(Worker::stop));
        let stopped = timeout(LIMIT, stopped).await.context("not all servers stopped in time")?;
        stopped.into_iter().collect::<Result<()>>()?;
        let workers = self.workers;
        let none = |names: &[&str]| !names.iter().any(|name| workers.contains_key(name));
        until(LIMIT, &mut self.users, "all servers to be removed", none).await
    }
}

/// Waits until the listed names fulfil `are`.
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
    seen.with_context(|| format!("timeout while waiting for {what}, limit=`{limit:?}`"))
}

/// Prints the changes of the user servers.
struct Changes {
    updates: Updates,
    timeline: Timeline,
    listed: BTreeMap<InstanceId, Instance>,
}

impl Changes {
    fn of(users: &View, timeline: Timeline) -> Self {
        Self { updates: users.updates(), timeline, listed: BTreeMap::new() }
    }

    /// Prints the changes as they arrive.
    async fn follow(&mut self) -> Infallible {
        loop {
            match self.updates.next().await {
                Some(update) => self.print(&update),
                None => pending().await,
            }
        }
    }

    fn print(&mut self, update: &Update) {
        let batch = match update {
            Update::Batch(batch) => batch,
            // The changes between both states are not known.
            Update::Reset(all) => {
                let all = all.instances();
                self.listed = all.map(|one| (one.id().clone(), one.clone())).collect();
                return;
            }
            Update::Status(status) => return self.timeline.say(format!("the list is {status}")),
        };
        for change in &batch.changes {
            self.timeline.say(describe(change, self.listed.get(change.id())));
            match change {
                Change::Put(record) => {
                    self.listed.insert(record.id().clone(), record.instance().clone());
                }
                Change::Delete(deleted) => drop(self.listed.remove(deleted.id())),
            }
        }
    }
}

/// Describes a change. `before` is the instance as it was listed before.
fn describe(change: &Change, before: Option<&Instance>) -> String {
    match (change, before) {
        (Change::Put(record), _) => {
            let now = record.instance();
            if now.status() == InstanceStatus::Draining {
                return format!("{} drains and gets no new calls", name(now));
            }
            format!("{} is registered at {}", name(now), now.address())
        }
        (Change::Delete(_), Some(before)) if before.status() == InstanceStatus::Draining => {
            format!("{} is withdrawn", name(before))
        }
        (Change::Delete(_), Some(before)) => {
            format!("{} is removed without a withdrawal", name(before))
        }
        (Change::Delete(deleted), None) => format!("{} is removed", deleted.id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_registry::store::{CallOptions, Claim};

    #[tokio::test]
    async fn after_a_reset_only_the_listed_instances_are_known() {
        let store = Store::open("mem://mall").unwrap();
        let users = registry_testkit::lag::timeout(LIMIT, store.view(user::SERVICE))
            .await
            .unwrap()
            .unwrap();
        let mut changes = Changes::of(&users, Timeline::start());
        let [gone, here] = ["gone", "here"].map(|id| {
            let address = "h:1".parse().unwrap();
            Instance::from_parts(user::SERVICE.parse().unwrap(), id.parse().unwrap(), address)
        });
        changes.listed.insert(gone.id().clone(), gone);
        let registry = store.connect().await.unwrap().registry().clone();
        registry.register(&here, &Claim::new(LIMIT).unwrap(), &CallOptions::DEFAULT).await.unwrap();
        changes.print(&Update::Reset(
            registry.load(here.service(), &CallOptions::DEFAULT).await.unwrap(),
        ));
        assert_eq!(changes.listed, BTreeMap::from([(here.id().clone(), here)]));
    }
}
