//! A watch delivers exactly the changes after its cursor, or reports that they are no longer available.

use crate::case::{
    Case, end, id, instance, long, next, next_item, park, put, retry, service, until, version,
    within,
};
use registry_core::{Batch, CallOptions, Change, Cursor, ErrorKind, WATCH_CAPACITY};
use std::sync::Arc;

pub(super) async fn a_watch_resumes_from_every_cursor_it_returned(case: Case<'_>) {
    let user = service("user.rpc");
    let other = service("other");
    let (start, mut watch) = case.follow(&user).await;
    for n in 0..10 {
        case.register(&instance(&other, &n.to_string())).await;
        let lease = case.register(&version(&user, "one", n)).await;
        if n < 9 {
            case.deregister(&lease).await;
        }
    }
    case.register(&instance(&user, "last")).await;
    let all = until(&mut watch, &id("last")).await;
    assert_eq!(all.len(), 20);

    let cursors =
        [start.cursor().clone()].into_iter().chain(all.iter().map(|batch| batch.cursor.clone()));
    for (n, cursor) in cursors.enumerate().take(20) {
        let mut watch =
            within(case.registry.watch(&user, &cursor, &CallOptions::DEFAULT)).await.unwrap();
        assert_eq!(changes(&until(&mut watch, &id("last")).await), changes(&all[n..]));
    }
}

pub(super) async fn a_cursor_can_be_written_as_text_and_parsed(case: Case<'_>) {
    let user = service("prod/user:rpc %");
    let (_, mut watch) = case.follow(&user).await;
    case.register(&instance(&user, "1")).await;
    let written = next(&mut watch).await.cursor.to_string();
    drop(watch);
    case.register(&instance(&user, "2")).await;
    let cursor: Cursor = written.parse().unwrap();
    let mut watch =
        within(case.registry.watch(&user, &cursor, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(put(next(&mut watch).await), instance(&user, "2"));
}

pub(super) async fn a_cursor_older_than_a_compaction_is_compacted(case: Case<'_>) {
    let user = service("user.rpc");
    let old = case.load(&user).await;
    for n in 0..3 {
        case.register(&version(&user, &n.to_string(), n)).await;
    }
    case.subject.compact(&user).await;
    assert_eq!(case.refusal(&user, &old).await, Some(ErrorKind::Compacted));
    assert_eq!(case.ids(&user).await, ["0", "1", "2"]);
}

pub(super) async fn a_cursor_at_the_compacted_revision_resumes(case: Case<'_>) {
    let user = service("user.rpc");
    case.register(&instance(&user, "1")).await;
    let snapshot = case.load(&user).await;
    case.subject.compact(&user).await;
    case.register(&instance(&user, "2")).await;
    let mut watch = case.watch(&user, &snapshot).await;
    assert_eq!(put(next(&mut watch).await), instance(&user, "2"));
}

pub(super) async fn a_caught_up_watch_survives_a_compaction(case: Case<'_>) {
    let (user, other) = (service("user.rpc"), service("other"));
    case.register(&instance(&user, "1")).await;
    let (_, mut watch) = case.follow(&user).await;
    park(&mut watch); // the watch is caught up, while other services increase the revision
    for n in 0..10 {
        case.register(&instance(&other, &n.to_string())).await;
    }
    case.subject.compact(&user).await;
    case.subject.compact(&other).await;
    case.register(&instance(&user, "2")).await;
    assert_eq!(put(next(&mut watch).await), instance(&user, "2"));
}

pub(super) async fn a_cursor_that_was_rolled_back_has_diverged(case: Case<'_>) {
    let user = service("user.rpc");
    case.register(&instance(&user, "kept")).await;
    case.subject.backup().await;
    case.register(&instance(&user, "lost-1")).await;
    case.register(&instance(&user, "lost-2")).await;
    let (lost, mut watch) = case.follow(&user).await;
    case.subject.restore().await;
    let kind = end(&mut watch).await.kind();
    assert!([ErrorKind::Diverged, ErrorKind::Unavailable].contains(&kind), "{kind:?}");

    retry(|| case.registry.load(&user, &CallOptions::DEFAULT)).await;
    assert_eq!(case.ids(&user).await, ["kept"]);
    assert_eq!(
        case.refusal(&user, &lost).await,
        Some(ErrorKind::Diverged),
        "before the rolled-back revision is reached again"
    );
    let mut climbed = case.load(&user).await;
    for n in 0.. {
        if climbed.cursor().revision() > lost.cursor().revision() {
            break;
        }
        case.register(&version(&user, &format!("new-{}", n % 3), n)).await;
        climbed = case.load(&user).await;
    }
    assert_eq!(
        case.refusal(&user, &lost).await,
        Some(ErrorKind::Diverged),
        "after the rolled-back revision is passed"
    );
}

pub(super) async fn a_cursor_from_before_a_rollback_resumes(case: Case<'_>) {
    let user = service("user.rpc");
    case.register(&instance(&user, "kept")).await;
    let kept = case.load(&user).await;
    case.subject.backup().await;
    case.register(&instance(&user, "lost")).await;
    case.subject.restore().await;
    retry(|| case.registry.load(&user, &CallOptions::DEFAULT)).await;
    case.register(&instance(&user, "new")).await;
    let mut watch = case.watch(&user, &kept).await;
    assert_eq!(put(next(&mut watch).await), instance(&user, "new"));
}

pub(super) async fn a_cursor_of_another_service_is_invalid(case: Case<'_>) {
    let (user, other) = (service("user.rpc"), service("other"));
    let snapshot = case.load(&other).await;
    let error = within(case.registry.watch(&user, snapshot.cursor(), &CallOptions::DEFAULT))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let elsewhere: Cursor = "1:elsewhere::user.rpc:1:0".parse().unwrap();
    let error =
        within(case.registry.watch(&user, &elsewhere, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

pub(super) async fn a_disconnected_watch_is_unavailable_and_resumes(case: Case<'_>) {
    let user = service("user.rpc");
    let (_, mut watch) = case.follow(&user).await;
    case.register(&instance(&user, "1")).await;
    assert_eq!(put(next(&mut watch).await), instance(&user, "1"));
    case.subject.cut().await;
    assert_eq!(end(&mut watch).await.kind(), ErrorKind::Unavailable);
    retry(|| case.registry.load(&user, &CallOptions::DEFAULT)).await;
    case.register(&instance(&user, "2")).await;
    let mut watch =
        within(case.registry.watch(&user, watch.cursor(), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(put(next(&mut watch).await), instance(&user, "2"));
}

pub(super) async fn a_backlog_longer_than_the_watch_buffer_is_delivered_in_full(case: Case<'_>) {
    const MANY: usize = 2 * WATCH_CAPACITY + 100; // also more than two pages of 1,000
    let user = service("user.rpc");
    let mut view = case.load(&user).await;
    case.register_many(&user, MANY).await;
    let mut watch = case.watch(&user, &view).await;
    for _ in 0..MANY {
        let batch = next(&mut watch).await;
        put(batch.clone());
        view.apply(&batch).unwrap();
    }
    assert_eq!(view.records(), case.load(&user).await.records());
}

pub(super) async fn a_resumed_watch_reports_when_it_has_caught_up(case: Case<'_>) {
    let (user, other) = (service("user.rpc"), service("other"));
    let gone = case.register(&instance(&user, "gone")).await;
    let mut view = case.load(&user).await;
    case.deregister(&gone).await;
    case.register_many(&user, 20).await;
    case.register(&instance(&other, "1")).await;
    let there = case.load(&user).await;
    let mut watch = case.watch(&user, &view).await;
    while !watch.is_caught_up() {
        let batch = next(&mut watch).await;
        view.apply(&batch).unwrap();
    }
    assert_eq!(view.records(), there.records());
    // A watch without outstanding changes is caught up at once.
    let (_, watch) = case.follow(&user).await;
    assert!(watch.is_caught_up());
    let watch = case.watch(&user, &there).await;
    assert!(watch.is_caught_up());
}

pub(super) async fn a_cursor_older_than_the_kept_history_is_compacted_or_resumes_without_a_gap(
    case: Case<'_>,
) {
    let kept = case.traits.history.expect("the scenario applies");
    let user = service("user.rpc");
    let mut before = case.load(&user).await;
    let claim = long();
    let writes = 3 * kept + 100;
    for n in 0..writes {
        case.claim(&version(&user, "1", n), &claim).await.unwrap();
    }
    // A store may keep more than it claims. Then the watch delivers all changes.
    let opened = within(case.registry.watch(&user, before.cursor(), &CallOptions::DEFAULT)).await;
    let first = match opened {
        Ok(mut watch) => next_item(&mut watch).await.map(|batch| (batch, watch)),
        Err(error) => Err(error),
    };
    match first {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Compacted, "{error}"),
        Ok((batch, mut watch)) => {
            before.apply(&batch).unwrap();
            for n in 0..writes {
                assert_eq!(before.instances().next(), Some(&version(&user, "1", n)));
                if n + 1 < writes {
                    let batch = next(&mut watch).await;
                    before.apply(&batch).unwrap();
                }
            }
        }
    }
}

pub(super) async fn a_cursor_of_another_store_is_refused(case: Case<'_>) {
    let user = service("user.rpc");
    case.register(&instance(&user, "1")).await;
    let foreign = case.subject.foreign_cursor(&user).await.expect("the subject has another store");
    let opened = within(case.registry.watch(&user, &foreign, &CallOptions::DEFAULT)).await;
    let error = match opened {
        Ok(mut watch) => next_item(&mut watch).await.expect_err("the cursor is of another store"),
        Err(error) => error,
    };
    assert_eq!(Some(error.kind()), case.traits.foreign_cursor, "{error}");
}

pub(super) async fn a_resumed_watch_delivers_all_changes_of_one_revision(case: Case<'_>) {
    let user = service("user.rpc");
    for n in 0..5 {
        case.register(&instance(&user, &n.to_string())).await;
    }
    let mut view = case.load(&user).await;
    case.subject.evict(&user).await;
    case.register(&instance(&user, "last")).await;
    let mut watch = case.watch(&user, &view).await;
    for batch in until(&mut watch, &id("last")).await {
        view.apply(&batch).unwrap();
    }
    assert_eq!(view.records(), case.load(&user).await.records());
}

pub(super) async fn a_rolled_back_cursor_is_refused_before_the_next_write(case: Case<'_>) {
    let user = service("user.rpc");
    case.register(&instance(&user, "kept")).await;
    case.subject.backup().await;
    let mut lost = Vec::new();
    for n in 0..3 {
        case.register(&instance(&user, &format!("lost-{n}"))).await;
        lost.push(case.load(&user).await);
    }
    case.subject.restore().await;
    retry(|| case.registry.load(&user, &CallOptions::DEFAULT)).await;
    // The writes take the store's revision from before to past the revisions that were rolled back.
    for n in 0..5 {
        for lost in &lost {
            let opened = within(case.registry.watch(&user, lost.cursor(), &CallOptions::DEFAULT));
            let first = match opened.await {
                Ok(mut watch) => next_item(&mut watch).await,
                Err(error) => Err(error),
            };
            let error = first.expect_err("the cursor was rolled back");
            assert_eq!(error.kind(), ErrorKind::Diverged, "{error}");
        }
        case.register(&instance(&user, &format!("new-{n}"))).await;
    }
}

fn changes(batches: &[Arc<Batch>]) -> Vec<&[Change]> {
    batches.iter().map(|batch| &batch.changes[..]).collect()
}
