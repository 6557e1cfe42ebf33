//! Revisions increase, no change is delivered twice, and the changes of one revision are never split.

use crate::case::{Case, id, instance, next, service, until, version};
use registry_core::{Batch, Change};
use std::sync::Arc;

pub(super) async fn revisions_strictly_increase(case: Case<'_>) {
    let user = service("user.rpc");
    let (snapshot, mut watch) = case.follow(&user).await;
    for n in 0..50 {
        let lease = case.register(&version(&user, "one", n)).await;
        case.deregister(&lease).await;
    }
    let mut last = snapshot.cursor().revision();
    for n in 0..100 {
        let batch = next(&mut watch).await;
        assert!(batch.revision() > last, "{} after {last}", batch.revision());
        assert_eq!(watch.cursor(), &batch.cursor);
        last = batch.revision();
        let put = matches!(batch.changes[..], [Change::Put(_)]);
        assert_eq!(put, n % 2 == 0, "{batch:?}");
    }
}

pub(super) async fn changes_of_one_revision_arrive_in_one_batch(case: Case<'_>) {
    let user = service("user.rpc");
    for n in 0..5 {
        case.register(&instance(&user, &n.to_string())).await;
    }
    let (mut view, mut watch) = case.follow(&user).await;
    case.subject.evict(&user).await;
    case.register(&instance(&user, "after")).await;

    let batch = next(&mut watch).await;
    assert_eq!(batch.changes.len(), 5, "{batch:?}");
    drop(watch); // the reader resumes from here without a loss
    view.apply(&batch).unwrap();
    assert!(view.records().is_empty());
    let mut watch = case.watch(&user, &view).await;
    let rest = until(&mut watch, &id("after")).await;
    assert_eq!(rest.len(), 1, "{rest:?}");
}

pub(super) async fn every_watch_of_a_service_sees_the_same_batches(case: Case<'_>) {
    let user = service("user.rpc");
    let (_, mut early) = case.follow(&user).await;
    let snapshot = case.load(&user).await;
    for n in 0..20 {
        case.register(&instance(&user, &n.to_string())).await;
    }
    let mut late = case.watch(&user, &snapshot).await;
    case.register(&instance(&user, "last")).await;
    let (early, late) = (until(&mut early, &id("last")).await, until(&mut late, &id("last")).await);
    let revisions = |batches: &[Arc<Batch>]| {
        batches.iter().map(|batch| (batch.revision(), batch.changes.clone())).collect::<Vec<_>>()
    };
    assert_eq!(revisions(&early), revisions(&late));
}
