//! The effects of single calls on a shard.

use crate::support::{
    Operator, STATE, claim, claim_for, connect, holder_of, ids, instance, load, next_change,
    one_shard, register, registry, server, service, watch_from_now, within,
};
use registry_core::{
    CallOptions, ErrorKind, Holder, InstanceId, LeaseId, Registry, Revision, Takeover,
};
use registry_redis::RedisOptions;
use registry_testkit::case::take_over;
use std::collections::BTreeSet;
use std::time::Duration;

#[tokio::test]
async fn repeated_registration_creates_no_revision() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let (instance, claim) = (instance("user.rpc", "1"), claim());
    let first = within(registry.register(&instance, &claim, &CallOptions::DEFAULT)).await.unwrap();
    let repeated =
        within(registry.register(&instance, &claim, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(first, repeated);
    assert_eq!(load(&registry, "user.rpc").await.cursor().revision(), first.revision());
    within(registry.keep_alive(&first, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(Operator::of(&server).await.run::<u64>("XLEN {registry/00}:log").await, 1);
}

#[tokio::test]
async fn lease_decides_between_repeat_update_and_takeover() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let (one, claim) = (instance("user.rpc", "1"), claim());
    let old = within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();

    let heavier = one.clone().with_weight(200);
    let updated = within(registry.register(&heavier, &claim, &CallOptions::DEFAULT)).await.unwrap();
    assert!(updated.revision() > old.revision());
    let error = within(registry.keep_alive(&old, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "the older value of a lease counts as lost");
    within(registry.keep_alive(&updated, &CallOptions::DEFAULT)).await.unwrap();

    let contender = crate::support::claim();
    let error =
        within(registry.register(&one, &contender, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Superseded);
    let taken = within(take_over(&registry, &one, &contender)).await.unwrap();
    let error = within(registry.keep_alive(&updated, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    within(registry.deregister(&updated, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(ids(&registry, "user.rpc").await, ["1"], "the record of a successor stays");
    within(registry.keep_alive(&taken, &CallOptions::DEFAULT)).await.unwrap();
    within(registry.deregister(&taken, &CallOptions::DEFAULT)).await.unwrap();
    within(registry.deregister(&taken, &CallOptions::DEFAULT)).await.unwrap();
    assert!(ids(&registry, "user.rpc").await.is_empty());
}

#[tokio::test]
async fn superseded_claim_leaves_nothing_behind_and_its_lease_id_is_free() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    register(&registry, "user.rpc", "1").await;
    let before = load(&registry, "user.rpc").await;
    let claim = claim_for(Duration::from_secs(60));
    let one = instance("user.rpc", "1");
    let refused = within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Superseded);
    assert_eq!(load(&registry, "user.rpc").await, before);
    let other = claim_for(Duration::from_secs(61)).with_lease(claim.lease());
    let two = instance("user.rpc", "2");
    within(registry.register(&two, &other, &CallOptions::DEFAULT)).await.unwrap();
}

#[tokio::test]
async fn lease_with_another_instance_or_ttl_is_invalid_and_changes_nothing() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let claim = claim_for(Duration::from_secs(60));
    let lease =
        within(registry.register(&instance("user.rpc", "1"), &claim, &CallOptions::DEFAULT))
            .await
            .unwrap();
    register(&registry, "user.rpc", "2").await;
    let holder = holder_of(&registry, &instance("user.rpc", "2")).await;
    let before = load(&registry, "user.rpc").await;

    let other_ttl = claim_for(Duration::from_secs(61)).with_lease(claim.lease());
    let other_record = instance("user.rpc", "1").with_weight(1);
    for (instance, claim) in [
        (other_record, other_ttl),
        (instance("user.rpc", "3"), claim),
        (instance("user.rpc", "2"), claim.with_takeover(Takeover::From(holder))),
    ] {
        let error =
            within(registry.register(&instance, &claim, &CallOptions::DEFAULT)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{instance:?} {claim:?}");
    }
    assert_eq!(load(&registry, "user.rpc").await, before);
    within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
}

#[tokio::test]
async fn lease_ids_of_63_bits_are_distinct() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    let [last, one_less] = [i64::MAX, i64::MAX - 1].map(|id| LeaseId::new(id).unwrap());
    let one = instance("user.rpc", "1");
    within(registry.register(&one, &claim().with_lease(last), &CallOptions::DEFAULT))
        .await
        .unwrap();
    let error =
        within(registry.register(&one, &claim().with_lease(one_less), &CallOptions::DEFAULT))
            .await
            .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Superseded);
}

#[tokio::test]
async fn granted_ttl_is_never_shorter_than_requested() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    let claim = claim_for(Duration::from_micros(100_001));
    let lease =
        within(registry.register(&instance("user.rpc", "1"), &claim, &CallOptions::DEFAULT))
            .await
            .unwrap();
    assert_eq!(lease.ttl(), Duration::from_millis(101));
}

#[tokio::test]
async fn flushed_scripts_are_loaded_again() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    let mut operator = Operator::of(&server).await;
    let mut watch = watch_from_now(&registry, "user.rpc").await;
    for n in 0..3 {
        let claim = claim();
        let instance = instance("user.rpc", &n.to_string());
        operator.run::<()>("SCRIPT FLUSH").await;
        let lease =
            within(registry.register(&instance, &claim, &CallOptions::DEFAULT)).await.unwrap();
        operator.run::<()>("SCRIPT FLUSH").await;
        within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
        operator.run::<()>("SCRIPT FLUSH").await;
        assert_eq!(load(&registry, "user.rpc").await.instances().len(), n + 1);
        assert_eq!(next_change(&mut watch).await, format!("+{n}"));
    }
}

/// Regression: a call loaded its script once, and failed if the script was flushed again before it ran. So live leases
/// expired.
#[tokio::test]
async fn constant_script_flushes_fail_no_call() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    let mut operator = Operator::of(&server).await;
    let lease = {
        let one = instance("user.rpc", "1");
        within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await.unwrap()
    };
    let flush = async {
        loop {
            operator.run::<()>("SCRIPT FLUSH").await;
        }
    };
    let renew = async {
        for _ in 0..500 {
            within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
        }
    };
    tokio::select! {
        () = renew => {}
        () = flush => {}
    }
    let errors: String = operator.run("INFO errorstats").await;
    let unknown = errors.lines().find_map(|line| line.strip_prefix("errorstat_NOSCRIPT:count="));
    let unknown: u64 = unknown.expect("a script was flushed before it ran").trim().parse().unwrap();
    assert!(unknown > 50, "too few scripts were flushed: {unknown}");
}

#[tokio::test]
async fn services_with_similar_names_see_only_their_own_instances() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let names = ["user", "user2", "user/a", "user a", "us", "user\u{e9}", "User"];
    for name in names {
        register(&registry, name, "1").await;
        register(&registry, name, name.strip_prefix("user/").unwrap_or("2")).await;
    }
    for name in names {
        let snapshot = load(&registry, name).await;
        assert_eq!(snapshot.instances().len(), 2, "{name}");
        assert!(snapshot.instances().all(|instance| *instance.service() == service(name)));
    }
}

#[tokio::test]
async fn services_lists_exactly_those_with_an_instance() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    assert!(within(registry.services(&CallOptions::DEFAULT)).await.unwrap().is_empty());
    let names: BTreeSet<_> = (0..40).map(|n| service(&format!("service-{n}"))).collect();
    let mut leases = Vec::new();
    for name in &names {
        for id in ["1", "2"] {
            let instance = instance(name.as_str(), id);
            leases.push(
                within(registry.register(&instance, &claim(), &CallOptions::DEFAULT))
                    .await
                    .unwrap(),
            );
        }
    }
    assert_eq!(within(registry.services(&CallOptions::DEFAULT)).await.unwrap(), names);
    let first = leases[0].instance().service().clone();
    within(registry.deregister(&leases[0], &CallOptions::DEFAULT)).await.unwrap();
    assert!(within(registry.services(&CallOptions::DEFAULT)).await.unwrap().contains(&first));
    within(registry.deregister(&leases[1], &CallOptions::DEFAULT)).await.unwrap();
    assert!(!within(registry.services(&CallOptions::DEFAULT)).await.unwrap().contains(&first));
}

#[tokio::test]
async fn prefixes_and_databases_are_isolated() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    register(&registry, "user.rpc", "1").await;
    let cursor = load(&registry, "user.rpc").await.cursor().clone();
    for url in [format!("{}/1", server.url()), format!("{}?prefix=registry2", server.url())] {
        let other = connect(&url, RedisOptions::default()).await.unwrap();
        assert!(ids(&other, "user.rpc").await.is_empty());
        let watch_failure = crate::support::watch_failure(&other, "user.rpc", &cursor).await;
        assert!(
            matches!(watch_failure, ErrorKind::Invalid | ErrorKind::Diverged),
            "{watch_failure:?}"
        );
    }
    let error = within(registry.watch(&service("other"), &cursor, &CallOptions::DEFAULT))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "a cursor is valid for its own service only");
}

#[tokio::test]
async fn undecodable_record_is_counted_and_skipped() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let mut operator = Operator::of(&server).await;
    for id in ["1", "2", "3"] {
        register(&registry, "user.rpc", id).await;
    }
    // A record without an address, and a damaged value.
    let no_address = r#"2 00000000000000aa 9 600000 2 {"v":9}"#;
    operator.run_words::<()>(&["HSET", STATE, "user.rpc\u{1f}2", no_address]).await;
    operator.run_words::<()>(&["HSET", STATE, "user.rpc\u{1f}3", "junk"]).await;
    let snapshot = load(&registry, "user.rpc").await;
    assert_eq!(snapshot.records().ids().map(InstanceId::as_str).collect::<Vec<_>>(), ["1"]);
    assert_eq!(snapshot.undecodable(), 2);
    // Both still hold their ids: one with its stored lease, the other with an unknown one.
    let holder = holder_of(&registry, &instance("user.rpc", "2")).await;
    let nine = LeaseId::new(9).unwrap();
    assert_eq!(holder, Holder::new(Some(nine), Some(Revision::new(2))));
    let holder = holder_of(&registry, &instance("user.rpc", "3")).await;
    assert_eq!(holder, Holder::new(None, None));
    for id in ["2", "3"] {
        within(take_over(&registry, &instance("user.rpc", id), &claim())).await.unwrap();
    }
    assert_eq!(ids(&registry, "user.rpc").await, ["1", "2", "3"]);
}

#[tokio::test]
async fn service_of_10_000_instances_is_loaded_at_one_revision() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let ids: Vec<_> = (0..10_000).map(|n| n.to_string()).collect();
    for chunk in ids.chunks(500) {
        let all = chunk.iter().map(|id| register(&registry, "user.rpc", id));
        futures_util::future::join_all(all).await;
    }
    let snapshot = load(&registry, "user.rpc").await;
    assert_eq!(snapshot.instances().len(), 10_000);
    assert_eq!(snapshot.cursor().revision(), Revision::new(10_000));
}

#[tokio::test]
async fn prefix_keeps_its_first_layout() {
    let server = server(&[]).await;
    registry(&server).await;
    let error = connect(server.url(), RedisOptions::default().with_shards(8)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("shards=`16`"), "{error}");
}

#[tokio::test]
async fn prefix_occupied_by_other_keys_is_invalid() {
    let server = server(&[]).await;
    let mut operator = Operator::of(&server).await;
    operator.run::<()>("SET {taken}:layout x").await;
    let url = format!("{}?prefix=taken", server.url());
    let error = connect(&url, RedisOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);

    operator.run::<()>("SET {registry/00}:exp x").await;
    let registry = one_shard(&server).await;
    let error = within(registry.load(&service("a"), &CallOptions::DEFAULT)).await;
    assert!(error.is_ok(), "a new shard deletes the remains of an old one: {error:?}");
    operator.run::<()>("DEL {registry/00}:idx").await;
    operator.run::<()>("SET {registry/00}:idx x").await;
    let error = within(registry.load(&service("a"), &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
