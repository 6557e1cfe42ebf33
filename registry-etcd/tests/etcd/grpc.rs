//! The layout of etcd's gRPC resolver in Go.

use crate::support::{Fixture, claim, connect_as, deleted, instance, name, next, put, within};
use registry_core::{CallOptions, ErrorKind, Registry};

const GRPC: &str = "?layout=grpc";
const PLAIN: &str = r#"{"Op":0,"Addr":"10.0.0.1:8080","Metadata":null}"#;

#[tokio::test]
async fn register_writes_what_the_go_endpoint_manager_adds() {
    let etcd = Fixture::start_as(GRPC).await;
    let one = instance("user.rpc", "10.0.0.1:8080");
    let claim = claim(10);
    let lease = etcd.register(&one, &claim).await.unwrap();
    let key = "user.rpc/10.0.0.1:8080";
    assert!(
        etcd.stored("user.rpc.~meta/10.0.0.1:8080").await.is_some(),
        "outside the prefix that Go reads"
    );
    assert_eq!(etcd.range("user.rpc/", "user.rpc0").await, [(key.to_owned(), PLAIN.to_owned())]);
    assert_eq!(etcd.stored(key).await.unwrap().lease(), claim.lease().get());
    let before = etcd.revision().await;
    assert_eq!(etcd.register(&one, &claim).await.unwrap(), lease);
    assert_eq!(etcd.revision().await, before, "repeating creates no revision");

    let full = one.with_weight(7).with_metadata([("zone", "<eu>")]);
    let updated = etcd.register(&full, &claim).await.unwrap();
    let golden = r#"{"Op":0,"Addr":"10.0.0.1:8080","Metadata":{"zone":"\u003ceu\u003e"}}"#;
    assert_eq!(etcd.stored(key).await.unwrap().value_str().unwrap(), golden);
    assert_eq!(
        etcd.load("user.rpc")
            .await
            .records()
            .find("10.0.0.1:8080")
            .map(registry_core::Record::instance),
        Some(&full)
    );
    let other = connect_as(&etcd.server, GRPC).await;
    within(other.keep_alive(&updated, &CallOptions::DEFAULT)).await.unwrap();
    etcd.delete(key).await;
    let other = connect_as(&etcd.server, GRPC).await;
    let error = within(other.keep_alive(&updated, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    etcd.deregister(&updated).await.unwrap();
    assert!(etcd.leases().await.is_empty());
}

#[tokio::test]
async fn watch_sees_what_a_go_program_adds_updates_and_deletes() {
    let etcd = Fixture::start_as(GRPC).await;
    let mut watch = etcd.watch("user.rpc").await;
    let plain = instance("user.rpc", "a");
    etcd.put("user.rpc/a", PLAIN).await;
    assert_eq!(next(&mut watch).await.changes, [put(&plain)]);
    let strings = r#"{"Op":0,"Addr":"10.0.0.1:8080","Metadata":{"zone":"eu"}}"#;
    etcd.put("user.rpc/a", strings).await;
    let zoned = plain.with_metadata([("zone", "eu")]);
    assert_eq!(next(&mut watch).await.changes, [put(&zoned)]);

    etcd.put("user.rpc/x/1", PLAIN).await;
    etcd.put("user.rpc/bad", "10.0.0.1:8080").await;
    etcd.put("user.rpc2/a", PLAIN).await;
    let found = etcd.load("user.rpc").await;
    assert_eq!(found.instances().collect::<Vec<_>>(), [&zoned]);
    assert_eq!(found.undecodable(), 1);
    etcd.watch_after("user.rpc", found.cursor()).await.unwrap();

    etcd.put("user.rpc/a", PLAIN.replace(":0,", ":1,")).await;
    assert_eq!(next(&mut watch).await.changes, [deleted("a")]);
    let found = etcd.load("user.rpc").await;
    assert_eq!((found.instances().len(), found.undecodable()), (0, 1));
    let listed = within(etcd.registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(listed, ["user.rpc", "user.rpc/x", "user.rpc2"].map(name).into());
}

#[tokio::test]
async fn path_of_the_url_prefixes_keys_and_layouts_share_no_cursor() {
    let etcd = Fixture::start_as("/prod?layout=grpc").await;
    etcd.register(&instance("user", "a"), &claim(10)).await.unwrap();
    assert!(etcd.stored("prod/user/a").await.is_some());
    let now = etcd.load("user").await;
    for other in ["/prod", "/prod?layout=go-zero", GRPC] {
        let other = connect_as(&etcd.server, other).await;
        let error = within(other.watch(&name("user"), now.cursor(), &CallOptions::DEFAULT))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
