//! Those who register: they start, start again, compete, and die.

use super::follower::{Loss, with_data};
use super::scene::Scene;
use super::{Fault, Side};
use futures_util::StreamExt;
use registry_core::ErrorKind;
use registry_engine::{Registration, RegistrationOptions, RegistrationStatus, Start};
use registry_testkit::case::{instance, pass, timed, within};
use tokio::time::{Instant, timeout};

pub(super) async fn a_restart_of_a_publisher_under_its_old_id_takes_over(mut scene: Scene) {
    scene.crash("node-1").await;
    scene.follow(Loss::None);
    scene.follow_directly(Loss::None);
    scene.begin().await;
    let (took, ()) = timed(scene.own("node-1")).await;
    assert!(took < scene.terms.at_once(), "it waited for its own ttl: {took:?}");
    scene.begin().await;
    scene.forget_guests();
    pass(scene.terms.dead()).await; // the old lease ends, which does no harm
    scene.finish().await;
}

pub(super) async fn two_holders_of_one_id_do_not_fight(mut scene: Scene) {
    scene.own("node-1").await;
    scene.follow(Loss::None);
    scene.follow_directly(Loss::None);
    scene.begin().await;
    let id = scene.owners[0].instance().id().clone();

    let node = with_data(instance(&scene.service, "node-1"), "second");
    let options = scene.terms.registration();
    let second = Registration::start(scene.registry(Side::Publisher), node, options);
    let second = within(second).await.unwrap();
    let answered = scene.terms.answered();
    let mut states = scene.owners[0].statuses();
    let superseded =
        async { while !matches!(states.next().await, Some(RegistrationStatus::Superseded)) {} };
    timeout(answered, superseded).await.expect("the first is told");

    let changes = scene.witness.changes();
    assert!(changes <= 2, "one put each, and there were {changes} changes");
    pass(3 * scene.terms.ttl()).await;
    assert_eq!(scene.witness.changes(), changes, "nobody fights");
    assert!(second.status().is_active(), "{second:?}");
    let first = scene.owners[0].status();
    assert!(matches!(first, RegistrationStatus::Superseded), "{first:?}");
    assert_eq!(scene.listed().await[..], [second.instance()]);

    scene.ends(&id);
    within(second.stop()).await.unwrap();
    let back = async { while !states.next().await.unwrap().is_active() {} };
    timeout(answered, back).await.expect("the first comes back");
    scene.begin().await;
    assert!(scene.witness.changes() <= 4, "two puts more at most, and a deletion");
    scene.finish().await;
}

pub(super) async fn a_crashed_publisher_disappears_by_its_ttl(mut scene: Scene) {
    scene.own("node-1").await;
    let sent = Instant::now();
    scene.crash("node-2").await;
    let acknowledged = Instant::now();
    scene.follow(Loss::None);
    scene.follow_directly(Loss::None);
    scene.begin().await;
    for follower in &scene.followers {
        let mut view = follower.view.clone();
        let gone = async {
            while view.state().instances().find("node-2").is_some() {
                view.changed().await;
            }
        };
        let limit = (acknowledged + scene.terms.dead()) - Instant::now();
        timeout(limit, gone).await.expect("it is gone by its ttl");
        let took = sent.elapsed();
        assert!(took >= scene.terms.ttl(), "it is gone before its ttl, after {took:?}");
        assert!(view.state().retained().is_empty(), "nothing was wrong with the store");
    }
    scene.forget_guests();
    scene.finish().await;
}

pub(super) async fn a_start_fails_in_time_when_the_store_is_away(mut scene: Scene) {
    scene.follow(Loss::None);
    let limit = scene.terms.short();
    for fault in [Fault::Outage, Fault::Silence, Fault::LostReplies] {
        scene.arena.strike(fault, Side::Publisher, &scene.service).await;
        let options =
            RegistrationOptions { start: Start::Within(limit), ..scene.terms.registration() };
        let node = instance(&scene.service, "node-1");
        let start = Registration::start(scene.registry(Side::Publisher), node, options);
        let (took, started) = timed(start).await;
        let error = started.expect_err("the store is away");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?}: {error}");
        let late = limit + scene.terms.at_once();
        assert!((limit..late).contains(&took), "{fault:?}: it failed after {took:?}");
        scene.arena.heal().await;
        // What it may have done is undone, and is not done later.
        scene.settle(scene.terms.settled()).await;
        pass(scene.terms.ttl()).await;
        scene.settle(scene.terms.at_once()).await;
    }
    scene.finish().await;
}

pub(super) async fn a_registration_started_in_the_background_during_an_outage_is_active_after_it(
    mut scene: Scene,
) {
    scene.follow(Loss::None);
    scene.arena.strike(Fault::Outage, Side::Publisher, &scene.service).await;
    let options = RegistrationOptions { start: Start::InBackground, ..scene.terms.registration() };
    let node = instance(&scene.service, "node-1");
    let start = Registration::start(scene.registry(Side::Publisher), node, options);
    let owner = within(start).await.unwrap();
    pass(scene.terms.short()).await;
    let state = owner.status();
    assert!(matches!(state, RegistrationStatus::Retrying { .. }), "{state:?}");
    assert!(scene.listed().await.is_empty());
    scene.arena.heal().await;
    scene.owners.push(owner);
    scene.begin().await;
    scene.finish().await;
}
