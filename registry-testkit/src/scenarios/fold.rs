//! A snapshot, and the batches after it, are the later load.

use crate::case::{Case, instance, next, only, service, until, version};
use registry_core::{Change, InstanceStatus};

pub(super) async fn a_load_shows_every_instance_with_all_its_fields(case: Case<'_>) {
    let user = service("user.rpc");
    let plain = instance(&user, "plain");
    let full = instance(&user, "full")
        .with_address("[2001:db8::1]:65535".parse().unwrap())
        .with_weight(0)
        .with_status(InstanceStatus::Draining)
        .with_metadata([("zone", "eu-1"), ("", "\u{0}\u{1f} \"quoted\" \u{e9}"), ("empty", "")])
        .unwrap();
    let heavy = instance(&user, "heavy").with_metadata([("k", "v".repeat(60_000))]).unwrap();
    for instance in [&plain, &full, &heavy] {
        case.register(instance).await;
    }
    let snapshot = case.load(&user).await;
    assert_eq!(snapshot.instances().iter().collect::<Vec<_>>(), [&full, &heavy, &plain]);
    assert_eq!(snapshot.undecodable(), 0);
}

pub(super) async fn an_unknown_service_loads_empty_and_can_be_watched(case: Case<'_>) {
    let nobody = service("nobody");
    let (snapshot, mut watch) = case.follow(&nobody).await;
    assert!(snapshot.instances().is_empty());
    let first = instance(&nobody, "first");
    case.register(&first).await;
    assert_eq!(only(next(&mut watch).await), Change::Put(first));
}

pub(super) async fn a_snapshot_and_the_batches_after_it_are_the_later_load(case: Case<'_>) {
    let user = service("user.rpc");
    let stays = case.register(&instance(&user, "stays")).await;
    let goes = case.register(&instance(&user, "goes")).await;
    let (mut view, mut watch) = case.follow(&user).await;
    assert_eq!(view.instances().len(), 2);

    case.deregister(&goes).await;
    case.register(&instance(&user, "comes")).await;
    case.registry.deregister(&stays).await.unwrap();
    case.register(&version(&user, "stays", 2)).await;
    case.register(&instance(&user, "z-last")).await;

    for batch in until(&mut watch, &crate::case::id("z-last")).await {
        view.apply(batch);
    }
    let later = case.load(&user).await;
    assert_eq!(view.instances(), later.instances());
    assert!(view.cursor().revision() <= later.cursor().revision());
}

pub(super) async fn a_change_between_load_and_watch_is_not_missed(case: Case<'_>) {
    let user = service("user.rpc");
    let before = case.load(&user).await;
    let between = instance(&user, "between");
    let lease = case.register(&between).await;
    let mut watch = case.watch(&user, &before).await;
    assert_eq!(only(next(&mut watch).await), Change::Put(between.clone()));
    case.deregister(&lease).await;
    assert_eq!(only(next(&mut watch).await), Change::Delete(between.id().clone()));
}
