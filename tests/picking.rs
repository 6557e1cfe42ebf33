//! Tests of picks: which instance gets the next call, and how the outcome of a call counts.
#![cfg(feature = "mem")]
#![allow(clippy::unwrap_used)]

use registry_testkit::lag::timeout;
use service_registry::balance::{Failure, Outcome, PickOptions};
use service_registry::store::{CallOptions, Claim, LeaseId, Registry};
use service_registry::testing::{Fault, FaultyRegistry, MemRegistry};
use service_registry::{
    Client, ErrorKind, Instance, InstanceStatus, Registration, RegistrationOptions, View,
    ViewOptions, connect,
};
use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::time::Duration;
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_secs(20);

fn node(id: &str) -> Instance {
    let port = 8000 + u16::from(id.as_bytes()[0]);
    Instance::new("user.rpc", ([10, 0, 0, 1], port).into()).unwrap().with_id(id.parse().unwrap())
}

/// A client and its registrations.
struct World {
    client: Client,
    registrations: HashMap<String, Registration>,
}

impl World {
    async fn with(nodes: impl IntoIterator<Item = Instance>) -> Self {
        let client = connect("mem://").await.unwrap();
        let mut registrations = HashMap::new();
        for node in nodes {
            let id = node.id().to_string();
            registrations.insert(id, client.register(node).await.unwrap());
        }
        Self { client, registrations }
    }

    async fn view(&self) -> View {
        ready(self.client.discover("user.rpc").unwrap()).await
    }
}

async fn ready(view: View) -> View {
    view.ready(LIMIT).await.unwrap();
    view
}

async fn until(view: &mut View, is_so: impl Fn(&View) -> bool) {
    let seen = async {
        while !is_so(view) {
            view.changed().await.unwrap();
        }
    };
    timeout(LIMIT, seen).await.unwrap();
}

/// Makes `picks` calls that succeed at once. Returns how often each instance is picked.
fn shares(view: &View, picks: u32) -> HashMap<String, u32> {
    let mut shares = HashMap::new();
    for _ in 0..picks {
        let pick = view.pick().unwrap();
        *shares.entry(pick.id().to_string()).or_default() += 1;
        pick.succeeded();
    }
    shares
}

#[tokio::test(start_paused = true)]
async fn only_available_instances_are_picked() {
    let draining = node("d").with_status(InstanceStatus::Draining);
    let world = World::with([node("a"), node("b"), draining, node("w").with_weight(0)]).await;
    let shares = shares(&world.view().await, 200);
    assert_eq!(shares.len(), 2, "{shares:?}");
    assert!(shares["a"] > 50 && shares["b"] > 50, "{shares:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pick_after_a_change_uses_the_changed_instances() {
    let world = World::with([node("a")]).await;
    let mut view = world.view().await;
    assert_eq!(view.pick().unwrap().id().as_str(), "a");
    let update = |node: Instance| node.with_address("10.0.0.9:1".parse().unwrap());
    world.registrations["a"].update(update).await.unwrap();
    view.changed().await.unwrap();
    assert_eq!(view.pick().unwrap().address().as_str(), "10.0.0.9:1");
    world.registrations["a"].stop().await.unwrap();
    view.changed().await.unwrap();
    assert_eq!(view.pick().unwrap_err().kind(), ErrorKind::NoInstance);
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_pick_names_the_cause() {
    let world = World::with([]).await;
    let early = world.client.discover("user.rpc").unwrap();
    let error = early.pick().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoInstance);
    assert!(error.to_string().contains("not answered"), "{error}");

    let mut view = ready(early).await;
    let error = view.pick().unwrap_err().to_string();
    for part in ["none is registered", "service=`user.rpc`", "store=`mem://`"] {
        assert!(error.contains(part), "{error}");
    }
    let drains = node("d").with_status(InstanceStatus::Draining);
    let registration = world.client.register(drains).await.unwrap();
    until(&mut view, |view| view.state().records().len() == 1).await;
    let error = view.pick().unwrap_err().to_string();
    assert!(error.contains("all of them are draining or have weight 0"), "{error}");

    registration.update(|node| node.with_status(InstanceStatus::Up)).await.unwrap();
    until(&mut view, |view| view.pick().is_ok()).await;
    let none = PickOptions::default().with_exclude([registration.instance().id().clone()]);
    let error = view.pick_with(&none).unwrap_err().to_string();
    assert!(error.contains("excluded, exclude=`d`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_failing_instance_is_ejected_and_later_called_again() {
    let world = World::with([node("a"), node("b")]).await;
    let view = world.view().await;
    let call = |pick: &Instance| match pick.id().as_str() {
        "a" => Err(io::Error::other("broken")),
        _ => Ok(()),
    };
    let mut failed = 0;
    for _ in 0..200 {
        let pick = view.pick().unwrap();
        failed += u32::from(pick.observe(async { call(&pick) }).await.is_err());
    }
    assert!((1..=5).contains(&failed), "failed={failed}");
    sleep(Duration::from_secs(30)).await; // longer than the ejection
    assert!(shares(&view, 200)["a"] > 10);
}

#[tokio::test(start_paused = true)]
async fn a_neutral_outcome_does_not_eject() {
    let world = World::with([node("a"), node("b")]).await;
    let view = world.view().await;
    for _ in 0..100 {
        let pick = view.pick().unwrap();
        let not_found = |_: &Result<(), io::Error>| Outcome::Neutral;
        pick.observe_with(not_found, async { Err(io::Error::other("404")) }).await.unwrap_err();
    }
    assert_eq!(shares(&view, 100).len(), 2);
}

/// If an unused pick counted as a success, it would make a dead instance look fast.
#[tokio::test(start_paused = true)]
async fn a_pick_that_is_dropped_unused_does_not_count() {
    let world = World::with([node("a"), node("b")]).await;
    let view = world.view().await;
    for _ in 0..100 {
        drop(view.pick().unwrap());
    }
    for _ in 0..50 {
        let pick = view.pick().unwrap();
        if pick.id().as_str() == "a" { pick.failed(Failure::Other) } else { drop(pick) }
    }
    let shares = shares(&view, 100);
    assert_eq!(
        shares.get("a"),
        None,
        "dropped picks interrupted the failures in a row: {shares:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_report_of_a_pick_counts() {
    let world = World::with([node("a"), node("b")]).await;
    let view = world.view().await;
    for _ in 0..50 {
        let pick = view.pick().unwrap();
        let outcome = pick.observe(async { Ok::<_, io::Error>(()) }).await;
        outcome.unwrap();
        pick.failed(Failure::Other); // ignored: `observe` has reported a success
    }
    assert_eq!(shares(&view, 100).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_instance_is_avoided_by_callers_with_a_timeout() {
    let world = World::with(["a", "b", "c"].map(node)).await;
    let view = world.view().await;
    let call = async || {
        let pick = view.pick().unwrap();
        let hangs = pick.id().as_str() == "a";
        let answer = async {
            if hangs {
                pending::<()>().await;
            }
            sleep(Duration::from_millis(10)).await;
            Ok::<_, io::Error>(())
        };
        // Dropped by the timeout, the call counts neither as a success nor as a failure, but as slow.
        drop(tokio::time::timeout(Duration::from_secs(1), pick.observe(answer)).await);
        hangs
    };
    for _ in 0..20 {
        call().await;
    }
    let mut hanging = 0;
    for _ in 0..400 {
        hanging += u32::from(call().await);
    }
    assert!(hanging < 20, "{hanging} of 400"); // 5 %
}

#[tokio::test(start_paused = true)]
async fn a_hash_picks_the_same_instance_until_it_is_withdrawn() {
    let world = World::with(["a", "b", "c", "d"].map(node)).await;
    let mut view = world.view().await;
    let pick = |view: &View, hash| {
        let pick = view.pick_with(&PickOptions::default().with_hash(hash)).unwrap();
        let id = pick.id().to_string();
        pick.succeeded();
        id
    };
    let before: Vec<_> = (0..200).map(|hash| pick(&view, hash)).collect();
    assert_eq!((0..200).map(|hash| pick(&view, hash)).collect::<Vec<_>>(), before);
    world.registrations["b"].stop().await.unwrap();
    until(&mut view, |view| view.state().records().len() == 3).await;
    for (hash, before) in (0..200).zip(before) {
        let after = pick(&view, hash);
        assert!(after == before || before == "b", "{before} -> {after}");
    }
}

#[tokio::test(start_paused = true)]
async fn instances_in_the_callers_zone_are_preferred() {
    let world = World::with([node("a").with_zone("eu-1"), node("b").with_zone("eu-2")]).await;
    let options = ViewOptions::default().with_zone("eu-2");
    let view = ready(world.client.discover_with("user.rpc", options).unwrap()).await;
    assert_eq!(shares(&view, 50), HashMap::from([("b".to_owned(), 50)]));
}

#[tokio::test(start_paused = true)]
async fn a_restart_resets_the_ejection() {
    let world = World::with([node("a"), node("b")]).await;
    let mut view = world.view().await;
    while shares(&view, 20).contains_key("a") {
        for _ in 0..20 {
            let pick = view.pick().unwrap();
            if pick.id().as_str() == "a" { pick.failed(Failure::Other) } else { pick.succeeded() }
        }
    }
    let lease = LeaseId::random();
    let options = RegistrationOptions::default().with_lease(lease);
    let _again = world.client.register_with(node("a"), options).await.unwrap();
    until(&mut view, |view| {
        view.state().records().iter().any(|record| record.lease() == Some(lease))
    })
    .await;
    assert!(shares(&view, 100)["a"] > 20);
}

/// The view retains an instance that the store no longer lists, in case its owner registers again. A refused connection
/// proves that the process is gone.
#[tokio::test(start_paused = true)]
async fn a_retained_instance_that_refuses_a_connection_is_removed_at_once() {
    let store = MemRegistry::new();
    let claim = Claim::new(Duration::from_secs(10)).unwrap();
    store.register(&node("a"), &claim, &CallOptions::DEFAULT).await.unwrap();
    let client = Client::from_registry(store.clone());
    let mut view = ready(client.discover("user.rpc").unwrap()).await;
    store.revoke(claim.lease());
    until(&mut view, |view| view.state().retained().len() == 1).await;
    view.pick().unwrap().failed(Failure::Refused);
    until(&mut view, |view| view.state().records().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_view_with_labels_shows_the_instances_that_have_them() {
    let gold = node("a").with_label("tier", "gold").with_label("az", "1");
    let world = World::with([gold, node("b").with_label("tier", "lead"), node("c")]).await;
    let options = ViewOptions::default().with_label("tier", "gold");
    let mut view = ready(world.client.discover_with("user.rpc", options).unwrap()).await;
    let ids = |view: &View| -> Vec<String> {
        view.state().records().ids().map(ToString::to_string).collect()
    };
    assert_eq!(ids(&view), ["a"]);
    world.registrations["b"].update(|node| node.with_label("tier", "gold")).await.unwrap();
    until(&mut view, |view| ids(view) == ["a", "b"]).await;
    // An instance that loses the label is removed at once, and not retained.
    world.registrations["a"].update(|node| node.with_label("tier", "tin")).await.unwrap();
    until(&mut view, |view| ids(view) == ["b"]).await;
    assert!(view.state().retained().is_empty());
    // Changes of instances without the label do not change the view.
    let before = view.state().version();
    world.registrations["c"].update(|node| node.with_weight(7)).await.unwrap();
    world.registrations["b"].stop().await.unwrap();
    until(&mut view, |view| ids(view).is_empty()).await;
    assert_eq!(view.state().version(), before + 1);
}

/// Regression: an instance that had lost its label was retained under it, and called for up to two ttls.
#[tokio::test(start_paused = true)]
async fn an_instance_that_loses_its_label_during_an_outage_is_removed() {
    let store = MemRegistry::new();
    let link = FaultyRegistry::new(store.clone());
    let direct = Client::from_registry(store.clone());
    let blue = direct.register(node("a").with_label("version", "blue")).await.unwrap();
    let options = ViewOptions::default().with_label("version", "blue");
    let client = Client::from_registry(link.clone());
    let view = ready(client.discover_with("user.rpc", options).unwrap()).await;
    assert!(view.pick().is_ok());

    link.inject(Fault::Outage);
    blue.update(|node| node.with_label("version", "green")).await.unwrap();
    let head = store.load(view.service(), &CallOptions::DEFAULT).await.unwrap();
    store.compact(head.cursor().revision());
    link.heal();
    timeout(LIMIT, view.wait_for(|state| state.records().is_empty())).await.unwrap().unwrap();
    let error = view.pick().unwrap_err().to_string();
    assert!(error.contains("labels=`version=blue`"), "{error}");
}
