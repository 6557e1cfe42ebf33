//! Those who look: what they see at once, after an outage, and change by change.

use super::follower::Loss;
use super::scene::Scene;
use super::{Fault, Side};
use futures_util::{FutureExt, StreamExt};
use registry_core::{Change, ErrorKind, Status};
use registry_engine::Update;
use registry_testkit::case::{instance, pass, within};
use tokio::time::timeout;

pub(super) async fn an_explicit_stop_of_the_last_instance_is_seen_at_once(mut scene: Scene) {
    scene.own("node-1").await;
    scene.follow(Loss::None);
    scene.follow_directly(Loss::None);
    scene.begin().await;
    let owner = scene.owners.pop().unwrap();
    scene.ends(owner.instance().id());
    within(owner.stop()).await.unwrap();
    for follower in &scene.followers {
        let mut view = follower.view.clone();
        let gone = async {
            while !view.state().instances().is_empty() {
                let picture = view.state().retained().len();
                assert_eq!(picture, 0, "a withdrawal on a healthy watch is believed");
                view.changed().await;
            }
        };
        timeout(scene.terms.at_once(), gone).await.expect("the last withdrawal is seen at once");
    }
    scene.finish().await;
}

pub(super) async fn a_drain_is_seen_before_the_removal(mut scene: Scene) {
    scene.own("node-1").await;
    scene.follow(Loss::None);
    scene.begin().await;
    let mut updates = scene.followers[0].view.updates();
    assert!(matches!(within(updates.next()).await, Some(Update::Reset(_))));
    let owner = scene.owners.pop().unwrap();
    let draining = owner.instance().with_status(Status::Draining);
    scene.ends(draining.id());
    let seen = async {
        let mut changes = Vec::new();
        while changes.len() < 2 {
            match updates.next().await.unwrap() {
                Update::Batch(batch) => changes.extend(batch.changes.clone()),
                Update::Reset(state) => panic!("nothing was wrong with the store: {state:?}"),
            }
        }
        changes
    };
    let grace = scene.terms.ttl(); // renewed meanwhile
    let (drained, changes) = within(async { tokio::join!(owner.drain(grace), seen) }).await;
    drained.unwrap();
    let gone = Change::Delete(draining.id().clone());
    assert_eq!(changes, [Change::Put(draining), gone]);
    assert!(updates.next().now_or_never().is_none(), "and nothing else");
    scene.finish().await;
}

pub(super) async fn a_view_opened_during_an_outage_becomes_live_after_it(mut scene: Scene) {
    scene.own("node-1").await;
    scene.own("node-2").await;
    scene.arena.strike(Fault::Outage, Side::Subscriber, &scene.service).await;
    scene.follow(Loss::None);
    let not_ready = scene.followers[0].view.ready(scene.terms.short()).await.unwrap_err();
    assert_eq!(not_ready.kind(), ErrorKind::Unavailable, "{not_ready}");
    scene.arena.heal().await;
    within(scene.followers[0].view.ready(scene.terms.settled())).await.unwrap();
    scene.begin().await;
    scene.finish().await;
}

pub(super) async fn updates_fold_to_the_truth(mut scene: Scene) {
    const UPDATES: usize = 12;
    for n in 1..=3 {
        scene.own(&format!("node-{n}")).await;
    }
    scene.follow(Loss::None);
    scene.follow(Loss::None);
    scene.follow_directly(Loss::None);
    scene.begin().await;
    let faults = [Fault::Cut, Fault::Outage, Fault::LostReplies, Fault::Compaction];
    for (n, fault) in faults.into_iter().enumerate() {
        let side = Side::Subscriber;
        let hit = scene
            .terms
            .faults
            .iter()
            .any(|(other, on)| *other == fault && (!fault.is_on_a_way() || on.contains(&side)));
        if !hit {
            continue;
        }
        write(&scene, UPDATES, &format!("before-{fault}")).await;
        scene.arena.strike(fault, side, &scene.service).await;
        write(&scene, UPDATES, &format!("during-{fault}")).await;
        scene.visit(&format!("guest-{n}")).await;
        pass(scene.terms.quick()).await;
        scene.arena.heal().await;
        write(&scene, UPDATES, &format!("after-{fault}")).await;
        scene.settle(scene.terms.settled()).await;
    }
    let written = scene.witness.changes();
    let ended = scene.finish().await;
    let bystander = ended.sums.last().unwrap();
    assert!(bystander.batches >= written, "{} of {written} were seen", bystander.batches);
    assert_eq!(bystander.resets, 1, "nothing was wrong with its way");
}

/// Writes through all owners in turn.
async fn write(scene: &Scene, updates: usize, what: &str) {
    for n in 0..updates {
        let owner = n % scene.owners.len();
        within(scene.update(owner, &format!("{what}-{n}"))).await;
    }
}

pub(super) async fn random_faults(mut scene: Scene, seed: u64) {
    for n in 1..=3 {
        scene.own(&format!("node-{n}")).await;
    }
    // Nobody can tell what a random fault does to leases from what an owner does.
    scene.follow(Loss::Any);
    scene.follow_directly(Loss::Any);
    scene.begin().await;
    scene.visit("guest-1").await;
    let (arena, run) = (scene.arena.clone(), scene.terms.run);
    let writing = async {
        for n in 0_usize.. {
            scene.update(n % 3, &format!("data-{n}")).await;
            pass(run / 50).await;
        }
    };
    let passing_by = async {
        pass(run / 3).await;
        let mut options = scene.terms.registration();
        options.start = registry_engine::Start::InBackground;
        options.stop_timeout = scene.terms.call;
        let node = instance(&scene.service, "passer-by");
        let registry = scene.registry(Side::Publisher);
        let passer = registry_engine::Registration::start(registry, node, options).await.unwrap();
        pass(run / 3).await;
        drop(passer.stop().await); // what is not withdrawn ends by its ttl
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = arena.play(seed, run) => {}
        () = writing => {}
        () = passing_by => {}
    }
    scene.finish().await;
}
