//! Dropped calls break nothing, and unread watches block no other.

use crate::case::{Case, end, id, instance, long, next, only, service, until, version};
use futures_util::{FutureExt, StreamExt};
use registry_core::{CallOptions, Change, ErrorKind, WATCH_CAPACITY};

pub(super) async fn a_dropped_registration_leaves_at_most_one_record(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = long();
    for n in 0..20 {
        // Polled once, so that the request may be in flight, and then dropped.
        let _ = case
            .registry
            .register(&version(&user, "1", n), &claim, &CallOptions::DEFAULT)
            .now_or_never();
    }
    let (mut view, mut watch) = case.follow(&user).await;
    let last = case.claim(&version(&user, "1", 99), &claim).await.unwrap();
    case.register(&instance(&user, "2")).await;
    for batch in until(&mut watch, &id("2")).await {
        view.apply(&batch).unwrap();
    }
    // A dropped request may arrive late, but all requests belong to one registration under one lease.
    let now = case.load(&user).await;
    assert_eq!(now.instances().len(), 2);
    assert!(view.records().find(last.instance().id().as_str()).is_some());
    case.deregister(&last).await;
}

pub(super) async fn a_dropped_watch_does_not_disturb_others(case: Case<'_>) {
    let user = service("user.rpc");
    let snapshot = case.load(&user).await;
    let mut kept = case.watch(&user, &snapshot).await;
    for n in 0..20 {
        let mut dropped = case.watch(&user, &snapshot).await;
        let _ = dropped.next().now_or_never();
        drop(dropped);
        drop(case.registry.watch(&user, snapshot.cursor(), &CallOptions::DEFAULT).now_or_never());
        let _ = case
            .registry
            .register(&version(&user, "1", n), &long(), &CallOptions::DEFAULT)
            .now_or_never();
        let one = instance(&user, &format!("i{n}"));
        case.register(&one).await;
        until(&mut kept, one.id()).await;
    }
    assert!(case.load(&user).await.instances().len() >= 20);
}

pub(super) async fn an_unread_watch_lags_without_blocking_others(case: Case<'_>) {
    let user = service("user.rpc");
    let (snapshot, mut unread) = case.follow(&user).await;
    let mut read = case.watch(&user, &snapshot).await;
    let claim = long();
    let writes = 2 * WATCH_CAPACITY;
    let mut last = Vec::new();
    for n in 0..writes {
        case.claim(&version(&user, "1", n), &claim).await.unwrap();
        let change = only(next(&mut read).await);
        let Change::Put(record) = &change else { panic!("{change:?}") };
        assert_eq!(record.instance(), &version(&user, "1", n));
        last.push(change);
    }
    // The unread watch delivers its buffer, ends with a lag, and can be resumed without a gap.
    let mut seen = Vec::new();
    let error = loop {
        match crate::case::next_item(&mut unread).await {
            Ok(batch) => seen.push(only(batch)),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("lag"), "{error}");
    assert_eq!(seen.len(), WATCH_CAPACITY);
    let mut rest =
        crate::case::within(case.registry.watch(&user, unread.cursor(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    while seen.len() < writes {
        seen.push(only(next(&mut rest).await));
    }
    assert!(seen == last, "the resumed watch has a gap");
    case.subject.cut().await;
    assert_eq!(end(&mut read).await.kind(), ErrorKind::Unavailable);
}
