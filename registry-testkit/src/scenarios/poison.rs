//! What cannot be decoded harms nobody.

use crate::case::{Case, id, instance, next, only, service};
use registry_core::Change;

pub(super) async fn an_undecodable_record_is_skipped_and_counted(case: Case<'_>) {
    let user = service("user.rpc");
    case.register(&instance(&user, "good")).await;
    let (_, mut watch) = case.follow(&user).await;
    case.subject.poison(&user, &id("bad")).await;
    let later = instance(&user, "later");
    case.register(&later).await;
    // Of the bad one a watch says nothing, or that it is not there.
    let mut change = only(next(&mut watch).await);
    if change == Change::Delete(id("bad")) {
        change = only(next(&mut watch).await);
    }
    assert_eq!(change, Change::Put(later));
    let snapshot = case.load(&user).await;
    assert_eq!(
        snapshot.instances().ids().map(registry_core::InstanceId::as_str).collect::<Vec<_>>(),
        ["good", "later"]
    );
    assert_eq!(snapshot.undecodable(), 1);
    let mut watch = case.watch(&user, &snapshot).await;
    case.register(&instance(&user, "last")).await;
    assert_eq!(only(next(&mut watch).await), Change::Put(instance(&user, "last")));
}

pub(super) async fn an_undecodable_record_over_a_good_one_is_a_delete(case: Case<'_>) {
    let user = service("user.rpc");
    case.register(&instance(&user, "1")).await;
    let (mut view, mut watch) = case.follow(&user).await;
    case.subject.poison(&user, &id("1")).await;
    let batch = next(&mut watch).await;
    assert_eq!(batch.changes, [Change::Delete(id("1"))]);
    view.apply(batch);
    assert_eq!(view.instances(), case.load(&user).await.instances());
    let mut watch = case.watch(&user, &view).await;
    case.register(&instance(&user, "2")).await;
    assert_eq!(only(next(&mut watch).await), Change::Put(instance(&user, "2")));
}
