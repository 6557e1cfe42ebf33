//! Deliveries of watches, and their cleanup.

use crate::support::{Fixture, claim, deleted, encoded, end_error, instance, next, put, within};
use etcd_client::{Client, DeleteOptions, TxnOp};
use futures_util::{StreamExt, future};
use registry_core::{Cursor, ErrorKind, WATCH_CAPACITY};

#[tokio::test]
async fn changes_of_one_revision_are_one_batch() {
    let etcd = Fixture::start().await;
    for id in ["1", "2", "3"] {
        etcd.register(&instance("user", id), &claim(10)).await.unwrap();
    }
    let mut watch = etcd.watch("user").await;
    let prefix = Some(DeleteOptions::new().with_prefix());
    within(etcd.raw.kv_client().delete("registry/user/", prefix)).await.unwrap();
    let batch = next(&mut watch).await;
    assert_eq!(batch.changes, [deleted("1"), deleted("2"), deleted("3")]);
    assert_eq!(batch.revision().get(), etcd.revision().await.cast_unsigned());
}

#[tokio::test]
async fn every_cursor_of_a_watch_resumes_with_exactly_the_rest() {
    let etcd = Fixture::start().await;
    let good = |id: &str| encoded(&instance("user", id));
    let key = |id: &str| format!("registry/user/{id}");
    let before = etcd.load("user").await;
    let mut live = etcd.watch_after("user", before.cursor()).await.unwrap();

    let (one, two) = (claim(10), claim(10));
    let lease = etcd.register(&instance("user", "1"), &one).await.unwrap();
    etcd.register(&instance("user", "2"), &two).await.unwrap();
    etcd.register(&instance("user", "2").with_weight(1), &two).await.unwrap();
    etcd.put("registry/other/1", "not of this service").await;
    etcd.deregister(&lease).await.unwrap();
    let several = [TxnOp::put(key("3"), good("3"), None), TxnOp::put(key("4"), good("4"), None)];
    etcd.change(several).await;
    etcd.put("registry/user/nested/key", "foreign").await;
    let mixed = [
        TxnOp::delete(key("3"), None),
        TxnOp::put(key("5"), good("5"), None),
        TxnOp::delete(key("2"), None),
    ];
    etcd.change(mixed).await;
    etcd.delete("registry/user/nested/key").await;
    etcd.delete(&key("5")).await;
    etcd.put(&key("4"), "no record").await;
    etcd.put(&key("4"), good("4")).await;
    let last = etcd.put(&key("6"), good("6")).await.cast_unsigned();

    let mut batches = Vec::new();
    while live.cursor().revision().get() < last {
        batches.push(within(live.next()).await.unwrap().unwrap());
    }
    let after = etcd.load("user").await;
    let cursors = batches.iter().map(|batch| batch.cursor.clone());
    let cursors: Vec<Cursor> = [before.cursor().clone()].into_iter().chain(cursors).collect();
    for (n, cursor) in cursors.iter().enumerate() {
        let mut watch =
            etcd.watch_after("user", &cursor.to_string().parse().unwrap()).await.unwrap();
        for expected in batches[n..].iter().filter(|batch| !batch.is_progress()) {
            assert_eq!(&next(&mut watch).await.batch, expected, "after {cursor}");
        }
    }
    let folded = batches.iter().cloned().fold(before, |mut folded, batch| {
        folded.apply(&batch).unwrap();
        folded
    });
    assert_eq!(folded.records(), after.records());
}

#[tokio::test]
async fn undecodable_record_counts_as_a_delete() {
    let etcd = Fixture::start().await;
    etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
    let mut watch = etcd.watch("user").await;
    etcd.put("registry/user/1", "no record").await;
    assert_eq!(next(&mut watch).await.changes, [deleted("1")]);
    etcd.put("registry/user/1", encoded(&instance("user", "1"))).await;
    assert_eq!(next(&mut watch).await.changes, [put(&instance("user", "1"))]);
}

#[tokio::test]
async fn foreign_key_only_moves_the_cursor() {
    let etcd = Fixture::start().await;
    let mut watch = etcd.watch("user").await;
    let revision = etcd.put("registry/user/nested/key", "foreign").await;
    let batch = within(watch.next()).await.unwrap().unwrap();
    assert!(batch.is_progress());
    assert_eq!(batch.revision().get(), revision.cast_unsigned());
    etcd.watch_after("user", watch.cursor()).await.unwrap();
}

#[tokio::test]
async fn progress_notifications_advance_an_idle_watch() {
    let etcd = Fixture::start().await;
    let mut watch = etcd.watch("user").await;
    let revision = etcd.put("elsewhere", "").await.cast_unsigned();
    while watch.cursor().revision().get() < revision {
        assert!(within(watch.next()).await.unwrap().unwrap().is_progress());
    }
    // Prevents a compaction from removing history that the watch needs.
    etcd.compact(watch.cursor().revision().get()).await;
    let mut resumed = etcd.watch_after("user", watch.cursor()).await.unwrap();
    etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
    for watch in [&mut watch, &mut resumed] {
        assert_eq!(next(watch).await.changes, [put(&instance("user", "1"))]);
    }
}

#[tokio::test]
async fn burst_of_a_thousand_batches_is_buffered() {
    let etcd = Fixture::start().await;
    let mut watch = etcd.watch("user").await;
    let record = encoded(&instance("user", "0"));
    let mut revisions = Vec::new();
    for n in 0..1_000 {
        let revision = etcd.put(&format!("registry/user/{n}"), record.clone()).await;
        revisions.push(revision.cast_unsigned());
    }
    for revision in revisions {
        assert_eq!(next(&mut watch).await.revision().get(), revision);
    }
}

#[tokio::test]
async fn reader_that_keeps_up_receives_any_backlog() {
    let etcd = Fixture::start().await;
    let before = etcd.load("user").await;
    let record = encoded(&instance("user", "0"));
    let (etcd, record) = (&etcd, &record);
    let puts = (0..3_000).map(|n| async move {
        etcd.put(&format!("registry/user/{n}"), record.clone()).await;
    });
    future::join_all(puts).await;
    let mut watch = etcd.watch_after("user", before.cursor()).await.unwrap();
    for n in 1..=3_000 {
        let revision = next(&mut watch).await.revision().get();
        assert_eq!(revision, before.cursor().revision().get() + n);
    }
}

#[tokio::test]
async fn paused_process_is_not_treated_as_lag() {
    let etcd = Fixture::start().await;
    let mut watch = etcd.watch("user").await;
    let endpoint = etcd.server.endpoint();
    let writer = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = within(Box::pin(Client::connect([endpoint], None))).await.unwrap();
            for n in 0..2_000 {
                within(client.kv_client().put(format!("registry/user/{n}"), "", None))
                    .await
                    .unwrap();
            }
        });
    });
    // Blocks the only thread of the runtime, on which the reader and the watch run.
    writer.join().unwrap();
    for _ in 0..2_000 {
        next(&mut watch).await;
    }
}

#[tokio::test]
async fn unread_watch_lags_without_stalling_others() {
    let etcd = Fixture::start().await;
    let (mut idle, mut read) = (etcd.watch("user").await, etcd.watch("user").await);
    let record = encoded(&instance("user", "0"));
    let count = WATCH_CAPACITY + 100;
    for n in 0..count {
        etcd.put(&format!("registry/user/{n}"), record.clone()).await;
        next(&mut read).await;
    }
    for _ in 0..WATCH_CAPACITY {
        next(&mut idle).await;
    }
    assert_eq!(end_error(&mut idle).await, ErrorKind::Unavailable);
    let mut resumed = etcd.watch_after("user", idle.cursor()).await.unwrap();
    for _ in WATCH_CAPACITY..count {
        next(&mut resumed).await;
    }
}

#[tokio::test]
async fn dropped_watch_cancels_its_watcher() {
    let etcd = Fixture::start().await;
    let watches = [etcd.watch("a").await, etcd.watch("b").await];
    assert_eq!(etcd.metric("etcd_debugging_mvcc_watcher_total").await, 2);
    drop(watches);
    // A watch that is cancelled while it opens must be cleaned up as well, at any point.
    let now = etcd.load("c").await;
    for turns in 0..100 {
        let giving_up = async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = etcd.watch_after("c", now.cursor()) => {}
            () = giving_up => {}
        }
    }
    etcd.wait_until_zero("etcd_debugging_mvcc_watcher_total").await;
}
