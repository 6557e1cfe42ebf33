//! Own-record watches, in each layout.

use crate::support::{Fixture, claim, deleted, instance, next, put, withdrawn, within};
use futures_util::{FutureExt, StreamExt};
use registry_core::{CallOptions, ErrorKind, InstanceStatus, Lease, Registry, Result, Watch};

const LAYOUTS: [(&str, &str); 3] =
    [("", "registry/user/1"), ("?layout=go-zero", "user/1"), ("?layout=grpc", "user/1")];

async fn watch_record(etcd: &Fixture, lease: &Lease) -> Result<Watch> {
    within(etcd.registry.watch_record(lease, &CallOptions::DEFAULT)).await
}

#[tokio::test]
async fn own_record_watch_reports_only_changes_by_others() {
    for (query, key) in LAYOUTS {
        let etcd = Fixture::start_as(query).await;
        let (one, held) = (instance("user", "1"), claim(10));
        let lease = etcd.register(&one, &held).await.unwrap();
        let mut watch = watch_record(&etcd, &lease).await.unwrap();
        etcd.keep_alive(&lease).await.unwrap();
        etcd.register(&one, &held).await.unwrap();
        etcd.register(&instance("user", "2"), &claim(10)).await.unwrap();
        etcd.delete(key).await;
        // The deletion is the first event: the owner's own changes were not reported.
        assert_eq!(next(&mut watch).await.changes, [deleted("1")], "{query}");

        let lease = etcd.register(&one, &held).await.unwrap();
        let mut watch = watch_record(&etcd, &lease).await.unwrap();
        let moved = one.clone().with_address("10.0.0.2:80".parse().unwrap());
        let successor = etcd.take_over(&moved, &claim(10)).await.unwrap();
        let seen = next(&mut watch).await;
        assert_eq!(seen.changes, [put(&moved)], "{query}");
        assert_eq!(seen.revision(), successor.revision());
        assert_eq!(watch_record(&etcd, &lease).await.unwrap_err().kind(), ErrorKind::LeaseLost);

        let mut watch = watch_record(&etcd, &successor).await.unwrap();
        etcd.revoke(successor.id().get()).await;
        assert_eq!(next(&mut watch).await.changes, [deleted("1")], "{query}");
        assert!(
            watch.next().now_or_never().is_none(),
            "{query}: keys deleted together are one event"
        );
    }
}

#[tokio::test]
async fn own_record_watch_reports_withdrawal_and_draining() {
    for (query, _) in LAYOUTS {
        let etcd = Fixture::start_as(query).await;
        let (one, held) = (instance("user", "1"), claim(10));
        let lease = etcd.register(&one, &held).await.unwrap();
        let mut watch = watch_record(&etcd, &lease).await.unwrap();
        let draining = one.with_status(InstanceStatus::Draining);
        let lease = etcd.register(&draining, &held).await.unwrap();
        assert_eq!(next(&mut watch).await.changes, [put(&draining)], "{query}");
        let mut watch = watch_record(&etcd, &lease).await.unwrap();
        etcd.deregister(&lease).await.unwrap();
        assert_eq!(next(&mut watch).await.changes, [withdrawn("1")], "{query}");
    }
}

/// A registration may live for weeks while history is kept for an hour.
#[tokio::test]
async fn own_record_watch_opens_although_the_history_since_its_put_is_compacted() {
    for (query, key) in LAYOUTS {
        let etcd = Fixture::start_as(query).await;
        let lease = etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
        etcd.put("elsewhere", "").await;
        let now = etcd.put("elsewhere", "").await;
        etcd.compact(now.unsigned_abs()).await;
        let mut watch = watch_record(&etcd, &lease).await.unwrap();
        etcd.delete(key).await;
        assert_eq!(next(&mut watch).await.changes, [deleted("1")], "{query}");
    }
}
