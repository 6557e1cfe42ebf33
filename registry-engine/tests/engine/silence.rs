//! A store that stands still while every connection to it stays open.

use crate::support::*;
use registry_core::{ErrorKind, silence_timeout};
use registry_engine::{DiscoveryOptions, View, ViewStatus};
use registry_mem::Fault;
use tokio::time::Instant;

/// Waits until the view says that the store is silent.
async fn until_silent(view: &View) {
    until(view, |state| !state.status().is_live()).await;
    let ViewStatus::Stale { why, .. } = view.status() else { panic!("{:?}", view.status()) };
    assert_eq!((why.kind(), why.is_silence()), (ErrorKind::Unavailable, true));
}

#[tokio::test(start_paused = true)]
async fn a_view_is_stale_before_a_lease_can_have_expired_in_a_silence() {
    let world = World::new();
    let view = world.view(DiscoveryOptions::default()).await;
    for seconds in [0, 1, 2, 3] {
        pass(secs(20 + seconds)).await;
        let silent = Instant::now();
        world.link.inject(Fault::Silence);
        until_silent(&view).await;
        assert!(silent.elapsed() <= silence_timeout(None) + TICK, "{:?}", silent.elapsed());
        world.link.heal();
        until_live(&view).await;
    }
    assert_eq!((world.spy.loads(), world.link.hits().watches_ended), (1, 4), "each resumes");
}

#[tokio::test(start_paused = true)]
async fn leases_that_expire_in_a_silence_empty_no_view() {
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

    pass(secs(20)).await;
    assert_eq!(retained(&view), "a b c d", "a deletion in a silence is doubtful");
    for id in ["a", "b", "c", "d"] {
        world.put(id).await;
    }
    until(&view, |state| state.retained().is_empty()).await;
    assert_eq!(shown(&view), "a b c d");
}

/// One of several that is deleted would be held for 6 s if the deletion were not doubtful.
#[tokio::test(start_paused = true)]
async fn a_deletion_in_a_silence_is_doubtful_though_the_cut_was_short() {
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
    pass(secs(20)).await;
    assert_eq!(retained(&view), "e");
}
