//! Cursors and the log: trimming, wipes, and foreign entries.

use crate::support::{
    Operator, STATE, claim, failure, ids, instance, load, next, next_change, one_shard, register,
    registry, server, watch, watch_failure, watch_from_now, within,
};
use registry_core::{CallOptions, Change, Deleted, ErrorKind, Registry};

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
    let kept = load(&registry, "user.rpc").await.cursor().clone();
    let mut open = watch_from_now(&registry, "user.rpc").await;
    let mut operator = Operator::of(&server).await;
    operator.run::<()>("FLUSHALL").await;
    assert_eq!(watch_failure(&registry, "user.rpc", &kept).await, ErrorKind::Diverged);
    assert_eq!(failure(&mut open).await, ErrorKind::Diverged);
    // Repeating the steps makes another history.
    assert!(ids(&registry, "user.rpc").await.is_empty());
    register(&registry, "user.rpc", "1").await;
    assert_eq!(watch_failure(&registry, "user.rpc", &kept).await, ErrorKind::Diverged);
    register(&registry, "user.rpc", "2").await;
    assert_eq!(watch_failure(&registry, "user.rpc", &kept).await, ErrorKind::Diverged);
}

#[tokio::test]
async fn wipe_of_one_shard_is_noticed_while_other_shards_are_busy() {
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
async fn foreign_log_entry_ends_the_watches_of_its_shard() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    register(&registry, "user.rpc", "1").await;
    let mut touched = watch_from_now(&registry, "user.rpc").await;
    let mut apart = watch_from_now(&registry, "a").await;
    let mut operator = Operator::of(&server).await;
    operator.run::<()>("XADD {registry/15}:log 2-0 t D m x v x p 0000000000000000 d 00").await;
    assert_eq!(failure(&mut touched).await, ErrorKind::Diverged);
    register(&registry, "a", "1").await;
    assert_eq!(next_change(&mut apart).await, "+1", "other shards are not affected");
}

#[tokio::test]
async fn undecodable_put_is_a_delete_for_a_watch() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    register(&registry, "user.rpc", "1").await;
    let mut watch = watch_from_now(&registry, "user.rpc").await;
    let proof = watch.cursor().to_string();
    let digest = proof.rsplit(':').next().unwrap();
    // A later version of this library may write such a record.
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

#[tokio::test]
async fn shard_that_lost_its_state_begins_a_new_history() {
    for command in ["HDEL {registry/00}:state meta", "DEL {registry/00}:state"] {
        let server = server(&[]).await;
        let registry = one_shard(&server).await;
        register(&registry, "user.rpc", "1").await;
        let old = load(&registry, "user.rpc").await.cursor().clone();
        let two = instance("user.rpc", "2");
        let lease = within(registry.register(&two, &claim(), &CallOptions::DEFAULT)).await.unwrap();
        Operator::of(&server).await.run::<()>(command).await;
        let renewed = within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await;
        assert_eq!(renewed.unwrap_err().kind(), ErrorKind::LeaseLost);
        let listed = within(registry.services(&CallOptions::DEFAULT)).await.unwrap();
        assert!(listed.is_empty());
        assert_eq!(watch_failure(&registry, "user.rpc", &old).await, ErrorKind::Diverged);
        register(&registry, "user.rpc", "3").await;
        assert_eq!(ids(&registry, "user.rpc").await, ["3"]);
    }
}

/// The owners of a shard that lost a key were told that all is well, by their renewals and by repeated registrations,
/// until a load deleted their records. A watch on an own record reported a lost lease, which no renewal confirmed.
#[tokio::test]
async fn owners_notice_at_their_next_call_that_the_shard_lost_a_key() {
    for key in ["idx", "exp"] {
        let server = server(&[]).await;
        let registry = one_shard(&server).await;
        let (one, claim) = (instance("user.rpc", "1"), claim());
        let options = CallOptions::DEFAULT;
        let lease = within(registry.register(&one, &claim, &options)).await.unwrap();
        let cursor = load(&registry, "user.rpc").await.cursor().clone();
        let mut operator = Operator::of(&server).await;
        let deleted: usize = operator.run(&format!("DEL {{registry/00}}:{key}")).await;
        assert_eq!(deleted, 1, "{key}");

        let error = within(registry.watch_record(&lease, &options)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Diverged, "{key}");
        let error = within(registry.keep_alive(&lease, &options)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LeaseLost, "{key}");
        let again = within(registry.register(&one, &claim, &options)).await.unwrap();
        assert_ne!(again, lease, "{key}");
        within(registry.keep_alive(&again, &options)).await.unwrap();
        within(registry.watch_record(&again, &options)).await.unwrap();
        assert_eq!(ids(&registry, "user.rpc").await, ["1"], "{key}");
        assert_eq!(
            watch_failure(&registry, "user.rpc", &cursor).await,
            ErrorKind::Diverged,
            "{key}"
        );
    }
}

/// Owners put their records again when their renewal fails.
#[tokio::test]
async fn shard_that_lost_a_key_is_diverged_and_begins_a_new_history() {
    for key in ["idx", "exp"] {
        let server = server(&[]).await;
        let registry = one_shard(&server).await;
        let one = instance("user.rpc", "1");
        let lease = within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await.unwrap();
        register(&registry, "order.rpc", "1").await;
        let cursor = load(&registry, "user.rpc").await.cursor().clone();
        let mut operator = Operator::of(&server).await;
        let deleted: usize = operator.run(&format!("DEL {{registry/00}}:{key}")).await;
        assert_eq!(deleted, 1, "{key}");
        assert_eq!(
            watch_failure(&registry, "user.rpc", &cursor).await,
            ErrorKind::Diverged,
            "{key}"
        );
        assert_eq!(ids(&registry, "user.rpc").await, Vec::<String>::new(), "{key}");
        let error = within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LeaseLost, "{key}");
        within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await.unwrap();
        assert_eq!(ids(&registry, "user.rpc").await, ["1"], "{key}");
    }
}

#[tokio::test]
async fn shard_that_lost_a_key_begins_a_new_history_with_the_next_registration() {
    for key in ["idx", "exp"] {
        let server = server(&[]).await;
        let registry = one_shard(&server).await;
        register(&registry, "user.rpc", "1").await;
        register(&registry, "order.rpc", "1").await;
        let cursor = load(&registry, "user.rpc").await.cursor().clone();
        Operator::of(&server).await.run::<()>(&format!("DEL {{registry/00}}:{key}")).await;
        register(&registry, "user.rpc", "2").await;
        assert_eq!(
            watch_failure(&registry, "user.rpc", &cursor).await,
            ErrorKind::Diverged,
            "{key}"
        );
        assert_eq!(ids(&registry, "user.rpc").await, ["2"], "{key}");
    }
}

#[tokio::test]
async fn shard_that_lost_a_key_begins_a_new_history_when_its_services_are_listed() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    register(&registry, "user.rpc", "1").await;
    register(&registry, "user.rpc", "2").await;
    let cursor = load(&registry, "user.rpc").await.cursor().clone();
    Operator::of(&server).await.run::<()>("DEL {registry/00}:idx").await;
    let listed = within(registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert!(listed.is_empty(), "the list is not incomplete");
    assert_eq!(watch_failure(&registry, "user.rpc", &cursor).await, ErrorKind::Diverged);
    register(&registry, "user.rpc", "1").await;
    let listed = within(registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(listed, ["user.rpc".parse().unwrap()].into());
}

#[tokio::test]
async fn shard_with_overwritten_meta_is_invalid_and_is_not_changed() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    register(&registry, "user.rpc", "1").await;
    let mut operator = Operator::of(&server).await;
    let later_format = "2 1 00000000000000aa 00000000000000aa 1 0 0 1 x";
    for meta in ["7", "a b", later_format] {
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
