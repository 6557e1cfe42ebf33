//! A snapshot with the batches after it equals a later load.

use crate::case::{Case, deleted, instance, next, put, service, until, version};
use registry_core::{CallOptions, Claim, InstanceStatus, Port};

pub(super) async fn a_load_shows_every_instance_with_all_its_fields(case: Case<'_>) {
    let user = service("user.rpc");
    let plain = instance(&user, "plain");
    let full = instance(&user, "full")
        .with_address("[2001:db8::1]:65535".parse().unwrap())
        .with_weight(0)
        .with_status(InstanceStatus::Draining)
        .with_port("admin", 9090)
        .with_port("metrics", Port::new(1).with_protocol("http"))
        .with_zone("eu-1/\"a\"")
        .with_label("tier", "gold")
        .with_metadata([("zone", "eu-1"), ("a b", "\u{0}\u{1f} \"quoted\" \u{e9}"), ("empty", "")]);
    let heavy = instance(&user, "heavy").with_metadata([("k", "v".repeat(60_000))]);
    for instance in [&plain, &full, &heavy] {
        case.register(instance).await;
    }
    let snapshot = case.load(&user).await;
    assert_eq!(snapshot.instances().collect::<Vec<_>>(), [&full, &heavy, &plain]);
    assert_eq!(snapshot.undecodable(), 0);
}

pub(super) async fn an_unknown_service_loads_empty_and_can_be_watched(case: Case<'_>) {
    let nobody = service("nobody");
    let (snapshot, mut watch) = case.follow(&nobody).await;
    assert!(snapshot.records().is_empty());
    let first = instance(&nobody, "first");
    case.register(&first).await;
    assert_eq!(put(next(&mut watch).await), first);
}

pub(super) async fn a_snapshot_with_the_batches_after_it_equals_a_later_load(case: Case<'_>) {
    let user = service("user.rpc");
    let stays = case.register(&instance(&user, "stays")).await;
    let goes = case.register(&instance(&user, "goes")).await;
    let (mut view, mut watch) = case.follow(&user).await;
    assert_eq!(view.instances().len(), 2);

    case.deregister(&goes).await;
    case.register(&instance(&user, "comes")).await;
    case.registry.deregister(&stays, &CallOptions::DEFAULT).await.unwrap();
    case.register(&version(&user, "stays", 2)).await;
    case.register(&instance(&user, "z-last")).await;

    for batch in until(&mut watch, &crate::case::id("z-last")).await {
        view.apply(&batch).unwrap();
    }
    let later = case.load(&user).await;
    assert_eq!(view.records(), later.records());
    assert!(view.cursor().revision() <= later.cursor().revision());
}

pub(super) async fn a_change_between_load_and_watch_is_not_missed(case: Case<'_>) {
    let user = service("user.rpc");
    let before = case.load(&user).await;
    let between = instance(&user, "between");
    let lease = case.register(&between).await;
    let mut watch = case.watch(&user, &before).await;
    assert_eq!(put(next(&mut watch).await), between.clone());
    case.deregister(&lease).await;
    assert_eq!(deleted(next(&mut watch).await), between.id().clone());
}

pub(super) async fn a_record_carries_its_lease_ttl_and_revision(case: Case<'_>) {
    let user = service("user.rpc");
    let (mut view, mut watch) = case.follow(&user).await;
    let claim = Claim::new(case.traits.ttl * 3).unwrap();
    let mut lease = case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    for n in 2..4 {
        case.keep_alive(&lease).await.unwrap();
        let batch = next(&mut watch).await;
        view.apply(&batch).unwrap();
        let loaded = case.load(&user).await;
        assert_eq!(view.records(), loaded.records(), "the records of a watch and a load differ");
        let record = &loaded.records()[0];
        assert_eq!(record.instance(), lease.instance());
        assert!(record.lease().is_none_or(|id| id == lease.id()), "{record:?}");
        assert!(record.ttl().is_none_or(|ttl| ttl == lease.ttl()), "{record:?}");
        let revision = record.revision();
        assert!(revision.is_none_or(|revision| revision == lease.revision()), "{record:?}");
        lease = case.claim(&version(&user, "1", n), &claim).await.unwrap();
    }
}

pub(super) async fn a_load_of_more_than_one_page_is_complete(case: Case<'_>) {
    const MANY: usize = 2_100; // stores read pages of up to 1,000
    let user = service("user.rpc");
    let (mut view, mut watch) = case.follow(&user).await;
    let reading = async {
        for _ in 0..MANY {
            let batch = next(&mut watch).await;
            view.apply(&batch).unwrap();
        }
    };
    tokio::join!(case.register_many(&user, MANY), reading);
    let snapshot = case.load(&user).await;
    assert_eq!(snapshot.records().len(), MANY);
    assert_eq!(snapshot.records(), view.records());
}
