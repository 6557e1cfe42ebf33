//! An undecodable record does not affect other records.

use crate::case::{Case, deleted, id, instance, next, put, service, until, within};
use registry_core::{CallOptions, Change, Deleted};
use std::collections::BTreeSet;

pub(super) async fn an_undecodable_record_is_skipped_and_counted(case: Case<'_>) {
    let user = service("user.rpc");
    case.register(&instance(&user, "good")).await;
    let (_, mut watch) = case.follow(&user).await;
    case.subject.poison(&user, &id("bad")).await;
    let later = instance(&user, "later");
    case.register(&later).await;
    // For the undecodable record, a watch reports nothing or a delete.
    let mut batch = next(&mut watch).await;
    if batch.changes[0].id() == &id("bad") {
        assert_eq!(deleted(batch), id("bad"));
        batch = next(&mut watch).await;
    }
    assert_eq!(put(batch), later);
    let snapshot = case.load(&user).await;
    assert_eq!(
        snapshot.records().ids().map(registry_core::InstanceId::as_str).collect::<Vec<_>>(),
        ["good", "later"]
    );
    assert_eq!(snapshot.undecodable(), 1);
    let mut watch = case.watch(&user, &snapshot).await;
    case.register(&instance(&user, "last")).await;
    assert_eq!(put(next(&mut watch).await), instance(&user, "last"));
}

pub(super) async fn overwriting_a_record_with_an_undecodable_one_is_a_delete(case: Case<'_>) {
    let user = service("user.rpc");
    case.register(&instance(&user, "1")).await;
    let (mut view, mut watch) = case.follow(&user).await;
    case.subject.poison(&user, &id("1")).await;
    let batch = next(&mut watch).await;
    assert_eq!(batch.changes, [Change::Delete(Deleted::new(id("1")))]);
    view.apply(&batch).unwrap();
    assert_eq!(view.records(), case.load(&user).await.records());
    let mut watch = case.watch(&user, &view).await;
    case.register(&instance(&user, "2")).await;
    assert_eq!(put(next(&mut watch).await), instance(&user, "2"));
}

pub(super) async fn an_undecodable_record_in_replayed_history_is_skipped(case: Case<'_>) {
    let user = service("user.rpc");
    let before = case.load(&user).await;
    case.register(&instance(&user, "1")).await;
    case.subject.poison(&user, &id("bad")).await;
    case.subject.poison(&user, &id("1")).await;
    case.register(&instance(&user, "2")).await;
    let mut watch = case.watch(&user, &before).await;
    let mut view = before;
    for batch in until(&mut watch, &id("2")).await {
        view.apply(&batch).unwrap();
    }
    assert_eq!(view.records(), case.load(&user).await.records());
    assert_eq!(case.ids(&user).await, ["2"]);
}

pub(super) async fn a_service_with_only_an_undecodable_record_is_listed(case: Case<'_>) {
    let user = service("user.rpc");
    case.subject.poison(&user, &id("bad")).await;
    let listed = within(case.registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(listed, BTreeSet::from([user.clone()]));
    assert!(case.load(&user).await.records().is_empty());
}
