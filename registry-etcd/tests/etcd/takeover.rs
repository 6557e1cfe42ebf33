//! Takeovers: one transaction that compares and writes, and changes nothing else of the displaced holder.

use crate::support::{
    Fixture, claim, connect, connect_as, encoded, instance, next, put, withdrawn, within,
};
use etcd_client::{LeaseGrantOptions, PutOptions, TxnOp};
use registry_core::diagnosis::Level;
use registry_core::{
    CallOptions, Diagnose, ErrorKind, Holder, Instance, LeaseId, Registry, Revision, Takeover,
};

const KEY: &str = "registry/user/1";

fn text(instance: &Instance) -> String {
    String::from_utf8(encoded(instance)).unwrap()
}

/// An agent may register several processes under its own single lease.
#[tokio::test]
async fn takeover_does_not_revoke_the_lease_of_the_displaced_holder() {
    let etcd = Fixture::start().await;
    let theirs = etcd.grant(60).await;
    let value = text(&instance("user", "1"));
    etcd.put_under(theirs, KEY, &value).await;
    etcd.put_under(theirs, "registry/order/b", &value).await;
    let ours = claim(10);
    etcd.take_over(&instance("user", "1"), &ours).await.unwrap();
    assert_eq!(etcd.stored(KEY).await.unwrap().lease(), ours.lease().get());
    assert_eq!(etcd.stored("registry/order/b").await.unwrap().lease(), theirs);
    etcd.revoke(theirs).await;
    assert_eq!(etcd.load("user").await.instances().len(), 1, "it holds no instance");
}

#[tokio::test]
async fn displaced_lease_only_loses_its_key() {
    let etcd = Fixture::start().await;
    let one = instance("user", "1");
    let (old, new) = (claim(10), claim(10));
    let first = etcd.register(&one, &old).await.unwrap();
    let moved = one.with_address("10.0.0.2:8080".parse().unwrap());
    let second = etcd.take_over(&moved, &new).await.unwrap();
    assert!(etcd.leases().await.contains(&old.lease().get()));
    // A registry that does not know the lease checks it at once.
    let other = connect(&etcd.server).await;
    let outcome = within(other.keep_alive(&first, &CallOptions::DEFAULT)).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::LeaseLost);
    etcd.deregister(&first).await.unwrap();
    etcd.keep_alive(&second).await.unwrap();
    assert_eq!(etcd.leases().await, [new.lease().get()]);
    assert_eq!(etcd.load("user").await.instances().collect::<Vec<_>>(), [&moved]);
}

#[tokio::test]
async fn key_without_a_lease_holds_its_id_until_a_claim_names_it() {
    let etcd = Fixture::start().await;
    let one = instance("user", "1");
    for value in [text(&one), "by hand".to_owned()] {
        let revision = etcd.put(KEY, value).await.cast_unsigned();
        let holder = etcd.holder(&one, &claim(10)).await;
        assert_eq!(holder, Holder::new(None, Some(Revision::new(revision))));
        // The key was put again in between, which makes it another holder.
        let again = etcd.put(KEY, "by hand").await.cast_unsigned();
        let stale = claim(10).with_takeover(Takeover::From(holder));
        let present = etcd.holder(&one, &stale).await;
        assert_eq!(present, Holder::new(None, Some(Revision::new(again))));
        let ours = claim(10).with_takeover(Takeover::From(present));
        let lease = etcd.register(&one, &ours).await.unwrap();
        assert_eq!(etcd.load("user").await.instances().collect::<Vec<_>>(), [&one]);
        etcd.deregister(&lease).await.unwrap();
    }
}

#[tokio::test]
async fn undecodable_record_holds_its_id_until_a_claim_names_it() {
    let etcd = Fixture::start().await;
    let one = instance("user", "1");
    let theirs = etcd.grant(60).await;
    etcd.put_under(theirs, KEY, "no record").await;
    let holder = etcd.holder(&one, &claim(10)).await;
    assert_eq!(holder.lease(), LeaseId::new(theirs).ok());
    etcd.register(&one, &claim(10).with_takeover(Takeover::From(holder))).await.unwrap();
    assert_eq!(etcd.load("user").await.instances().collect::<Vec<_>>(), [&one]);
}

/// etcd grants negative lease ids to clients that request them.
#[tokio::test]
async fn key_under_a_negative_lease_is_listed_watched_and_taken_over() {
    let one = instance("user", "1");
    let side = r#"{"v":1,"address":"10.0.0.1:8080","weight":7,"status":"up","metadata":{}}"#;
    let layouts = [
        ("", vec![(KEY, text(&one))], one.clone()),
        ("?layout=go-zero", vec![("user/1", "10.0.0.1:8080".to_owned())], one.clone()),
        (
            "?layout=go-zero",
            vec![("user/1", "10.0.0.1:8080".to_owned()), ("user.~meta/1", side.to_owned())],
            one.clone().with_weight(7),
        ),
        ("?layout=grpc", vec![("user/1", r#"{"Op":0,"Addr":"10.0.0.1:8080"}"#.to_owned())], one),
    ];
    for (query, keys, expected) in layouts {
        for lease in [-11, i64::MIN] {
            let etcd = Fixture::start_as(query).await;
            let negative = LeaseGrantOptions::new().with_id(lease);
            within(etcd.raw.lease_client().grant(60, Some(negative))).await.unwrap();
            let mut watch = etcd.watch("user").await;
            let under = Some(PutOptions::new().with_lease(lease));
            let puts = keys.iter().map(|(key, value)| TxnOp::put(*key, &**value, under.clone()));
            etcd.change(puts.collect::<Vec<_>>()).await;
            let seen = next(&mut watch).await;
            assert_eq!(seen.changes, [put(&expected)], "{query}");
            let found = etcd.load("user").await;
            assert_eq!(found.records()[0].lease(), None);
            for cursor in [&seen.cursor, found.cursor()] {
                let read = cursor.to_string().parse().unwrap();
                etcd.watch_after("user", &read).await.expect("the cursor is valid");
            }
            let diagnosed = within(etcd.registry.diagnose()).await;
            let wrong: Vec<_> = diagnosed.iter().filter(|one| one.level == Level::Error).collect();
            assert!(wrong.is_empty(), "{wrong:?}");
            let ours = claim(10);
            let lease = etcd.take_over(&expected, &ours).await.unwrap();
            assert_eq!(etcd.stored(keys[0].0).await.unwrap().lease(), ours.lease().get());
            etcd.keep_alive(&lease).await.unwrap();
            assert_eq!(next(&mut watch).await.changes, [put(&expected)], "{query}");
            let other = connect_as(&etcd.server, query).await;
            within(other.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn claim_that_names_an_earlier_holder_writes_nothing() {
    let etcd = Fixture::start().await;
    let one = instance("user", "1");
    etcd.register(&one, &claim(10)).await.unwrap();
    let first = etcd.holder(&one, &claim(10)).await;
    let winner = claim(10);
    etcd.register(&one, &winner.with_takeover(Takeover::From(first))).await.unwrap();
    let before = etcd.revision().await;
    let late = claim(10).with_takeover(Takeover::From(first));
    assert_eq!(etcd.holder(&one, &late).await.lease(), Some(winner.lease()));
    assert_eq!(etcd.revision().await, before);
}

#[tokio::test]
async fn any_claim_takes_the_id_of_a_withdrawn_record_and_survives_its_revocation() {
    for (query, key) in
        [("", KEY), ("?layout=go-zero", "user.~meta/1"), ("?layout=grpc", "user.~meta/1")]
    {
        let etcd = Fixture::start_as(query).await;
        let one = instance("user", "1");
        let theirs = etcd.grant(60).await;
        // The state after the first step of a withdrawal.
        let value = r#"{"v":1,"address":"10.0.0.1:8080","status":"withdrawn"}"#;
        etcd.put_under(theirs, key, value).await;
        let found = etcd.load("user").await;
        assert_eq!((found.instances().len(), found.undecodable()), (0, 0), "{query}");
        let mut watch = etcd.watch_after("user", found.cursor()).await.unwrap();
        assert_eq!(etcd.read_holder(&one).await, None, "{query}");
        let lease = etcd.register(&one, &claim(10)).await.unwrap();
        assert_eq!(next(&mut watch).await.changes, [put(&one)], "{query}");
        etcd.revoke(theirs).await;
        etcd.keep_alive(&lease).await.unwrap();
        assert_eq!(etcd.load("user").await.instances().collect::<Vec<_>>(), [&one], "{query}");
        etcd.deregister(&lease).await.unwrap();
        assert_eq!(next(&mut watch).await.changes, [withdrawn("1")], "{query}");
    }
}
