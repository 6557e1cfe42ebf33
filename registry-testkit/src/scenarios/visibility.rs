//! An acknowledged write is visible to the next read.

use crate::case::{Case, deleted, instance, next, pass, put, service, version};
use futures_util::future::join_all;
use registry_core::{CallOptions, Claim, ErrorKind, InstanceStatus, MAX_METADATA_LEN};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::slice::from_ref;

pub(super) async fn a_registered_instance_is_seen_by_the_next_load(case: Case<'_>) {
    let user = service("user.rpc");
    for n in 0..20 {
        let one = version(&user, "one", n);
        let lease = case.register(&one).await;
        assert_eq!(lease.instance(), &one);
        assert_eq!(case.instances(&user).await, from_ref(&one));
        case.deregister(&lease).await;
        assert!(case.load(&user).await.records().is_empty());
    }
}

pub(super) async fn an_update_replaces_the_record_in_place(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = crate::case::long();
    let one = instance(&user, "1");
    let first = case.claim(&one, &claim).await.unwrap();
    let (_, mut watch) = case.follow(&user).await;
    let drains = one.clone().with_status(InstanceStatus::Draining).with_weight(1);
    let second = case.claim(&drains, &claim).await.unwrap();
    assert_eq!(put(next(&mut watch).await), drains.clone());
    assert_eq!(case.instances(&user).await, from_ref(&drains));
    assert!(second.revision() > first.revision());
    case.keep_alive(&second).await.unwrap();
    case.deregister(&second).await;
    assert_eq!(deleted(next(&mut watch).await), one.id().clone());
}

pub(super) async fn an_instance_that_fails_its_check_is_refused_and_changes_nothing(
    case: Case<'_>,
) {
    let user = service("user.rpc");
    let claim = crate::case::long();
    let one = instance(&user, "1");
    let lease = case.claim(&one, &claim).await.unwrap();
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 80)).into();
    for bad in [
        one.clone().with_address(unspecified),
        one.clone().with_port("admin", 0),
        one.clone().with_label("", "x"),
        one.clone().with_metadata([("", "x")]),
        one.clone().with_metadata([("k", "v".repeat(MAX_METADATA_LEN))]),
    ] {
        let error = case.claim(&bad, &claim).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    case.keep_alive(&lease).await.unwrap();
    assert_eq!(case.instances(&user).await, from_ref(&one));
}

pub(super) async fn a_withdrawn_instance_is_deleted_once(case: Case<'_>) {
    let user = service("user.rpc");
    let lease = case.register(&instance(&user, "1")).await;
    let (_, mut watch) = case.follow(&user).await;
    case.deregister(&lease).await;
    case.deregister(&lease).await; // withdrawing twice is no error
    assert!(case.load(&user).await.records().is_empty());
    case.register(&instance(&user, "2")).await;
    assert_eq!(deleted(next(&mut watch).await), lease.instance().id().clone());
    assert_eq!(put(next(&mut watch).await), instance(&user, "2"));
}

pub(super) async fn a_renewed_instance_outlives_its_ttl(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    let lease = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    assert_eq!(lease.ttl(), case.traits.ttl, "`Traits::ttl` is not granted as requested");
    let (_, mut watch) = case.follow(&user).await;
    for _ in 0..8 {
        pass(lease.ttl() / 4).await;
        case.keep_alive(&lease).await.unwrap();
        assert_eq!(case.ids(&user).await, ["1"]);
    }
    case.register(&instance(&user, "2")).await;
    assert_eq!(
        put(next(&mut watch).await),
        instance(&user, "2"),
        "the renewed instance was changed"
    );
}

pub(super) async fn services_lists_the_names_with_live_instances(case: Case<'_>) {
    let names = ["user", "user2", "user/a", "prod/order.rpc"].map(service);
    let list = || async {
        crate::case::within(case.registry.services(&CallOptions::DEFAULT)).await.unwrap()
    };
    assert_eq!(list().await, BTreeSet::new());
    let mut leases = Vec::new();
    for name in &names {
        leases.push(case.register(&instance(name, "1")).await);
    }
    let second = case.register(&instance(&names[0], "2")).await;
    assert_eq!(list().await, BTreeSet::from(names.clone()));
    case.deregister(&leases[0]).await;
    case.deregister(&leases[1]).await;
    assert_eq!(list().await, [0, 2, 3].map(|n| names[n].clone()).into());
    case.deregister(&second).await;
    assert_eq!(list().await, [2, 3].map(|n| names[n].clone()).into());
}

pub(super) async fn services_lists_more_than_one_page(case: Case<'_>) {
    const MANY: usize = 1_100; // stores read pages of up to 1,000
    let names: Vec<_> = (0..MANY).map(|n| service(&format!("service-{n}"))).collect();
    for names in names.chunks(50) {
        let instances: Vec<_> = names.iter().map(|name| instance(name, "1")).collect();
        join_all(instances.iter().map(|instance| case.register(instance))).await;
    }
    let listed = crate::case::within(case.registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(listed, names.into_iter().collect());
}
