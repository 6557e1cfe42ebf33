//! The layout of Kitex' etcd registry.

use crate::support::{Fixture, claim, deleted, instance, next, put};

const KITEX: &str = "?layout=kitex";
const KEY: &str = "kitex/registry-etcd/user/10.0.0.1:8080";
/// A record as Kitex writes it.
const PLAIN: &str = r#"{"network":"tcp","address":"10.0.0.1:8080","weight":10,"tags":null}"#;

#[tokio::test]
async fn server_is_published_to_kitex_until_its_weight_is_0() {
    let etcd = Fixture::start_as(KITEX).await;
    let (one, claim) = (instance("user", "10.0.0.1:8080"), claim(10));
    etcd.register(&one, &claim).await.unwrap();
    let stored = etcd.stored(KEY).await.unwrap();
    assert_eq!((stored.value_str().unwrap(), stored.lease()), (PLAIN, claim.lease().get()));

    let mut watch = etcd.watch("user").await;
    let idle = one.with_weight(0);
    let lease = etcd.register(&idle, &claim).await.unwrap();
    assert!(etcd.stored(KEY).await.is_none(), "Kitex reads weight 0 as the default");
    let side = etcd.stored("kitex/registry-etcd/user.~meta/10.0.0.1:8080").await.unwrap();
    assert_eq!(side.mod_revision(), etcd.revision().await);
    assert_eq!(next(&mut watch).await.changes, [put(&idle)]);
    etcd.deregister(&lease).await.unwrap();
    assert_eq!(etcd.range("k", "l").await, []);
}

#[tokio::test]
async fn watch_sees_what_kitex_registers_and_deletes() {
    let etcd = Fixture::start_as(KITEX).await;
    let mut watch = etcd.watch("user").await;
    etcd.put(KEY, PLAIN).await;
    let one = instance("user", "10.0.0.1:8080");
    assert_eq!(next(&mut watch).await.changes, [put(&one)]);
    assert_eq!(etcd.load("user").await.instances().collect::<Vec<_>>(), [&one]);
    etcd.delete(KEY).await;
    assert_eq!(next(&mut watch).await.changes, [deleted("10.0.0.1:8080")]);
}
