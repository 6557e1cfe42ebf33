//! Tests with random sequences of faults: once they are over, all registrations and views have recovered.

use crate::support::*;
use futures_util::{FutureExt, StreamExt};
use registry_core::{CallOptions, Registry, Snapshot, Takeover};
use registry_engine::{DiscoveryOptions, RegistrationStatus, Update};
use registry_mem::Script;
use tokio::runtime::Handle;

/// A time after the last fault in which everything recovers: a hanging call, a backoff, and the wait for a renewal.
const SETTLED: std::time::Duration = std::time::Duration::from_secs(20);

#[tokio::test(start_paused = true)]
async fn after_any_sequence_of_faults_every_view_shows_every_registration() {
    for seed in 0..100 {
        let script = Script::random(seed, secs(90));
        let world = World::new();
        let mut registrations = Vec::new();
        for id in ["a", "b", "c"] {
            registrations.push(world.start(node(id)).await);
        }
        let faulted = world.view(DiscoveryOptions::default()).await;
        // The link of this client works, so only faults of the store itself affect it.
        let healthy = World::over(world.store.clone()).view(no_retention()).await;
        let (monitor, mut updates) = (Monitor::of(&faulted), changes(&faulted));
        within(world.link.play(&script)).await;
        advance(SETTLED).await;

        assert_eq!(world.stored_ids().await, "a b c", "seed {seed}: {script}");
        for registration in &registrations {
            assert!(registration.status().is_active(), "seed {seed}: {registration:?} {script}");
        }
        for view in [&faulted, &healthy] {
            assert_eq!(shown(view), "a b c", "seed {seed}: {script}");
            assert_eq!(retained(view), "", "seed {seed}: {script}");
            assert!(view.status().is_live(), "seed {seed}: {script}");
        }
        let known = ["a", "b", "c"];
        for (_, state) in monitor.seen() {
            let mut ids = state.records().ids();
            assert!(ids.all(|id| known.contains(&id.as_str())), "seed {seed}: {script}");
        }
        let claims = world.spy.claims();
        for (_, claim) in &claims[3..] {
            assert!(
                claim.takeover() == Takeover::No,
                "seed {seed}: a takeover after the start: {script}"
            );
            let ours = claims[..3].iter().any(|(_, first)| first.lease() == claim.lease());
            assert!(ours, "seed {seed}: another lease id: {script}");
        }

        let mut folded: Option<Snapshot> = None;
        while let Some(update) = updates.next().now_or_never() {
            match (update.unwrap(), &mut folded) {
                (Update::Reset(snapshot), folded) => *folded = Some(snapshot),
                (Update::Batch(batch), Some(folded)) => folded.apply(&batch).unwrap(),
                (update, _) => panic!("the first item is a reset: {update:?}"),
            }
        }
        let snapshot = within(world.store.load(&service(), &CallOptions::DEFAULT)).await.unwrap();
        assert_eq!(folded.unwrap().records(), snapshot.records(), "seed {seed}: {script}");

        for registration in registrations {
            within(registration.stop()).await.unwrap();
        }
        until_shown(&faulted, "").await;
        until_shown(&healthy, "").await;
        drop((faulted, healthy, updates, monitor));
        advance(millis(1)).await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "seed {seed}: {script}");
        advance(3 * TTL).await;
        assert_eq!(
            world.stored_ids().await,
            "",
            "seed {seed}: registered after the stop: {script}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn in_any_sequence_of_faults_a_registration_is_active_only_while_its_lease_is_valid() {
    for seed in 0..40 {
        let script = Script::random(seed, secs(120));
        let world = World::new();
        let registration = world.start(node("a")).await;
        let watch = async {
            loop {
                advance(millis(100)).await;
                let sent = world.spy.acknowledged().expect("it was registered");
                // At the very end of the ttl, the registration's task may run after this check.
                let known = sent.elapsed() <= TTL + TICK;
                let active = matches!(registration.status(), RegistrationStatus::Active);
                assert!(known || !active, "seed {seed}: {:?} {script}", sent.elapsed());
            }
        };
        tokio::select! {
            () = within(world.link.play(&script)) => {}
            () = watch => {}
        }
        advance(SETTLED).await;
        assert!(registration.status().is_active(), "seed {seed}: {script}");
    }
}
