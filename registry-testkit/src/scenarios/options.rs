//! Options of a single call.

use crate::case::{
    Case, deletion, id, instance, long, next, park, pass, put, service, until, version, within,
};
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, TryFutureExt};
use registry_core::{
    CallOptions, Claim, Consistency, Cursor, ErrorKind, Instance, Lease, Presence, Result,
};
use std::time::Duration;

pub(super) async fn no_call_outlasts_the_timeout_of_its_caller(case: Case<'_>) {
    let (lease, claim, cursor) = registered(&case).await;
    case.subject.fall_silent().await;
    let timeout = case.traits.ttl / 8;
    let options = CallOptions::default().with_timeout(timeout);
    let update = version(lease.instance().service(), "1", 2);
    let deadline = case.lag.deadline(timeout * 4);
    let calls = every_call(&case, &lease, &update, &claim, &cursor, &options);
    join_all(calls.into_iter().map(|(name, call)| {
        let deadline = &deadline;
        async move {
            let answer = deadline.timeout(call).await;
            let answer = answer.unwrap_or_else(|_| panic!("{name} ignores the caller's timeout"));
            let error = answer.expect_err("the source is silent");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{name}: {error}");
        }
    }))
    .await;
}

pub(super) async fn a_short_timeout_does_not_disturb_other_calls(case: Case<'_>) {
    let (lease, claim, cursor) = registered(&case).await;
    let user = lease.instance().service().clone();
    let kept = case.register(&instance(&user, "kept")).await;
    let (_, mut watch) = case.follow(&user).await;
    park(&mut watch);
    let options = CallOptions::default().with_timeout(Duration::from_nanos(1));
    for n in 2..5 {
        let update = version(&user, "1", n);
        for (name, call) in every_call(&case, &lease, &update, &claim, &cursor, &options) {
            // A store may answer before the timeout.
            let kind = within(call).await.err().map(|error| error.kind());
            let allowed = [None, Some(ErrorKind::Unavailable), Some(ErrorKind::LeaseLost)];
            assert!(allowed.contains(&kind), "{name}: {kind:?}");
        }
        // Calls without a timeout still succeed without a retry.
        case.keep_alive(&kept).await.unwrap();
        case.load(&user).await;
    }
    case.register(&instance(&user, "last")).await;
    until(&mut watch, &id("last")).await;
}

pub(super) async fn the_timeout_of_a_watch_limits_only_its_opening(case: Case<'_>) {
    let user = service("user.rpc");
    let snapshot = case.load(&user).await;
    let timeout = case.traits.tolerated_lag();
    let options = CallOptions::default().with_timeout(timeout);
    let mut watch = within(case.registry.watch(&user, snapshot.cursor(), &options)).await.unwrap();
    pass(timeout + timeout / 4).await;
    case.register(&instance(&user, "1")).await;
    assert_eq!(put(next(&mut watch).await), instance(&user, "1"));
}

pub(super) async fn the_timeout_of_an_own_record_watch_limits_only_its_opening(case: Case<'_>) {
    let lease = case.register(&instance(&service("user.rpc"), "1")).await;
    let timeout = case.traits.tolerated_lag();
    let options = CallOptions::default().with_timeout(timeout);
    let mut own = within(case.registry.watch_record(&lease, &options)).await.unwrap();
    pass(timeout + timeout / 4).await;
    case.subject.revoke(&lease).await;
    assert_eq!(deletion(next(&mut own).await).id(), lease.instance().id());
}

pub(super) async fn a_proven_renewal_renews_but_does_not_revive_an_expired_lease(case: Case<'_>) {
    let user = service("user.rpc");
    let claim = Claim::new(case.traits.ttl).unwrap();
    let lease = case.claim(&instance(&user, "1"), &claim).await.unwrap();
    let proven = CallOptions::default().with_presence(Presence::Proven);
    let (_, mut watch) = case.follow(&user).await;
    for _ in 0..6 {
        pass(lease.ttl() / 4).await;
        let granted = within(case.registry.keep_alive(&lease, &proven)).await.unwrap();
        assert_eq!(granted, lease.ttl());
    }
    assert_eq!(case.ids(&user).await, ["1"]);
    park(&mut watch);
    pass(lease.ttl() + case.traits.grace).await;
    let error = within(case.registry.keep_alive(&lease, &proven)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
    assert!(case.load(&user).await.records().is_empty());
}

pub(super) async fn a_stale_load_is_a_complete_earlier_state(case: Case<'_>) {
    let user = service("user.rpc");
    for n in 0..3 {
        case.register(&instance(&user, &n.to_string())).await;
    }
    let stale = CallOptions::default().with_consistency(Consistency::Stale);
    let mut view = within(case.registry.load(&user, &stale)).await.unwrap();
    case.register(&instance(&user, "last")).await;
    let mut watch = case.watch(&user, &view).await;
    for batch in until(&mut watch, &id("last")).await {
        view.apply(&batch).unwrap();
    }
    assert_eq!(view.records(), case.load(&user).await.records());
}

/// Registers an instance with a long ttl. Returns its lease, its claim, and a cursor of its service.
async fn registered(case: &Case<'_>) -> (Lease, Claim, Cursor) {
    let user = service("user.rpc");
    let claim = long();
    let lease = case.claim(&version(&user, "1", 1), &claim).await.unwrap();
    (lease, claim, case.load(&user).await.cursor().clone())
}

/// Returns one call of each method, with its name.
fn every_call<'a>(
    case: &'a Case<'_>,
    lease: &'a Lease,
    update: &'a Instance,
    claim: &'a Claim,
    cursor: &'a Cursor,
    options: &'a CallOptions,
) -> Vec<(&'static str, BoxFuture<'a, Result<()>>)> {
    let (registry, service) = (&case.registry, update.service());
    let mut calls: Vec<(&'static str, BoxFuture<'a, Result<()>>)> = vec![
        ("register", registry.register(update, claim, options).map_ok(drop).boxed()),
        ("holder", registry.holder(update, options).map_ok(drop).boxed()),
        ("keep_alive", registry.keep_alive(lease, options).map_ok(drop).boxed()),
        ("deregister", registry.deregister(lease, options).boxed()),
        ("load", registry.load(service, options).map_ok(drop).boxed()),
        ("watch", registry.watch(service, cursor, options).map_ok(drop).boxed()),
        ("services", registry.services(options).map_ok(drop).boxed()),
    ];
    if case.traits.watches_records {
        let call = registry.watch_record(lease, options).map_ok(drop).boxed();
        calls.push(("watch_record", call));
    }
    calls
}
