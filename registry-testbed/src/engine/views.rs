//! Tests of views: withdrawals, drains, outages, and the stream of updates.

use super::fixture::Fixture;
use super::observer::AllowedLoss;
use super::{Fault, Side};
use futures_util::{FutureExt, StreamExt};
use registry_core::{Change, ErrorKind, InstanceStatus};
use registry_engine::Update;
use registry_testkit::case::{instance, pass, within};

pub(super) async fn a_withdrawal_of_the_last_instance_is_seen_at_once(mut fixture: Fixture) {
    fixture.register("node-1").await;
    fixture.observe(AllowedLoss::None);
    fixture.observe_directly(AllowedLoss::None);
    fixture.start_checks().await;
    let owner = fixture.owners.pop().unwrap();
    fixture.stop_expecting(owner.instance().id());
    within(owner.stop()).await.unwrap();
    for observer in &fixture.observers {
        let mut view = observer.view.clone();
        let removed = async {
            while !view.state().records().is_empty() {
                let state = view.state().retained().len();
                assert_eq!(state, 0, "a withdrawn instance is retained");
                view.changed().await.unwrap();
            }
        };
        fixture
            .lag
            .timeout(fixture.options.propagation(), removed)
            .await
            .expect("the last withdrawal is seen too late");
    }
    fixture.finish().await;
}

pub(super) async fn a_drain_is_seen_before_the_removal(mut fixture: Fixture) {
    fixture.register("node-1").await;
    fixture.observe(AllowedLoss::None);
    fixture.start_checks().await;
    let mut updates = fixture.observers[0].view.updates();
    assert!(matches!(within(updates.next()).await, Some(Update::Reset(_))));
    let owner = fixture.owners.pop().unwrap();
    let draining = owner.instance().with_status(InstanceStatus::Draining);
    fixture.stop_expecting(draining.id());
    let seen = async {
        let mut changes = Vec::new();
        while changes.len() < 2 {
            match updates.next().await.unwrap() {
                Update::Batch(batch) => changes.extend(batch.changes.clone()),
                Update::Reset(state) => panic!("a reset without a fault: {state:?}"),
                Update::Status(_) => {}
            }
        }
        changes
    };
    let grace = fixture.options.ttl(); // long enough for a renewal during the drain
    let (drained, changes) = within(async { tokio::join!(owner.drain(grace), seen) }).await;
    drained.unwrap();
    let [Change::Put(record), Change::Delete(deleted)] = &changes[..] else {
        panic!("expected a put and a delete, got {changes:?}")
    };
    assert_eq!((record.instance(), deleted.id()), (&draining, draining.id()));
    assert!(updates.next().now_or_never().is_none(), "an update after the delete");
    fixture.finish().await;
}

pub(super) async fn a_view_opened_during_an_outage_becomes_live_after_it(mut fixture: Fixture) {
    fixture.register("node-1").await;
    fixture.register("node-2").await;
    fixture.environment.inject(Fault::Outage, Side::Subscriber, &fixture.service).await;
    fixture.observe(AllowedLoss::None);
    let not_ready =
        fixture.observers[0].view.ready(fixture.options.short_fault()).await.unwrap_err();
    assert_eq!(not_ready.kind(), ErrorKind::Unavailable, "{not_ready}");
    fixture.environment.heal().await;
    within(fixture.observers[0].view.ready(fixture.options.recovery())).await.unwrap();
    fixture.start_checks().await;
    fixture.finish().await;
}

pub(super) async fn updates_fold_to_the_stored_state(mut fixture: Fixture) {
    const UPDATES: usize = 12;
    for n in 1..=3 {
        fixture.register(&format!("node-{n}")).await;
    }
    fixture.observe(AllowedLoss::None);
    fixture.observe(AllowedLoss::None);
    fixture.observe_directly(AllowedLoss::None);
    fixture.start_checks().await;
    let faults = [Fault::Cut, Fault::Outage, Fault::LostReplies, Fault::Compaction];
    for (n, fault) in faults.into_iter().enumerate() {
        let side = Side::Subscriber;
        let hit = fixture.options.faults.iter().any(|(other, on)| {
            *other == fault && (!fault.is_network_fault() || on.contains(&side))
        });
        if !hit {
            continue;
        }
        write(&fixture, UPDATES, &format!("before-{fault}")).await;
        fixture.environment.inject(fault, side, &fixture.service).await;
        write(&fixture, UPDATES, &format!("during-{fault}")).await;
        fixture.register_directly(&format!("guest-{n}")).await;
        pass(fixture.options.brief_fault()).await;
        fixture.environment.heal().await;
        write(&fixture, UPDATES, &format!("after-{fault}")).await;
        fixture.converge(fixture.options.recovery()).await;
    }
    let written = fixture.oracle.changes();
    let ended = fixture.finish().await;
    let direct_view = ended.replicas.last().unwrap();
    assert!(
        direct_view.batches >= written,
        "the direct view saw {} of {written}",
        direct_view.batches
    );
    assert_eq!(
        direct_view.resets, 1,
        "the direct view was reset without a fault of its connection"
    );
}

/// Updates the instances of all owners in turn.
async fn write(fixture: &Fixture, updates: usize, what: &str) {
    for n in 0..updates {
        let owner = n % fixture.owners.len();
        within(fixture.update(owner, &format!("{what}-{n}"))).await;
    }
}

pub(super) async fn random_faults(mut fixture: Fixture, seed: u64) {
    for n in 1..=3 {
        fixture.register(&format!("node-{n}")).await;
    }
    // A test cannot tell whether a random fault or an owner has deleted a record.
    fixture.observe(AllowedLoss::Any);
    fixture.observe_directly(AllowedLoss::Any);
    fixture.start_checks().await;
    fixture.register_directly("guest-1").await;
    let (environment, run) = (fixture.environment.clone(), fixture.options.run);
    let writing = async {
        for n in 0_usize.. {
            fixture.update(n % 3, &format!("data-{n}")).await;
            pass(run / 50).await;
        }
    };
    let short_lived = async {
        pass(run / 3).await;
        let mut options = fixture.options.registration();
        options.start = registry_engine::Start::InBackground;
        options.stop_timeout = fixture.options.call_timeout;
        let node = instance(&fixture.service, "passer-by");
        let registry = fixture.registry(Side::Publisher);
        let registration =
            registry_engine::Registration::start(registry, node, options).await.unwrap();
        pass(run / 3).await;
        drop(registration.stop().await); // a failed withdrawal ends with the ttl
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = environment.play(seed, run) => {}
        () = writing => {}
        () = short_lived => {}
    }
    fixture.finish().await;
}
