//! Tests with a silent store: it stops answering while every connection to it stays open.

use crate::support::*;
use registry_core::{ErrorKind, silence_timeout};
use registry_engine::{DiscoveryOptions, View, ViewStatus};
use registry_mem::Fault;
use tokio::time::Instant;

/// Waits until the view reports that the store is silent.
async fn until_silent(view: &View) {
    until(view, |state| !state.status().is_live()).await;
    let ViewStatus::Stale { why, .. } = view.status() else { panic!("{:?}", view.status()) };
    assert_eq!((why.kind(), why.is_silence()), (ErrorKind::Unavailable, true));
}

#[tokio::test(start_paused = true)]
async fn a_view_becomes_stale_before_a_lease_can_expire_during_a_silence() {
    let world = World::new();
    let view = world.view(DiscoveryOptions::default()).await;
    for seconds in [0, 1, 2, 3] {
        advance(secs(20 + seconds)).await;
        let silent = Instant::now();
        world.link.inject(Fault::Silence);
        until_silent(&view).await;
        assert!(silent.elapsed() <= silence_timeout(None) + TICK, "{:?}", silent.elapsed());
        world.link.heal();
        until_live(&view).await;
    }
    assert_eq!((world.spy.loads(), world.link.hits().watches_ended), (1, 4), "each watch resumes");
}

#[tokio::test(start_paused = true)]
async fn leases_that_expire_during_a_silence_do_not_empty_a_view() {
    let world = World::new();
    for id in ["a", "b", "c", "d"] {
        world.put(id).await;
    }
    let view = world.view(DiscoveryOptions::default()).await;
    world.link.inject(Fault::Silence);
    until_silent(&view).await;
    world.store.evict(&service());
    world.link.heal();
    until_live(&view).await;
    assert_eq!((shown(&view), retained(&view)), ("a b c d".into(), "a b c d".into()));

    advance(secs(20)).await;
    assert_eq!(retained(&view), "a b c d", "a deletion during a silence is doubtful");
    for id in ["a", "b", "c", "d"] {
        world.put(id).await;
    }
    until(&view, |state| state.retained().is_empty()).await;
    assert_eq!(shown(&view), "a b c d");
}

/// If the deletion were not doubtful, the instance would be retained for 6 s only.
#[tokio::test(start_paused = true)]
async fn a_deletion_after_a_short_silence_is_doubtful() {
    let world = World::new();
    for id in ["a", "b", "c", "d"] {
        world.put(id).await;
    }
    let view = world.view(DiscoveryOptions::default()).await;
    world.link.inject(Fault::Silence);
    let deleted = world.put("e").await;
    until_silent(&view).await;
    world.link.heal();
    until_shown(&view, "a b c d e").await;
    world.store.revoke(deleted.id());
    until(&view, |state| !state.retained().is_empty()).await;
    advance(secs(20)).await;
    assert_eq!(retained(&view), "e");
}
