//! Withdrawals: the record is marked as withdrawn, then its lease is revoked.

use crate::support::{Fixture, claim, instance, next, put, withdrawn};

const LAYOUTS: [&str; 3] = ["", "?layout=go-zero", "?layout=grpc"];

#[tokio::test]
async fn withdrawal_is_reported_once_from_every_cursor() {
    for query in LAYOUTS {
        let etcd = Fixture::start_as(query).await;
        let (one, two) = (instance("user", "1"), instance("user", "2"));
        let before = etcd.load("user").await;
        let lease = etcd.register(&one, &claim(10)).await.unwrap();
        let registered = etcd.load("user").await;
        etcd.deregister(&lease).await.unwrap();
        etcd.register(&two, &claim(10)).await.unwrap();
        let last = etcd.revision().await.unsigned_abs();

        let mut live = etcd.watch_after("user", before.cursor()).await.unwrap();
        assert_eq!(next(&mut live).await.changes, [put(&one)], "{query}");
        assert_eq!(next(&mut live).await.changes, [withdrawn("1")], "{query}");
        // Between the two steps: a watch that resumes here knows that the deletion was reported.
        let between = live.cursor().to_string().parse().unwrap();
        let mut from_there = etcd.watch_after("user", &between).await.unwrap();
        let mut from_load = etcd.watch_after("user", registered.cursor()).await.unwrap();
        assert_eq!(next(&mut from_load).await.changes, [withdrawn("1")], "{query}");
        for watch in [&mut live, &mut from_there, &mut from_load] {
            // The deletion itself is only progress, which an unread change replaces.
            let mut seen = next(watch).await;
            if seen.changes.is_empty() {
                seen = next(watch).await;
            }
            assert_eq!(seen.changes, [put(&two)], "{query}");
            assert_eq!(watch.cursor().revision().get(), last);
            etcd.watch_after("user", watch.cursor()).await.expect("its proof holds");
        }
    }
}

#[tokio::test]
async fn successor_survives_both_steps_of_a_withdrawal() {
    for query in LAYOUTS {
        let etcd = Fixture::start_as(query).await;
        let one = instance("user", "1");
        let old = etcd.register(&one, &claim(10)).await.unwrap();
        let new = etcd.take_over(&one.clone().with_weight(7), &claim(10)).await.unwrap();
        let before = etcd.load("user").await;
        etcd.deregister(&old).await.unwrap();
        let after = etcd.load("user").await;
        assert_eq!(after.records(), before.records(), "{query}");
        assert_eq!(etcd.leases().await, [new.id().get()], "{query}");
        etcd.keep_alive(&new).await.unwrap();
    }
}

#[tokio::test]
async fn withdrawn_claim_may_be_repeated_between_the_two_steps() {
    let etcd = Fixture::start().await;
    let (one, claim) = (instance("user", "1"), claim(10));
    etcd.register(&one, &claim).await.unwrap();
    let value = r#"{"v":1,"address":"10.0.0.1:8080","status":"withdrawn"}"#;
    etcd.put_under(claim.lease().get(), "registry/user/1", value).await;
    assert!(etcd.load("user").await.records().is_empty());
    let again = etcd.register(&one, &claim).await.unwrap();
    etcd.keep_alive(&again).await.unwrap();
    assert_eq!(etcd.load("user").await.instances().collect::<Vec<_>>(), [&one]);
}
