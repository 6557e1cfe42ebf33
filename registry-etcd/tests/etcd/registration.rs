//! The transaction of a registration, and its lease.

use crate::support::{Fixture, claim, instance, within};
use etcd_client::LeaseGrantOptions;
use futures_util::future;
use registry_core::{Claim, ErrorKind, LeaseId, Takeover};
use registry_testkit::case::retry;
use std::time::Duration;

#[tokio::test]
async fn repeated_registration_creates_no_revision() {
    let etcd = Fixture::start().await;
    let (one, claim) = (instance("user", "1"), claim(10));
    let first = etcd.register(&one, &claim).await.unwrap();
    let before = etcd.revision().await;
    let second = etcd.register(&one, &claim).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(etcd.revision().await, before);

    let stored = etcd.stored("registry/user/1").await.unwrap();
    assert_eq!(stored.mod_revision().cast_unsigned(), first.revision().get());
    assert_eq!((stored.lease(), stored.version()), (claim.lease().get(), 1));
}

#[tokio::test]
async fn repeated_takeover_creates_no_revision() {
    let etcd = Fixture::start().await;
    let (one, claim) = (instance("user", "1"), claim(10));
    etcd.register(&one, &self::claim(10)).await.unwrap();
    let holder = etcd.holder(&one, &claim).await;
    let claim = claim.with_takeover(Takeover::From(holder));
    let first = etcd.register(&one, &claim).await.unwrap();
    let second = etcd.register(&one, &claim).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(etcd.stored("registry/user/1").await.unwrap().version(), 2);
}

#[tokio::test]
async fn changed_record_is_updated_in_place() {
    let etcd = Fixture::start().await;
    let (one, claim) = (instance("user", "1"), claim(10));
    let first = etcd.register(&one, &claim).await.unwrap();
    let heavy = one.with_weight(900);
    let second = etcd.register(&heavy, &claim).await.unwrap();
    assert!(second.revision() > first.revision());
    assert_eq!(second.instance(), &heavy);
    assert_eq!(etcd.stored("registry/user/1").await.unwrap().version(), 2);
    assert_eq!(etcd.leases().await, [claim.lease().get()]);
}

#[tokio::test]
async fn reply_lost_after_the_grant_leaves_one_record_and_one_lease() {
    let etcd = Fixture::start().await;
    let claim = claim(10);
    let id = LeaseGrantOptions::new().with_id(claim.lease().get());
    within(etcd.raw.lease_client().grant(10, Some(id))).await.unwrap();

    let lease = etcd.register(&instance("user", "1"), &claim).await.unwrap();
    etcd.keep_alive(&lease).await.unwrap();
    assert_eq!(etcd.load("user").await.instances().len(), 1);
    assert_eq!(etcd.leases().await, [claim.lease().get()]);
}

#[tokio::test]
async fn claim_with_a_revoked_lease_registers_again() {
    let etcd = Fixture::start().await;
    let (one, claim) = (instance("user", "1"), claim(10));
    let first = etcd.register(&one, &claim).await.unwrap();
    within(etcd.raw.lease_client().revoke(claim.lease().get())).await.unwrap();
    let second = etcd.register(&one, &claim).await.unwrap();
    assert!(second.revision() > first.revision());
    assert_eq!(etcd.load("user").await.instances().len(), 1);
}

#[tokio::test]
async fn lease_belongs_to_one_instance_with_one_ttl() {
    let etcd = Fixture::start().await;
    let own_claim = claim(10);
    etcd.register(&instance("user", "1"), &own_claim).await.unwrap();
    let before = etcd.revision().await;
    for (id, ttl) in [("2", 10), ("1", 11), ("1", 9), ("1", 1)] {
        let other = claim(ttl).with_lease(own_claim.lease());
        let outcome = etcd.register(&instance("user", id), &other).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid, "id {id}, ttl {ttl}");
    }
    assert_eq!(etcd.revision().await, before);
    assert_eq!(
        etcd.leases().await,
        [own_claim.lease().get()],
        "the probes of the minimum ttl leave no lease"
    );
}

#[tokio::test]
async fn ttl_is_rounded_up_to_seconds_and_to_the_minimum_of_etcd() {
    let etcd = Fixture::start().await;
    for (n, asked, granted) in [(1, 100, 2), (2, 1_001, 2), (3, 2_000, 2), (4, 2_001, 3)] {
        let one = instance("user", &n.to_string());
        let claim = Claim::new(Duration::from_millis(asked)).unwrap();
        let lease = etcd.register(&one, &claim).await.unwrap();
        assert_eq!(lease.ttl(), Duration::from_secs(granted), "{asked} ms");
        let again = etcd.register(&one, &claim).await.unwrap();
        assert_eq!(lease, again, "{asked} ms");
        let longer = Claim::new(Duration::from_secs(5)).unwrap().with_lease(claim.lease());
        let outcome = etcd.register(&one, &longer).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid, "{asked} ms");
    }
    assert_eq!(etcd.leases().await.len(), 4, "the probes of the minimum ttl leave no lease");
}

#[tokio::test]
async fn superseded_claim_changes_nothing_but_its_lease() {
    let etcd = Fixture::start().await;
    let one = instance("user", "1");
    let own_claim = claim(10);
    let lease = etcd.register(&one, &own_claim).await.unwrap();
    let before = etcd.revision().await;
    let refused = claim(10);
    for _ in 0..2 {
        let late = one.clone().with_weight(7);
        let outcome = etcd.register(&late, &refused).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Superseded);
    }
    assert_eq!(etcd.revision().await, before);
    etcd.keep_alive(&lease).await.unwrap();
}

/// Regression: the lease of a superseded claim was revoked. When the revocation arrived late, it deleted the record of
/// the same claim, which had been repeated with a takeover and acknowledged.
#[tokio::test]
async fn superseded_claim_does_not_revoke_its_lease() {
    let etcd = Fixture::start().await;
    let one = instance("user", "1");
    etcd.register(&one, &claim(10)).await.unwrap();
    let late = claim(10);
    let holder = etcd.holder(&one, &late).await;
    assert!(etcd.leases().await.contains(&late.lease().get()));
    let lease = etcd.register(&one, &late.with_takeover(Takeover::From(holder))).await.unwrap();
    etcd.keep_alive(&lease).await.unwrap();
}

/// A claim that is refused repeatedly renews its empty lease. Once abandoned, the lease expires.
#[tokio::test]
async fn empty_lease_of_a_superseded_claim_expires() {
    let etcd = Fixture::start().await;
    let one = instance("user", "1");
    let own_claim = claim(60);
    etcd.register(&one, &own_claim).await.unwrap();
    etcd.holder(&one, &claim(2)).await;
    assert_eq!(etcd.leases().await.len(), 2);
    within(async {
        while etcd.leases().await != [own_claim.lease().get()] {
            // The lease has no keys, so no watch reports its expiry.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn largest_record_is_registered_and_found() {
    let etcd = Fixture::start().await;
    let one = instance("user", "1").with_metadata([("k", "v".repeat(63 * 1024 - 8))]);
    let claim = claim(10).with_lease(LeaseId::new(i64::MAX).unwrap());
    etcd.register(&one, &claim).await.unwrap();
    etcd.register(&one.clone().with_weight(1), &claim).await.unwrap();
    assert_eq!(
        etcd.load("user").await.records().find("1").map(registry_core::Record::instance),
        Some(&one.with_weight(1))
    );
}

#[tokio::test]
async fn registration_cancelled_at_any_point_can_be_repeated() {
    let etcd = Fixture::start().await;
    for turns in 0..100 {
        let (one, claim) = (instance("user", &turns.to_string()), claim(60));
        let giving_up = async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = etcd.register(&one, &claim) => {}
            () = giving_up => {}
        }
        let lease = etcd.register(&one, &claim).await.unwrap();
        etcd.keep_alive(&lease).await.unwrap();
        let stored = etcd.stored(&format!("registry/user/{turns}")).await.unwrap();
        assert_eq!(stored.version(), 1, "cancelled after {turns} polls");
    }
    assert_eq!(etcd.leases().await.len(), 100);
}

/// An expired lease exists for up to half a second more, until etcd revokes it.
#[tokio::test]
async fn registration_repeated_at_the_moment_of_expiry_succeeds() {
    let etcd = Fixture::start().await;
    let repeat = async |n: u64| {
        let (one, claim) = (instance("user", &n.to_string()), claim(2));
        etcd.register(&one, &claim).await.unwrap();
        // Before, at and after the expiry.
        tokio::time::sleep(Duration::from_millis(1_800 + 70 * n)).await;
        // `Unavailable` means that etcd is revoking the lease. The contract allows it, and the caller repeats.
        retry(|| etcd.register(&one, &claim)).await;
    };
    future::join_all((0..12).map(repeat)).await;
    assert_eq!(etcd.load("user").await.instances().len(), 12);
}
