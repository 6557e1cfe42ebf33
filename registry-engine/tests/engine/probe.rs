//! A store that stands still while every connection to it stays open.

use crate::support::*;
use registry_core::{ErrorKind, ServiceName};
use registry_engine::{DiscoveryOptions, View, ViewStatus};
use tokio::time::Instant;

/// Waits until the view says that the store is silent.
async fn until_silent(view: &View) {
    until(view, |state| !state.status().is_live()).await;
    let ViewStatus::Stale { why, .. } = view.status() else { panic!("{:?}", view.status()) };
    assert_eq!(why.kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_silence_is_noticed_within_one_ttl_although_the_watch_is_open() {
    let world = World::new();
    let view = world.view(DiscoveryOptions::default()).await;
    for seconds in [0, 1, 2, 3] {
        pass(secs(20 + seconds)).await;
        let silent = Instant::now();
        world.spy.mute(true);
        until_silent(&view).await;
        assert!(silent.elapsed() < secs(7), "{:?}", silent.elapsed());
        world.spy.mute(false);
        until_live(&view).await;
        assert!(silent.elapsed() < secs(11), "{:?}", silent.elapsed());
    }
    assert_eq!(world.spy.watches().len(), 1, "it was never broken");
}

#[tokio::test(start_paused = true)]
async fn leases_that_expire_in_a_silence_empty_no_view() {
    let world = World::new();
    for id in ["a", "b", "c", "d"] {
        world.put(id).await;
    }
    let view = world.view(DiscoveryOptions::default()).await;
    world.spy.mute(true);
    until_silent(&view).await;
    world.store.evict(&service());
    until(&view, |state| !state.retained().is_empty()).await;
    assert_eq!((shown(&view), retained(&view)), ("a b c d".into(), "a b c d".into()));

    world.spy.mute(false);
    until_live(&view).await;
    for id in ["a", "b", "c", "d"] {
        world.put(id).await;
    }
    until(&view, |state| state.retained().is_empty()).await;
    assert_eq!(shown(&view), "a b c d");
}

#[tokio::test(start_paused = true)]
async fn the_probe_asks_every_third_of_the_ttl_while_a_view_is_open() {
    let world = World::new();
    let discovery = world.discovery(DiscoveryOptions::default());
    let name = |n: usize| format!("service-{n}").parse::<ServiceName>().unwrap();
    let views: Vec<View> = (0..100).map(|n| discovery.view(&name(n))).collect();
    pass(secs(100)).await;
    let asked = world.spy.pulses();
    assert!((29..=31).contains(&asked), "{asked}");
    drop(views);
    pass(secs(100)).await;
    assert!(world.spy.pulses() <= asked + 1, "nobody looks");

    let view = discovery.view(&service());
    until_live(&view).await;
    world.spy.mute(true);
    until_silent(&view).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_the_probe_counts_as_answering() {
    let world = World::new();
    let view = world.view(DiscoveryOptions::default()).await;
    world.spy.deny();
    pass(secs(100)).await;
    assert!(view.status().is_live());
    assert!(world.spy.pulses() >= 29);
}
