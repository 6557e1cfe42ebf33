//! Cursors whose history is compacted, lost or replaced.

use crate::support::{
    Fixture, claim, connect, end_error, instance, name, next, put, withdrawn, within,
};
use registry_core::{CallOptions, Cursor, ErrorKind, Registry};

/// Returns `cursor` with another revision.
fn moved(cursor: &Cursor, revision: u64) -> Cursor {
    let text = cursor.to_string();
    let mut fields: Vec<&str> = text.split(':').collect();
    let revision = revision.to_string();
    fields[4] = &revision;
    fields.join(":").parse().unwrap()
}

#[tokio::test]
async fn cursor_at_the_compacted_revision_is_valid_and_an_older_one_is_compacted() {
    let etcd = Fixture::start().await;
    let older = etcd.load("user").await;
    let lease = etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
    let snapshot = etcd.load("user").await;
    etcd.deregister(&lease).await.unwrap();
    let newer = etcd.load("user").await;
    etcd.compact(snapshot.cursor().revision().get()).await;

    assert_eq!(etcd.watch_error("user", older.cursor()).await, ErrorKind::Compacted);
    let mut watch = etcd.watch_after("user", snapshot.cursor()).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [withdrawn("1")]);
    etcd.watch_after("user", newer.cursor()).await.unwrap();

    etcd.compact(newer.cursor().revision().get()).await;
    assert_eq!(etcd.watch_error("user", snapshot.cursor()).await, ErrorKind::Compacted);
    etcd.watch_after("user", newer.cursor()).await.unwrap();
}

#[tokio::test]
async fn watch_that_keeps_up_survives_a_compaction() {
    let etcd = Fixture::start().await;
    let mut watch = etcd.watch("user").await;
    etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
    next(&mut watch).await;
    etcd.put("elsewhere", "").await;
    let revision = etcd.put("elsewhere", "").await;
    etcd.compact(revision.cast_unsigned()).await;
    etcd.register(&instance("user", "2"), &claim(10)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&instance("user", "2"))]);
}

#[tokio::test]
async fn cursor_from_the_future_has_diverged() {
    let etcd = Fixture::start().await;
    let now = etcd.load("user").await;
    let revision = now.cursor().revision().get();
    for future in [revision + 1, revision + 1_000, i64::MAX as u64, u64::MAX] {
        let cursor = moved(now.cursor(), future);
        assert_eq!(etcd.watch_error("user", &cursor).await, ErrorKind::Diverged, "{future}");
    }
}

#[tokio::test]
async fn cursor_at_revision_zero_returns_the_whole_history() {
    let etcd = Fixture::start().await;
    let cursor = moved(etcd.load("user").await.cursor(), 0);
    etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
    let mut watch = etcd.watch_after("user", &cursor).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&instance("user", "1"))]);
}

#[tokio::test]
async fn cursor_of_another_service_prefix_or_cluster_is_invalid() {
    let (one, two) = (Fixture::start().await, Fixture::start().await);
    let now = one.load("user").await;
    assert_eq!(one.watch_error("user2", now.cursor()).await, ErrorKind::Invalid);
    assert_eq!(two.watch_error("user", now.cursor()).await, ErrorKind::Invalid);

    let url = format!("{}/other", one.server.url()).parse().unwrap();
    let other = within(registry_etcd::EtcdRegistry::connect(&url)).await.unwrap();
    let error =
        within(other.watch(&name("user"), now.cursor(), &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let same = connect(&one.server).await;
    within(same.watch(&name("user"), now.cursor(), &CallOptions::DEFAULT)).await.unwrap();
}

#[tokio::test]
async fn wiped_server_that_passed_the_cursor_has_diverged() {
    let mut etcd = Fixture::start().await;
    for id in ["1", "2", "3"] {
        etcd.register(&instance("user", id), &claim(10)).await.unwrap();
    }
    let before = etcd.load("user").await;
    let mut watch = etcd.watch_after("user", before.cursor()).await.unwrap();
    let process = etcd.server.process().unwrap();
    process.wipe().unwrap();
    within(process.restart()).await.unwrap();
    assert_eq!(end_error(&mut watch).await, ErrorKind::Unavailable);

    // The cursor's revision is in the future, so a plain watch would wait for it silently.
    assert_eq!(etcd.watch_error("user", before.cursor()).await, ErrorKind::Diverged);
    // Now that revision exists, with as many instances, in another order.
    for id in ["3", "1", "2"] {
        etcd.register(&instance("user", id), &claim(10)).await.unwrap();
    }
    etcd.register(&instance("other", "1"), &claim(10)).await.unwrap();
    assert_eq!(etcd.watch_error("user", before.cursor()).await, ErrorKind::Diverged);
    assert_eq!(etcd.watch_error("user", watch.cursor()).await, ErrorKind::Diverged);
    let after = etcd.load("user").await;
    assert!(after.cursor().revision() > before.cursor().revision());
    etcd.watch_after("user", after.cursor()).await.unwrap();
}

#[tokio::test]
async fn service_with_another_newest_key_has_diverged() {
    let mut etcd = Fixture::start().await;
    let (one, two) = (claim(10), claim(10));
    let mut watch = etcd.watch("user").await;
    etcd.register(&instance("user", "1"), &one).await.unwrap();
    etcd.register(&instance("user", "2"), &two).await.unwrap();
    let lease = etcd.register(&instance("user", "3"), &claim(10)).await.unwrap();
    etcd.register(&instance("user", "2").with_weight(1), &two).await.unwrap();
    etcd.revoke(lease.id().get()).await;
    let mut cursors = Vec::new();
    for _ in 0..5 {
        cursors.push(next(&mut watch).await.cursor);
    }
    // After another key was deleted, the newest key is still known.
    assert!(cursors[4].to_string().contains("2.p5."), "{}", cursors[4]);
    let process = etcd.server.process().unwrap();
    process.wipe().unwrap();
    within(process.restart()).await.unwrap();

    // The same history up to the same revisions, with other lease ids.
    let two = claim(10);
    etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
    etcd.register(&instance("user", "2"), &two).await.unwrap();
    let lease = etcd.register(&instance("user", "3"), &claim(10)).await.unwrap();
    etcd.register(&instance("user", "2").with_weight(1), &two).await.unwrap();
    etcd.revoke(lease.id().get()).await;
    let now = etcd.load("user").await;
    assert_eq!(now.cursor().revision(), cursors[4].revision());
    for cursor in &cursors {
        assert_eq!(etcd.watch_error("user", cursor).await, ErrorKind::Diverged, "{cursor}");
    }
}

#[tokio::test]
async fn restart_without_loss_keeps_cursors_valid() {
    let mut etcd = Fixture::start().await;
    let lease = etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
    let mut watch = etcd.watch("user").await;
    within(etcd.server.process().unwrap().restart()).await.unwrap();
    assert_eq!(end_error(&mut watch).await, ErrorKind::Unavailable);
    etcd.register(&instance("user", "2"), &claim(10)).await.unwrap();
    etcd.keep_alive(&lease).await.unwrap();
    let mut watch = etcd.watch_after("user", watch.cursor()).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&instance("user", "2"))]);
}
