//! Writes of other programs to the keys of a shard.

use crate::support::{
    Operator, STATE, claim, connect, failure, holder_of, ids, instance, load, next_change,
    one_shard, register, server, watch, watch_failure, watch_from_now, within,
};
use registry_core::{CallOptions, ErrorKind, Holder, Registry};
use registry_redis::RedisOptions;
use registry_testkit::case::take_over;
use std::time::Duration;

/// Regression: the log was ahead of the revision, so every later change failed.
#[tokio::test]
async fn foreign_log_entry_stops_no_registration() {
    for foreign in [
        "XADD {registry/00}:log 999-0 x y",
        "XADD {registry/00}:log 18446744073709551615-18446744073709551615 x y",
        "SET {registry/00}:log x",
    ] {
        let server = server(&[]).await;
        let registry = one_shard(&server).await;
        let start = load(&registry, "user.rpc").await.cursor().clone();
        register(&registry, "user.rpc", "1").await;
        let at_the_end = load(&registry, "user.rpc").await.cursor().clone();
        Operator::of(&server).await.run::<redis::Value>(foreign).await;
        register(&registry, "user.rpc", "2").await;
        assert_eq!(ids(&registry, "user.rpc").await, ["1", "2"], "{foreign}");
        let mut resumed = watch(&registry, "user.rpc", &at_the_end).await;
        assert_eq!(next_change(&mut resumed).await, "+2", "{foreign}");
        if foreign.starts_with("SET") {
            let failed = watch_failure(&registry, "user.rpc", &start).await;
            assert_eq!(failed, ErrorKind::Compacted, "{foreign}");
        } else {
            // The history must be kept: deleting it with the entry would make all watches load again.
            let mut resumed = watch(&registry, "user.rpc", &start).await;
            for change in ["+1", "+2"] {
                assert_eq!(next_change(&mut resumed).await, change, "{foreign}");
            }
        }
    }
}

/// Regression: foreign entries in the log ended every watch of the shard repeatedly, until the next change.
#[tokio::test]
async fn foreign_log_entry_ends_no_watch_for_long() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let start = load(&registry, "user.rpc").await.cursor().clone();
    let mut operator = Operator::of(&server).await;
    register(&registry, "user.rpc", "1").await;
    let mut open = watch_from_now(&registry, "user.rpc").await;
    // After an entry of ours, and so between two of ours.
    operator.run::<redis::Value>("XADD {registry/00}:log 1-1 x y").await;
    operator.run::<redis::Value>("XADD {registry/00}:log 1-7 x y").await;
    register(&registry, "user.rpc", "2").await;
    assert_eq!(next_change(&mut open).await, "+2");
    // Ahead of all entries.
    operator.run::<redis::Value>("XADD {registry/00}:log * x y").await;
    assert_eq!(failure(&mut open).await, ErrorKind::Unavailable);
    let mut open = watch(&registry, "user.rpc", open.cursor()).await;
    operator.run::<redis::Value>("XADD {registry/00}:log 3-1 x y").await;
    assert_eq!(failure(&mut open).await, ErrorKind::Unavailable);
    let mut open = watch(&registry, "user.rpc", open.cursor()).await;
    register(&registry, "user.rpc", "3").await;
    assert_eq!(next_change(&mut open).await, "+3");
    let mut all = watch(&registry, "user.rpc", &start).await;
    for change in ["+1", "+2", "+3"] {
        assert_eq!(next_change(&mut all).await, change);
    }
}

/// Regression: a hundred foreign entries ended all watches, which loaded again, since the whole log was deleted with
/// the entries.
#[tokio::test]
async fn history_survives_any_number_of_foreign_log_entries() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let start = load(&registry, "user.rpc").await.cursor().clone();
    let mut operator = Operator::of(&server).await;
    for n in 1..=3 {
        register(&registry, "user.rpc", &n.to_string()).await;
        for _ in 0..150 {
            operator.run::<redis::Value>("XADD {registry/00}:log * x y").await;
        }
    }
    // A watch resumes without a change in between.
    let mut all = watch(&registry, "user.rpc", &start).await;
    for change in ["+1", "+2", "+3"] {
        assert_eq!(next_change(&mut all).await, change);
    }
    assert_eq!(operator.run::<usize>("XLEN {registry/00}:log").await, 3);
    register(&registry, "user.rpc", "4").await;
    assert_eq!(next_change(&mut all).await, "+4");
}

/// Regression: in a shard that lost `meta`, the revision of a stray value counted as the last one, and was too large
/// for any later one. So every call repaired the shard in vain.
#[tokio::test]
async fn huge_stray_revision_does_not_block_a_shard_that_lost_its_meta() {
    for revision in ["99999999999999999999", "999999999999999", "1e99"] {
        let server = server(&[]).await;
        let registry = one_shard(&server).await;
        register(&registry, "user.rpc", "1").await;
        let mut operator = Operator::of(&server).await;
        let value = format!("{revision} 00ff00ff00ff00ff 42 600000 3 {{}}");
        operator.run_words::<()>(&["HSET", STATE, "user.rpc\u{1f}9", &value]).await;
        operator.run::<usize>("HDEL {registry/00}:state meta").await;
        operator.run::<usize>("DEL {registry/00}:log").await;
        register(&registry, "user.rpc", "2").await;
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        register(&registry, "user.rpc", "3").await;
        assert_eq!(next_change(&mut watch).await, "+3", "{revision}");
        assert_eq!(ids(&registry, "user.rpc").await, ["1", "2", "3"], "{revision}");
    }
}

/// Regression: the log was rebuilt from 10,000 entries, whatever the cap: more than the cap, or too few.
#[tokio::test]
async fn cleaned_log_keeps_as_many_entries_as_its_cap() {
    let server = server(&[]).await;
    let options = RedisOptions::default().with_shards(1).with_log_cap(3);
    let registry = connect(server.url(), options).await.unwrap();
    for n in 0..20 {
        register(&registry, "user.rpc", &n.to_string()).await;
    }
    let mut operator = Operator::of(&server).await;
    operator.run::<redis::Value>("XADD {registry/00}:log 999-0 x y").await;
    let end = load(&registry, "user.rpc").await.cursor().clone();
    register(&registry, "user.rpc", "20").await;
    assert_eq!(operator.run::<usize>("XLEN {registry/00}:log").await, 4, "three and the change");
    assert_eq!(next_change(&mut watch(&registry, "user.rpc", &end).await).await, "+20");
}

/// Regression: a stray record kept the deadline that it stated, so it stayed listed forever.
#[tokio::test]
async fn stray_record_with_a_huge_ttl_expires_within_the_longest_ttl_after_a_repair() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let mut operator = Operator::of(&server).await;
    register(&registry, "other", "1").await;
    // The server was down for a minute, which costs leases no time.
    operator.edit_meta(|[_, _, _, _, _, lag, ..]| *lag = "60000".into()).await;
    operator.run_words::<()>(&["ZREM", "{registry/00}:exp", "other\u{1f}1"]).await;
    register(&registry, "user.rpc", "1").await;
    let value = "1 00ff00ff00ff00ff 42 99999999999999999 1 {\"address\":\"10.0.0.9:80\"}";
    operator.run_words::<()>(&["HSET", STATE, "user.rpc\u{1f}8", value]).await;
    operator.run_words::<()>(&["HSET", STATE, "user.rpc\u{1f}9", value]).await;
    operator.run_words::<()>(&["ZADD", "{registry/00}:exp", "1e300", "user.rpc\u{1f}9"]).await;
    operator.run::<usize>("HDEL {registry/00}:state meta").await;
    assert_eq!(ids(&registry, "user.rpc").await, ["1", "8", "9"]);
    operator
        .edit_meta(|[_, _, _, _, _, lag, ..]| assert!(lag.parse::<u64>().unwrap() >= 60_000))
        .await;
    let deadline = async |operator: &mut Operator, id: &str| -> f64 {
        operator.run_words(&["ZSCORE", "{registry/00}:exp", &format!("user.rpc\u{1f}{id}")]).await
    };
    // The lease clock is not ahead of the server's.
    let now: (f64, f64) = operator.run("TIME").await;
    for id in ["8", "9"] {
        let remaining = deadline(&mut operator, id).await - now.0 * 1000.0;
        assert!(remaining < 86_401_000.0, "{id} expires in {remaining} ms");
    }
}

/// Regression: members with different scores are out of order, so a load, which reads a range of them, read none.
#[tokio::test]
async fn member_with_another_score_hides_no_record() {
    for score in ["1", "-1"] {
        let server = server(&[]).await;
        let registry = one_shard(&server).await;
        for id in ["1", "2"] {
            register(&registry, "user.rpc", id).await;
        }
        let mut operator = Operator::of(&server).await;
        for stray in ["nan", "zzz", "user.rpc\u{1f}1"] {
            operator.run_words::<()>(&["ZADD", "{registry/00}:idx", score, stray]).await;
            assert_eq!(ids(&registry, "user.rpc").await, ["1", "2"], "{stray} {score}");
            operator.run_words::<()>(&["ZADD", "{registry/00}:idx", score, stray]).await;
            let listed = within(registry.services(&CallOptions::DEFAULT)).await.unwrap();
            assert_eq!(listed, ["user.rpc".parse().unwrap()].into(), "{stray} {score}");
        }
    }
}

/// Regression: a member with an empty service name ended every list of services, since no name sorts before it.
#[tokio::test]
async fn member_without_a_name_hides_no_service() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    register(&registry, "user.rpc", "1").await;
    let mut operator = Operator::of(&server).await;
    for stray in ["", "\u{1f}", "\u{1f}1"] {
        operator.run_words::<()>(&["ZADD", "{registry/00}:idx", "0", stray]).await;
        let listed = within(registry.services(&CallOptions::DEFAULT)).await.unwrap();
        assert_eq!(listed, ["user.rpc".parse().unwrap()].into(), "{stray:?}");
    }
}

/// Regression: a value larger than any record made the reply of every load too large.
#[tokio::test]
async fn huge_stray_value_is_one_undecodable_record() {
    let server = server(&[]).await;
    let patient = RedisOptions::default().with_request_deadline(Duration::from_secs(15));
    let registry = connect(server.url(), patient.with_shards(1)).await.unwrap();
    register(&registry, "user.rpc", "1").await;
    register(&registry, "user.rpc", "2").await;
    let mut operator = Operator::of(&server).await;
    let junk = "x".repeat(150 << 20);
    operator.run_words::<()>(&["HSET", STATE, "user.rpc\u{1f}2", &junk]).await;
    let loaded = load(&registry, "user.rpc").await;
    assert_eq!((loaded.records().len(), loaded.undecodable()), (1, 1));
}

/// Regression: deleting a record that was not counted made the count negative, and the shard damaged.
#[tokio::test]
async fn stray_record_is_taken_over_and_deleted_and_damages_nothing() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    register(&registry, "other", "1").await;
    let nine = instance("user.rpc", "9");
    let mut operator = Operator::of(&server).await;
    operator.run_words::<()>(&["HSET", STATE, "user.rpc\u{1f}9", "junk"]).await;
    operator.run_words::<()>(&["HSET", STATE, "12", "user.rpc\u{1f}9"]).await;
    assert_eq!(holder_of(&registry, &nine).await, Holder::new(None, None));
    let stray = claim().with_lease(registry_core::LeaseId::new(12).unwrap());
    let lease = within(take_over(&registry, &nine, &stray)).await.unwrap();
    within(registry.deregister(&lease, &CallOptions::DEFAULT)).await.unwrap();
    operator.run_words::<()>(&["ZADD", "{registry/00}:exp", "1", "user.rpc\u{1f}8"]).await;
    operator.edit_meta(|[.., due, _, _]| *due = "0".into()).await;
    assert!(ids(&registry, "user.rpc").await.is_empty());
    assert_eq!(ids(&registry, "other").await, ["1"]);
    let listed = within(registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(listed, ["other".parse().unwrap()].into());
}

/// The lease of an overwritten record is still mapped to it, but may be used for another instance.
#[tokio::test]
async fn lease_of_an_overwritten_record_can_be_used_again() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let claim = claim();
    let one = instance("user.rpc", "1");
    within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();
    let mut operator = Operator::of(&server).await;
    operator.run_words::<()>(&["HSET", STATE, "user.rpc\u{1f}1", "junk"]).await;
    let two = instance("user.rpc", "2");
    let lease = within(registry.register(&two, &claim, &CallOptions::DEFAULT)).await.unwrap();
    within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(ids(&registry, "user.rpc").await, ["2"]);
}

/// Regression: a registration that failed midway had written some of its keys, and the next load deleted the shard.
#[tokio::test]
async fn key_of_another_type_makes_a_registration_invalid_and_changes_nothing() {
    for key in ["idx", "exp"] {
        let server = server(&[]).await;
        let registry = one_shard(&server).await;
        let mut operator = Operator::of(&server).await;
        let lease = {
            let one = instance("user.rpc", "1");
            within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await.unwrap()
        };
        let cursor = load(&registry, "user.rpc").await.cursor().clone();
        let key = format!("{{registry/00}}:{key}");
        operator.run::<()>(&format!("RENAME {key} kept")).await;
        operator.run::<()>(&format!("SET {key} x")).await;
        let (two, claim) = (instance("user.rpc", "2"), claim());
        let refused = within(registry.register(&two, &claim, &CallOptions::DEFAULT)).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{key}");
        operator.run::<()>(&format!("RENAME kept {key}")).await;

        within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
        assert_eq!(ids(&registry, "user.rpc").await, ["1"], "{key}");
        assert_eq!(load(&registry, "user.rpc").await.cursor(), &cursor);
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        within(registry.register(&two, &claim, &CallOptions::DEFAULT)).await.unwrap();
        assert_eq!(next_change(&mut watch).await, "+2", "{key}");
        assert_eq!(ids(&registry, "user.rpc").await, ["1", "2"], "{key}");
    }
}

#[tokio::test]
async fn shards_of_other_formats_are_not_read() {
    let server = server(&[]).await;
    let mut operator = Operator::of(&server).await;
    operator.run::<()>("HSET {registry}:layout format 2 shards 16").await;
    let refused = connect(server.url(), RedisOptions::default()).await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("format=`2`"), "{error}");
}
