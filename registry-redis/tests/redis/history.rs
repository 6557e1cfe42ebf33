//! Cursors and the log: trimming, wipes, and entries of other programs.

use crate::support::{
    Operator, STATE, claim, failure, ids, instance, load, next, next_change, one_shard, register,
    registry, server, watch, watch_failure, watch_from_now, within,
};
use registry_core::{CallOptions, Change, Deleted, ErrorKind, Registry};

const IDX: &str = "{registry/00}:idx";
const EXP: &str = "{registry/00}:exp";
const LOG: &str = "{registry/00}:log";

#[tokio::test]
async fn cursor_of_an_unused_shard_can_be_watched_from() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    let empty = load(&registry, "user.rpc").await;
    assert!(empty.records().is_empty());
    register(&registry, "user.rpc", "1").await;
    let mut watch = watch(&registry, "user.rpc", empty.cursor()).await;
    assert_eq!(next_change(&mut watch).await, "+1");
}

#[tokio::test]
async fn trimmed_log_is_compacted_for_an_old_cursor_and_not_for_a_current_one() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let old = load(&registry, "user.rpc").await;
    register(&registry, "user.rpc", "1").await;
    let mut caught_up = watch_from_now(&registry, "user.rpc").await;
    register(&registry, "user.rpc", "2").await;
    assert_eq!(next_change(&mut caught_up).await, "+2");
    let current = caught_up.cursor().clone();

    Operator::of(&server).await.run::<()>(&format!("XTRIM {LOG} MAXLEN 0")).await;
    assert_eq!(watch_failure(&registry, "user.rpc", old.cursor()).await, ErrorKind::Compacted);
    let mut resumed = watch(&registry, "user.rpc", &current).await;
    register(&registry, "user.rpc", "3").await;
    assert_eq!(next_change(&mut caught_up).await, "+3");
    assert_eq!(next_change(&mut resumed).await, "+3");
}

#[tokio::test]
async fn deleted_log_is_compacted_like_a_trimmed_one() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let old = load(&registry, "user.rpc").await;
    let mut caught_up = watch_from_now(&registry, "user.rpc").await;
    register(&registry, "user.rpc", "1").await;
    assert_eq!(next_change(&mut caught_up).await, "+1");
    Operator::of(&server).await.run::<()>(&format!("DEL {LOG}")).await;
    register(&registry, "user.rpc", "2").await;
    assert_eq!(next_change(&mut caught_up).await, "+2");
    assert_eq!(watch_failure(&registry, "user.rpc", old.cursor()).await, ErrorKind::Compacted);
}

#[tokio::test]
async fn long_log_is_trimmed_to_its_cap_and_read_in_pages() {
    let server = server(&[]).await;
    let options = registry_redis::RedisOptions::default().with_shards(1).with_log_cap(1000);
    let registry = crate::support::connect(server.url(), options).await.unwrap();
    let first = load(&registry, "user.rpc").await;
    for n in 0..900 {
        register(&registry, "user.rpc", &n.to_string()).await;
    }
    let mut watch = watch(&registry, "user.rpc", first.cursor()).await;
    for n in 0..900 {
        assert_eq!(next_change(&mut watch).await, format!("+{n}"));
    }
    for n in 900..2000 {
        register(&registry, "user.rpc", &n.to_string()).await;
        assert_eq!(next_change(&mut watch).await, format!("+{n}"));
    }
    assert_eq!(watch_failure(&registry, "user.rpc", first.cursor()).await, ErrorKind::Compacted);
    let len: u64 = Operator::of(&server).await.run(&format!("XLEN {LOG}")).await;
    assert!((1000..1200).contains(&len), "{len}");
}

#[tokio::test]
async fn wipe_is_diverged_for_open_watches_and_old_cursors() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    register(&registry, "user.rpc", "1").await;
    let cursor = load(&registry, "user.rpc").await.cursor().clone();
    let mut open = watch_from_now(&registry, "user.rpc").await;
    let mut operator = Operator::of(&server).await;
    operator.run::<()>("FLUSHALL").await;
    assert_eq!(watch_failure(&registry, "user.rpc", &cursor).await, ErrorKind::Diverged);
    assert_eq!(failure(&mut open).await, ErrorKind::Diverged);
    // Repeating the steps creates another history.
    assert!(ids(&registry, "user.rpc").await.is_empty());
    register(&registry, "user.rpc", "1").await;
    assert_eq!(watch_failure(&registry, "user.rpc", &cursor).await, ErrorKind::Diverged);
    register(&registry, "user.rpc", "2").await;
    assert_eq!(watch_failure(&registry, "user.rpc", &cursor).await, ErrorKind::Diverged);
}

#[tokio::test]
async fn wipe_of_one_shard_is_detected_while_other_shards_are_busy() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    let mut quiet = watch_from_now(&registry, "user.rpc").await;
    let mut busy = watch_from_now(&registry, "a").await;
    let mut operator = Operator::of(&server).await;
    register(&registry, "user.rpc", "1").await;
    assert_eq!(next_change(&mut quiet).await, "+1");
    let keys: Vec<String> = operator.run("KEYS {registry/15}:*").await;
    assert!(!keys.is_empty(), "user.rpc lies in shard 15");
    for key in keys {
        operator.run::<()>(&format!("DEL {key}")).await;
    }
    let noise = async {
        for n in 0.. {
            register(&registry, "a", &n.to_string()).await;
            assert_eq!(next_change(&mut busy).await, format!("+{n}"));
        }
    };
    tokio::select! {
        () = noise => {}
        kind = failure(&mut quiet) => assert_eq!(kind, ErrorKind::Diverged),
    }
}

#[tokio::test]
async fn foreign_log_entry_ends_the_watches_of_its_shard_and_is_deleted() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    register(&registry, "user.rpc", "1").await;
    let mut touched = watch_from_now(&registry, "user.rpc").await;
    let mut apart = watch_from_now(&registry, "a").await;
    let mut operator = Operator::of(&server).await;
    operator.run::<()>("XADD {registry/15}:log 2-0 t D m x v x p 0000000000000000 d 00").await;
    assert_eq!(failure(&mut touched).await, ErrorKind::Unavailable);
    register(&registry, "a", "1").await;
    assert_eq!(next_change(&mut apart).await, "+1", "other shards are not affected");
    // No part of the history is lost.
    let mut resumed = watch(&registry, "user.rpc", touched.cursor()).await;
    register(&registry, "user.rpc", "2").await;
    assert_eq!(next_change(&mut resumed).await, "+2");
    assert_eq!(operator.run::<usize>("XLEN {registry/15}:log").await, 2);
}

#[tokio::test]
async fn undecodable_put_is_a_delete_for_a_watch() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    register(&registry, "user.rpc", "1").await;
    let mut watch = watch_from_now(&registry, "user.rpc").await;
    let proof = watch.cursor().to_string();
    let digest = proof.rsplit(':').next().unwrap();
    // A later version of this library may write such records.
    let add = format!("XADD {LOG} 2-0 t P m user.rpc\u{1f}1 v W p {digest} d 00000000000000aa");
    let add: Vec<&str> = add
        .split(' ')
        .map(|word| if word == "W" { r#"7 600000 2 {"v":9}"# } else { word })
        .collect();
    let mut operator = Operator::of(&server).await;
    operator
        .edit_meta(|[_, revision, digest, ..]| {
            (*revision, *digest) = ("2".into(), "00000000000000aa".into());
        })
        .await;
    operator.run_words::<()>(&add).await;
    let batch = next(&mut watch).await;
    assert_eq!(batch.changes, [Change::Delete(Deleted::new("1".parse().unwrap()))]);
    register(&registry, "user.rpc", "2").await;
    assert_eq!(next_change(&mut watch).await, "+2", "the watch continues");
}

/// Ways in which a shard loses a key, or part of one, while its log remains.
const DAMAGES: [&[&str]; 8] = [
    &["DEL", IDX],
    &["DEL", EXP],
    &["DEL", IDX, EXP],
    &["DEL", STATE],
    &["HDEL", STATE, "meta"],
    &["HSET", STATE, "meta", "junk"],
    &["HSET", STATE, "meta", "1 18446744073709551615 00 00 1 0 0 1 x"],
    &["DEL", STATE, EXP],
];

/// Regression: the next load wiped a shard that lost a key, with the records of all its services.
#[tokio::test]
async fn shard_that_lost_a_key_is_repaired_by_any_call_and_loses_nothing() {
    let options = &CallOptions::DEFAULT;
    for (n, damage) in DAMAGES.iter().enumerate() {
        let server = server(&[]).await;
        let registry = one_shard(&server).await;
        let mut operator = Operator::of(&server).await;
        let (one, claim) = (instance("user.rpc", "1"), claim());
        let lease = within(registry.register(&one, &claim, options)).await.unwrap();
        let cursor = load(&registry, "user.rpc").await.cursor().clone();
        register(&registry, "order.rpc", "1").await;
        register(&registry, "user.rpc", "2").await;
        let before = [load(&registry, "user.rpc").await, load(&registry, "order.rpc").await];
        for first in 0..8 {
            operator.run_words::<()>(damage).await;
            match first {
                0 => _ = within(registry.keep_alive(&lease, options)).await.unwrap(),
                1 => _ = within(registry.register(&one, &claim, options)).await.unwrap(),
                2 => _ = within(registry.holder(&one, options)).await.unwrap().unwrap(),
                3 => _ = within(registry.services(options)).await.unwrap(),
                4 => _ = within(registry.watch(one.service(), &cursor, options)).await.unwrap(),
                5 => _ = within(registry.watch_record(&lease, options)).await.unwrap(),
                6 => _ = load(&registry, "user.rpc").await,
                _ => {
                    let (three, claim) = (instance("user.rpc", "3"), super::support::claim());
                    let lease = within(registry.register(&three, &claim, options)).await.unwrap();
                    within(registry.deregister(&lease, options)).await.unwrap();
                }
            }
            let after = [load(&registry, "user.rpc").await, load(&registry, "order.rpc").await];
            for (before, after) in before.iter().zip(&after) {
                assert_eq!(after.records(), before.records(), "{damage:?}, call {first}");
            }
            let mut resumed = watch(&registry, "user.rpc", &cursor).await;
            assert_eq!(next_change(&mut resumed).await, "+2", "{damage:?}, call {first}");
            within(registry.keep_alive(&lease, options)).await.unwrap();
        }
        let names = within(registry.services(options)).await.unwrap();
        assert_eq!(names.len(), 2, "{n}");
    }
}

/// The log is missing as well, so a new history starts and watches load again.
#[tokio::test]
async fn records_without_history_are_kept_and_those_without_values_registered_again() {
    for (damage, is_kept) in [
        (&["DEL", IDX, EXP, LOG][..], true),
        (&["DEL", STATE, LOG], false),
        (&["DEL", STATE, IDX], false),
    ] {
        let server = server(&[]).await;
        let registry = one_shard(&server).await;
        let (one, claim) = (instance("user.rpc", "1"), claim());
        let lease = within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();
        let cursor = load(&registry, "user.rpc").await.cursor().clone();
        register(&registry, "user.rpc", "2").await;
        let mut operator = Operator::of(&server).await;
        operator.run_words::<()>(damage).await;
        if is_kept {
            operator.run_words::<()>(&["HDEL", STATE, "meta"]).await;
        }
        let listed = ids(&registry, "user.rpc").await;
        assert_eq!(listed.len(), if is_kept { 2 } else { 0 }, "{damage:?}");
        let renewed = within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await;
        assert_eq!(renewed.is_ok(), is_kept, "{damage:?}");
        let failed = watch_failure(&registry, "user.rpc", &cursor).await;
        let again = [ErrorKind::Compacted, ErrorKind::Diverged];
        assert!(again.contains(&failed), "{damage:?}: {failed}");
        within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();
        assert!(ids(&registry, "user.rpc").await.contains(&"1".to_owned()), "{damage:?}");
    }
}

/// The lease clock, which is saved in meta, may lag far behind the server's after many outages.
#[tokio::test]
async fn lost_meta_costs_leases_no_time() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let one = instance("user.rpc", "1");
    let mut operator = Operator::of(&server).await;
    load(&registry, "user.rpc").await;
    operator.edit_meta(|[_, _, _, _, _, lag, ..]| *lag = "86400000".into()).await;
    let lease = within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await.unwrap();
    operator.run_words::<()>(&["HDEL", STATE, "meta"]).await;
    within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
    operator
        .edit_meta(|[_, _, _, _, _, lag, ..]| {
            let lag: u64 = lag.parse().unwrap();
            assert!(lag.abs_diff(86_400_000) < 60_000, "{lag}");
        })
        .await;
}

#[tokio::test]
async fn shard_of_a_later_format_is_invalid_and_is_not_changed() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    register(&registry, "user.rpc", "1").await;
    let mut operator = Operator::of(&server).await;
    let later_format = "2 1 00000000000000aa 00000000000000aa 1 0 0 1 x";
    for meta in ["7 ", later_format] {
        operator.run_words::<()>(&["HSET", STATE, "meta", meta]).await;
        let error = within(registry.load(&"user.rpc".parse().unwrap(), &CallOptions::DEFAULT))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{meta}: {error}");
        let claim = claim();
        let instance = instance("user.rpc", "2");
        let error =
            within(registry.register(&instance, &claim, &CallOptions::DEFAULT)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{meta}: {error}");
        assert_eq!(operator.run::<usize>("HLEN {registry/00}:state").await, 3, "{meta}");
    }
}
