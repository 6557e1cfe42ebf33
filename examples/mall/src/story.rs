//! The story: three user servers and an order API; one is killed, one is drained, and a customer shops.

use crate::customer::shop;
use crate::door::name;
use crate::store::Store;
use crate::tally::Tally;
use crate::timeline::Timeline;
use crate::worker::{Job, Worker};
use crate::{order, user};
use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use futures_util::future::{join_all, select_all};
use service_registry::{Change, InstanceId, Status, Update, Updates, View};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// What nothing in the story takes longer than.
const LIMIT: Duration = Duration::from_secs(15);

const API: &str = "the order API";
const USERS: [&str; 3] = ["alice", "bob", "carol"];
const TO_BE_KILLED: &str = "carol";
const TO_BE_DRAINED: &str = "bob";

/// Those who work, by name.
type Staff = BTreeMap<&'static str, Worker>;

/// Tells it from the opening to the closing, or until Ctrl-C.
pub(crate) async fn tell(timeline: Timeline, store: &Store, processes: bool) -> Result<ExitCode> {
    ensure!(
        !(processes && store.is_private()),
        "processes cannot share memory: name an etcd or a Redis, registry=`{}`",
        store.target()
    );
    let hire = if processes { Worker::in_process } else { Worker::in_thread };
    let mut users = store.view(user::SERVICE).await?;
    let mut apis = store.view(order::SERVICE).await?;
    let news = tokio::spawn(announce(users.updates(), timeline.clone()));
    timeline.say(format_args!("the mall opens, registry {}", store.target()));
    let mut staff = Staff::from([(API, hire(Job::Order, store)?)]);
    for name in USERS {
        staff.insert(name, hire(Job::User(name), store)?);
    }
    let open = async {
        until(&mut users, "not all user servers are registered", |names| names == USERS).await?;
        until(&mut apis, "the order API is not registered", |names| names == [API]).await
    };
    tokio::select! {
        open = open => open?,
        (ended, ..) = select_all(staff.values_mut().map(|worker| Box::pin(worker.ended()))) => ended?,
    }
    let url = format!("http://{}", apis.picture().instances()[0].address());
    timeline.say(format_args!("orders are taken at {url}"));

    let tally = Arc::new(Tally::default());
    let (enough, told) = oneshot::channel::<()>();
    let customer = tokio::spawn({
        let tally = tally.clone();
        async move { shop(&url, 0.., async { drop(told.await) }, &tally).await }
    });
    let mut terminate = signal(SignalKind::terminate())?;
    let told = tokio::select! {
        told = plot(&timeline, &mut users, &mut staff, store.ttl()) => told,
        () = timeline.follow(tally.clone()) => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    drop(enough);
    timeline.say("the mall closes");
    customer.await?;
    let left = join_all(staff.values_mut().map(Worker::leave));
    let left = timeout(LIMIT, left).await.context("not all servers have left in time")?;
    told.and(left.into_iter().collect::<Result<()>>())?;
    news.abort();
    Ok(timeline.end(&tally))
}

/// What happens while the customer shops.
async fn plot(
    timeline: &Timeline,
    users: &mut View,
    staff: &mut Staff,
    ttl: Duration,
) -> Result<()> {
    sleep(Duration::from_secs(2)).await;
    if let Some(worker) = staff.remove(TO_BE_KILLED) {
        worker.kill().await?;
        timeline.say(format_args!(
            "{TO_BE_KILLED} is killed, and nobody withdraws her: she is listed for up to {ttl:?}"
        ));
    }
    until(users, "the killed server is still listed", |names| !names.contains(&TO_BE_KILLED))
        .await?;
    sleep(Duration::from_secs(2)).await;
    if let Some(worker) = staff.get_mut(TO_BE_DRAINED) {
        timeline.say(format_args!("{TO_BE_DRAINED} is asked to leave"));
        timeout(LIMIT, worker.leave()).await.context("the drained server has not left")??;
        staff.remove(TO_BE_DRAINED);
    }
    until(users, "the drained server is still listed", |names| !names.contains(&TO_BE_DRAINED))
        .await?;
    sleep(Duration::from_secs(2)).await;
    Ok(())
}

/// Waits until the names of those that are listed are as asked.
async fn until(view: &mut View, otherwise: &str, are: impl Fn(&[&str]) -> bool) -> Result<()> {
    let seen = async {
        loop {
            let picture = view.picture();
            let mut names: Vec<_> = picture.instances().iter().map(name).collect();
            names.sort_unstable();
            if are(&names) {
                return;
            }
            drop(names);
            drop(picture);
            view.changed().await;
        }
    };
    timeout(LIMIT, seen).await.with_context(|| format!("{otherwise}, waited=`{LIMIT:?}`"))
}

/// Tells of what the registry says.
async fn announce(mut updates: Updates, timeline: Timeline) {
    let mut names: BTreeMap<InstanceId, String> = BTreeMap::new();
    while let Some(update) = updates.next().await {
        let Update::Batch(batch) = update else { continue };
        for change in &batch.changes {
            match change {
                Change::Put(instance) if instance.status() == Status::Draining => {
                    timeline.say(format_args!("{} drains: no new calls", name(instance)));
                }
                Change::Put(instance) => {
                    let (name, address) = (name(instance), instance.address());
                    timeline.say(format_args!("{name} is registered at {address}"));
                    names.insert(instance.id().clone(), name.to_owned());
                }
                Change::Delete(id) => {
                    let name = names.get(id).map_or(id.as_str(), String::as_str);
                    timeline.say(format_args!("{name} is gone"));
                }
            }
        }
    }
}
