//! The layout of Kratos' etcd registry.

use crate::support::{Fixture, claim, deleted, instance, next, put};
use registry_core::InstanceStatus;

const KRATOS: &str = "?layout=kratos";
/// A record as Kratos writes it.
const PLAIN: &str = r#"{"id":"u-1","name":"user","version":"v1.0.0","metadata":null,"endpoints":["grpc://10.0.0.1:8080"]}"#;

#[tokio::test]
async fn server_is_published_to_kratos_until_it_drains() {
    let etcd = Fixture::start_as(KRATOS).await;
    let one = instance("user", "u-1").with_label("version", "v1.0.0");
    let claim = claim(10);
    etcd.register(&one, &claim).await.unwrap();
    let (key, side) = ("/microservices/user/u-1", "/microservices/user.~meta/u-1");
    let stored = etcd.stored(key).await.unwrap();
    assert_eq!((stored.value_str().unwrap(), stored.lease()), (PLAIN, claim.lease().get()));

    let mut watch = etcd.watch("user").await;
    let draining = one.with_status(InstanceStatus::Draining);
    let lease = etcd.register(&draining, &claim).await.unwrap();
    assert!(etcd.stored(key).await.is_none(), "Kratos knows no status");
    assert_eq!(etcd.stored(side).await.unwrap().mod_revision(), etcd.revision().await);
    assert_eq!(next(&mut watch).await.changes, [put(&draining)]);
    assert_eq!(etcd.load("user").await.instances().collect::<Vec<_>>(), [&draining]);
    etcd.deregister(&lease).await.unwrap();
    assert_eq!(etcd.range("/", "0").await, []);
}

#[tokio::test]
async fn watch_sees_what_kratos_registers_and_deletes() {
    let etcd = Fixture::start_as(KRATOS).await;
    let mut watch = etcd.watch("user").await;
    etcd.put("/microservices/user/u-1", PLAIN).await;
    let one = instance("user", "u-1").with_label("version", "v1.0.0").with_port("grpc", 8080);
    assert_eq!(next(&mut watch).await.changes, [put(&one)]);
    // Kratos does not escape names, so keys of other services lie below this one.
    etcd.put("/microservices/user/a/1", PLAIN.replace("\"user\"", "\"user/a\"")).await;
    etcd.put("/microservices/user/u/1", PLAIN.replace("u-1", "u/1")).await;
    let found = etcd.load("user").await;
    assert_eq!(found.instances().collect::<Vec<_>>(), [&one]);
    assert_eq!(found.undecodable(), 1, "the id with a slash");
    etcd.delete("/microservices/user/u-1").await;
    assert_eq!(next(&mut watch).await.changes, [deleted("u-1")]);
}
