//! Side keys of the go-zero layout: written, read and deleted together with their keys.

use crate::support::{
    Fixture, claim, connect_as, deleted, end_error, instance, name, next, put, withdrawn, within,
};
use etcd_client::{PutOptions, TxnOp};
use futures_util::StreamExt;
use registry_core::{
    CallOptions, Change, Claim, Cursor, ErrorKind, Instance, InstanceStatus, Lease, Registry,
    Takeover,
};

const GO_ZERO: &str = "?layout=go-zero";
const KEY: &str = "user/7";
const SIDE: &str = "user.~meta/7";
const PLAIN: &str = "10.0.0.1:8080";
const HEAVY: &str = r#"{"v":1,"address":"10.0.0.1:8080","weight":200,"status":"up","metadata":{}}"#;

async fn start() -> Fixture {
    Fixture::start_as(GO_ZERO).await
}

fn plain() -> Instance {
    instance("user", "7")
}

fn heavy() -> Instance {
    plain().with_weight(200)
}

/// Returns whether `lease` is lost, by a registry that does not know it and so checks it at once.
async fn is_lost(etcd: &Fixture, lease: &Lease) -> bool {
    let other = connect_as(&etcd.server, GO_ZERO).await;
    match within(other.keep_alive(lease, &CallOptions::DEFAULT)).await {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
            true
        }
    }
}

#[tokio::test]
async fn side_key_is_invisible_to_go_and_shares_transaction_and_lease_with_its_key() {
    let etcd = start().await;
    let full = heavy().with_zone("eu-1").with_metadata([("a", "b")]);
    let claim = claim(10);
    let lease = etcd.register(&full, &claim).await.unwrap();
    assert_eq!(etcd.range("user/", "user0").await, [(KEY.to_owned(), PLAIN.to_owned())]);
    let (key, side) = (etcd.stored(KEY).await.unwrap(), etcd.stored(SIDE).await.unwrap());
    let golden = format!(
        r#"{{"v":1,"address":"10.0.0.1:8080","zone":"eu-1","weight":200,"status":"up","lease":{},"ttl":10000,"metadata":{{"a":"b"}}}}"#,
        claim.lease()
    );
    assert_eq!(side.value_str().unwrap(), golden);
    assert_eq!((key.lease(), side.lease()), (claim.lease().get(), claim.lease().get()));
    assert_eq!(key.mod_revision(), side.mod_revision());
    assert_eq!(key.mod_revision().cast_unsigned(), lease.revision().get());
    let found = etcd.load("user").await;
    let record = found.records().find("7").unwrap();
    assert_eq!(record.instance(), &full);
    assert_eq!((record.lease(), record.revision()), (Some(lease.id()), Some(lease.revision())));
    assert_eq!(record.ttl(), Some(lease.ttl()));
    etcd.revoke(claim.lease().get()).await;
    assert_eq!(etcd.range("\0", "\0").await, []);
}

#[tokio::test]
async fn repeated_registration_creates_no_revision() {
    let etcd = start().await;
    let own_claim = claim(10);
    for one in [plain(), heavy(), plain().with_weight(0)] {
        let first = etcd.register(&one, &own_claim).await.unwrap();
        let before = etcd.revision().await;
        assert_eq!(etcd.register(&one, &own_claim).await.unwrap(), first);
        assert_eq!(etcd.revision().await, before);
    }
}

#[tokio::test]
async fn update_is_one_change() {
    let etcd = start().await;
    let claim = claim(10);
    let mut watch = etcd.watch("user").await;
    let other = heavy().with_metadata([("zone", "a")]);
    let draining = other.clone().with_status(InstanceStatus::Draining);
    for update in [plain(), heavy(), other, draining, plain().with_weight(0), plain()] {
        let before = etcd.revision().await;
        let lease = etcd.register(&update, &claim).await.unwrap();
        assert_eq!(lease.revision().get(), before.unsigned_abs() + 1);
        let seen = next(&mut watch).await;
        assert_eq!((seen.revision(), seen.changes), (lease.revision(), vec![put(&update)]));
        let found = etcd.load("user").await;
        assert_eq!(seen.batch.changes, [Change::Put(found.records()[0].clone())]);
        assert_eq!(found.instances().collect::<Vec<_>>(), [&update]);
        assert!(!is_lost(&etcd, &lease).await);
    }
    assert_eq!(etcd.leases().await, [claim.lease().get()]);
}

/// Go readers know no status, so they would keep calling a draining instance.
#[tokio::test]
async fn draining_instance_is_hidden_from_go_and_listed_as_draining() {
    for layout in [GO_ZERO, "?layout=grpc"] {
        let etcd = Fixture::start_as(layout).await;
        let (claim, mut watch) = (claim(10), etcd.watch("user").await);
        etcd.register(&plain(), &claim).await.unwrap();
        next(&mut watch).await;
        assert_eq!(etcd.range("user/", "user0").await.len(), 1);
        for hidden in [plain().with_status(InstanceStatus::Draining), plain().with_weight(0)] {
            let lease = etcd.register(&hidden, &claim).await.unwrap();
            assert_eq!(etcd.range("user/", "user0").await, []);
            assert_eq!(etcd.load("user").await.instances().collect::<Vec<_>>(), [&hidden]);
            assert_eq!(next(&mut watch).await.changes, [put(&hidden)]);
            assert_eq!(
                within(etcd.registry.services(&CallOptions::DEFAULT)).await.unwrap(),
                [name("user")].into()
            );
            etcd.keep_alive(&lease).await.unwrap();
            // It still holds its id.
            let refused = etcd.holder(&plain(), &self::claim(10)).await;
            assert_eq!(refused.lease(), Some(lease.id()));
        }
        let lease = etcd.register(&plain(), &claim).await.unwrap();
        assert_eq!(etcd.range("user/", "user0").await.len(), 1);
        assert_eq!(next(&mut watch).await.changes, [put(&plain())]);
        etcd.register(&plain().with_weight(0), &claim).await.unwrap();
        next(&mut watch).await;
        etcd.deregister(&lease).await.unwrap();
        assert_eq!(next(&mut watch).await.changes, [withdrawn("7")]);
        assert_eq!(etcd.range("\0", "\0").await, []);
    }
}

#[tokio::test]
async fn holder_is_the_same_whether_it_drains_or_not() {
    let etcd = start().await;
    let (own_claim, other) = (claim(10), claim(10));
    etcd.register(&plain(), &own_claim).await.unwrap();
    let told = etcd.holder(&plain(), &other).await;
    for update in [plain().with_weight(0), plain()] {
        etcd.register(&update, &own_claim).await.unwrap();
        assert_eq!(etcd.holder(&plain(), &other).await, told);
    }
    etcd.register(&plain().with_weight(0), &own_claim).await.unwrap();
    etcd.register(&plain(), &other.with_takeover(Takeover::From(told))).await.unwrap();
    assert_eq!(etcd.stored(KEY).await.unwrap().lease(), other.lease().get());
}

#[tokio::test]
async fn lost_or_foreign_side_key_is_detected_and_repaired() {
    let etcd = start().await;
    let claim = claim(10);
    let (ours, other) = (claim.lease().get(), etcd.grant(60).await);
    for under in [None, Some(0), Some(other), Some(ours)] {
        let lease = etcd.register(&heavy(), &claim).await.unwrap();
        assert!(!is_lost(&etcd, &lease).await);
        match under {
            None => etcd.delete(SIDE).await,
            // The same value under the same lease still differs from the acknowledged one, by its revision.
            Some(under) => etcd.put_under(under, SIDE, HEAVY).await,
        }
        assert!(is_lost(&etcd, &lease).await, "{under:?}");
        etcd.register(&heavy(), &claim).await.unwrap();
        assert_eq!(
            etcd.load("user").await.records().find("7").map(registry_core::Record::instance),
            Some(&heavy())
        );
        assert_eq!(etcd.stored(SIDE).await.unwrap().lease(), ours, "{under:?}");
    }
}

/// A repair writes both keys at once, so that one revision identifies the record again.
#[tokio::test]
async fn side_key_rewritten_with_the_same_value_is_repaired() {
    let etcd = start().await;
    let claim = claim(10);
    etcd.register(&heavy(), &claim).await.unwrap();
    let side = etcd.stored(SIDE).await.unwrap();
    etcd.put_under(claim.lease().get(), SIDE, side.value_str().unwrap()).await;
    let repaired = etcd.register(&heavy(), &claim).await.unwrap();
    assert!(!is_lost(&etcd, &repaired).await);
}

#[tokio::test]
async fn go_publisher_that_takes_over_drops_the_side_key() {
    let etcd = start().await;
    let lease = etcd.register(&heavy(), &claim(10)).await.unwrap();
    let mut watch = etcd.watch("user").await;
    let theirs = etcd.grant(10).await;
    etcd.put_under(theirs, KEY, PLAIN).await;
    assert_eq!(next(&mut watch).await.changes, [put(&plain())]);
    assert_eq!(etcd.load("user").await.instances().collect::<Vec<_>>(), [&plain()]);
    assert!(is_lost(&etcd, &lease).await);
    // The side key is deleted with our lease, which no watch reports.
    etcd.deregister(&lease).await.unwrap();
    assert!(etcd.stored(SIDE).await.is_none());
    etcd.revoke(theirs).await;
    assert_eq!(next(&mut watch).await.changes, [deleted("7")]);
}

#[tokio::test]
async fn takeover_replaces_key_and_side_key_in_one_revision() {
    let etcd = start().await;
    etcd.register(&plain(), &claim(10)).await.unwrap();
    for next_owner in [heavy().with_weight(0), plain(), heavy()] {
        let mut watch = etcd.watch("user").await;
        let claim = claim(10);
        let lease = etcd.take_over(&next_owner, &claim).await.unwrap();
        assert_eq!(next(&mut watch).await.changes, [put(&next_owner)]);
        assert!(!is_lost(&etcd, &lease).await);
        let now = etcd.load("user").await;
        assert_eq!(now.records().find("7").map(registry_core::Record::instance), Some(&next_owner));
        assert_eq!(watch.cursor().revision(), lease.revision());
    }
}

#[tokio::test]
async fn superseded_claim_changes_neither_key() {
    let etcd = start().await;
    let lease = etcd.register(&heavy(), &claim(10)).await.unwrap();
    let before = etcd.revision().await;
    for late in [plain(), heavy().with_weight(1)] {
        let outcome = etcd.register(&late, &claim(10)).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Superseded);
    }
    assert_eq!(etcd.revision().await, before);
    assert!(!is_lost(&etcd, &lease).await);
}

#[tokio::test]
async fn lease_with_other_keys_is_refused() {
    let etcd = start().await;
    let own_claim = claim(10);
    etcd.register(&heavy(), &own_claim).await.unwrap();
    for other in [instance("user", "8"), instance("user2", "7")] {
        let outcome = etcd.register(&other, &own_claim).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn every_cursor_of_a_watch_resumes_with_exactly_the_rest() {
    let etcd = start().await;
    let key = |id: &str| format!("user/{id}");
    let side = |id: &str| format!("user.~meta/{id}");
    let before = etcd.load("user").await;
    let mut live = etcd.watch_after("user", before.cursor()).await.unwrap();

    let claims: [Claim; 2] = [claim(60), claim(60)];
    let lease = etcd.register(&heavy(), &claims[0]).await.unwrap();
    etcd.register(&instance("user", "2").with_weight(0), &claims[1]).await.unwrap();
    etcd.put("user/nested/1", PLAIN).await;
    etcd.register(&instance("user", "2"), &claims[1]).await.unwrap();
    etcd.put_under(claims[1].lease().get(), &side("2"), HEAVY).await;
    let theirs = etcd.grant(60).await;
    etcd.put_under(theirs, KEY, "10.0.0.9:80").await;
    etcd.deregister(&lease).await.unwrap();
    let several = [
        TxnOp::put(key("3"), PLAIN, None),
        TxnOp::put(side("3"), HEAVY, None),
        TxnOp::delete(key("2"), None),
        TxnOp::put(side("4"), HEAVY, None),
    ];
    etcd.change(several).await;
    etcd.put(&key("4"), PLAIN).await;
    etcd.put(&side("4"), "?").await;
    etcd.put(&key("3"), "no address").await;
    etcd.delete(&side("3")).await;
    etcd.put(&key("3"), PLAIN).await;
    etcd.revoke(claims[1].lease().get()).await;
    etcd.revoke(theirs).await;
    etcd.delete("user/nested/1").await;
    let last = etcd.put(&key("5"), PLAIN).await.unsigned_abs();

    let mut batches = Vec::new();
    while live.cursor().revision().get() < last {
        batches.push(within(live.next()).await.unwrap().unwrap());
    }
    let after = etcd.load("user").await;
    let cursors = batches.iter().map(|batch| batch.cursor.clone());
    let cursors: Vec<Cursor> = [before.cursor().clone()].into_iter().chain(cursors).collect();
    for (n, cursor) in cursors.iter().enumerate() {
        let cursor = cursor.to_string().parse().unwrap();
        let mut watch = etcd.watch_after("user", &cursor).await.unwrap();
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

/// The keys at the cursor are read in pages, all at the cursor's revision.
#[tokio::test]
async fn watch_of_many_pages_starts_from_the_keys_at_its_cursor() {
    let etcd = start().await;
    let lease = etcd.grant(600).await;
    let under = || Some(PutOptions::new().with_lease(lease));
    let ids: Vec<usize> = (1..=1_500).collect();
    for some in ids.chunks(60) {
        let puts = some.iter().flat_map(|id| {
            let side = TxnOp::put(format!("user.~meta/{id}"), HEAVY, under());
            [TxnOp::put(format!("user/{id}"), PLAIN, under()), side]
        });
        etcd.change(puts.collect::<Vec<_>>()).await;
    }
    let then = etcd.load("user").await;
    assert_eq!(then.instances().len(), 1_500);
    // Now all keys are as before except one, whose name alone shows the difference.
    for id in [1_500, 1] {
        etcd.delete(&format!("user/{id}")).await;
        etcd.put_under(lease, &format!("user/{id}"), PLAIN).await;
    }
    etcd.delete("user.~meta/7").await;
    let mut watch = etcd.watch_after("user", then.cursor()).await.unwrap();
    for id in ["1500", "1"] {
        assert_eq!(next(&mut watch).await.changes, [deleted(id)]);
        let back = put(&instance("user", id).with_weight(200));
        assert_eq!(next(&mut watch).await.changes, [back]);
    }
    assert_eq!(next(&mut watch).await.changes, [put(&plain())]);
}

#[tokio::test]
async fn wiped_server_with_other_leases_has_diverged() {
    let mut etcd = start().await;
    etcd.register(&heavy(), &claim(10)).await.unwrap();
    let mut watch = etcd.watch("user").await;
    let loaded = etcd.load("user").await;
    etcd.watch_after("user", loaded.cursor()).await.unwrap();
    let process = etcd.server.process().unwrap();
    process.wipe().unwrap();
    within(process.restart()).await.unwrap();
    assert_eq!(end_error(&mut watch).await, ErrorKind::Unavailable);

    // As many keys, up to the same revision.
    etcd.register(&heavy(), &claim(10)).await.unwrap();
    let now = etcd.load("user").await;
    assert_eq!(now.cursor().revision(), loaded.cursor().revision());
    assert_eq!(etcd.watch_error("user", loaded.cursor()).await, ErrorKind::Diverged);
    assert_eq!(etcd.watch_error("user", watch.cursor()).await, ErrorKind::Diverged);
    assert_eq!(
        within(etcd.registry.services(&CallOptions::DEFAULT)).await.unwrap(),
        [name("user")].into()
    );
}
