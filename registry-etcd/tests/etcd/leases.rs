//! Renewal, the presence check, expiry and withdrawal.

use crate::support::{Fixture, claim, connect, deleted, instance, next, put, withdrawn, within};
use etcd_client::PutOptions;
use registry_core::{CallOptions, Claim, ErrorKind, Registry};
use registry_testkit::lag::tolerating;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn presence_check_finds_a_deleted_key() {
    let etcd = Fixture::start().await;
    let lease = etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
    etcd.delete("registry/user/1").await;
    etcd.keep_alive(&lease)
        .await
        .expect("no presence check is due within a ttl of the registration");
    // Another registry does not know the lease, so it checks at once.
    let other = connect(&etcd.server).await;
    let error = within(other.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn presence_check_is_made_once_per_ttl() {
    let etcd = Fixture::start().await;
    let lease = etcd.register(&instance("user", "1"), &claim(2)).await.unwrap();
    let registered = Instant::now();
    etcd.delete("registry/user/1").await;
    let lost = within(async {
        loop {
            let sent_after = registered.elapsed();
            let Err(error) = etcd.keep_alive(&lease).await else {
                // On any machine, a renewal sent a ttl after the last check must check again.
                assert!(sent_after < lease.ttl(), "renewed blindly after {sent_after:?}");
                // Renews as a registration does, only more often. Time must pass until the check is due.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            return error;
        }
    });
    assert_eq!(lost.await.kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn presence_check_finds_an_overwritten_key() {
    let etcd = Fixture::start().await;
    let one = instance("user", "1");
    let lease = etcd.register(&one, &claim(10)).await.unwrap();
    let record = etcd.stored("registry/user/1").await.unwrap().value().to_vec();
    // The same record under the same lease still differs from the acknowledged one, by its revision.
    for under in [0, lease.id().get()] {
        let options = PutOptions::new().with_lease(under);
        let mut raw = etcd.raw.kv_client();
        within(raw.put("registry/user/1", record.clone(), Some(options))).await.unwrap();
        let other = connect(&etcd.server).await;
        let error = within(other.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LeaseLost, "under lease {under}");
    }
}

#[tokio::test]
async fn lease_of_an_earlier_registration_is_lost() {
    let etcd = Fixture::start().await;
    let (one, claim) = (instance("user", "1"), claim(10));
    let earlier = etcd.register(&one, &claim).await.unwrap();
    let later = etcd.register(&one.with_weight(1), &claim).await.unwrap();
    let other = connect(&etcd.server).await;
    within(other.keep_alive(&later, &CallOptions::DEFAULT)).await.unwrap();
    let other = connect(&etcd.server).await;
    let error = within(other.keep_alive(&earlier, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn revoked_lease_is_lost_and_deregisters_without_error() {
    let etcd = Fixture::start().await;
    let lease = etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
    within(etcd.raw.lease_client().revoke(lease.id().get())).await.unwrap();
    assert_eq!(etcd.keep_alive(&lease).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    etcd.deregister(&lease).await.unwrap();
}

#[tokio::test]
async fn deregister_removes_record_and_lease() {
    let etcd = Fixture::start().await;
    let one = instance("user", "1");
    let mut watch = etcd.watch("user").await;
    let lease = etcd.register(&one, &claim(10)).await.unwrap();
    for _ in 0..2 {
        etcd.deregister(&lease).await.unwrap();
    }
    assert!(etcd.load("user").await.records().is_empty());
    assert!(etcd.leases().await.is_empty());
    assert_eq!(next(&mut watch).await.changes, [put(&one)]);
    assert_eq!(next(&mut watch).await.changes, [withdrawn("1")]);
}

#[test]
fn unrenewed_instance_expires_within_ttl_plus_one_second() {
    tolerating(Duration::from_secs(1), async |lag| {
        let etcd = Fixture::start().await;
        let mut watch = etcd.watch("user").await;
        let claim = Claim::new(Duration::from_secs(2)).unwrap();
        let before = Instant::now();
        let lease = etcd.register(&instance("user", "1"), &claim).await.unwrap();
        let expiry = lag.deadline(lease.ttl() + Duration::from_secs(1));
        next(&mut watch).await;
        assert_eq!(next(&mut watch).await.changes, [deleted("1")]);
        assert!(before.elapsed() >= lease.ttl(), "{:?}", before.elapsed());
        expiry.assert_met();
        assert_eq!(etcd.keep_alive(&lease).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    });
}
