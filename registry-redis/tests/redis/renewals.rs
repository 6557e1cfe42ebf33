//! Batched renewals.

use crate::support::{Operator, claim, instance, one_shard, server, within};
use futures_util::FutureExt;
use futures_util::future::join_all;
use registry_core::{CallOptions, ErrorKind, Registry};
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

/// Returns the number of script calls that the server has run.
async fn script_calls(operator: &mut Operator) -> u64 {
    let info: String = operator.run("INFO commandstats").await;
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn thousand_concurrent_renewals_take_a_few_calls_and_each_gets_its_own_outcome() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let mut leases = Vec::new();
    for n in 0..1000 {
        let one = instance("user.rpc", &n.to_string());
        leases
            .push(within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await.unwrap());
    }
    for lease in leases.iter().step_by(10) {
        within(registry.deregister(lease, &CallOptions::DEFAULT)).await.unwrap();
    }
    let mut operator = Operator::of(&server).await;
    let before = script_calls(&mut operator).await;
    let outcomes = within(join_all(
        leases.iter().map(|lease| registry.keep_alive(lease, &CallOptions::DEFAULT)),
    ))
    .await;
    let calls = script_calls(&mut operator).await - before;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let is_lost = outcome.is_err_and(|error| error.kind() == ErrorKind::LeaseLost);
        assert_eq!(is_lost, n % 10 == 0, "{n}");
    }
    assert!((8..=10).contains(&calls), "{calls} calls");
}

#[tokio::test]
async fn cancelled_renewal_does_not_affect_the_others_in_its_batch() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let lease =
        within(registry.register(&instance("user.rpc", "1"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    for given_up in 0..3 {
        let mut renewals: Vec<_> =
            (0..3).map(|_| registry.keep_alive(&lease, &CallOptions::DEFAULT)).collect();
        for renewal in &mut renewals {
            assert!(renewal.now_or_never().is_none(), "the server has not replied yet");
        }
        drop(renewals.remove(given_up));
        for outcome in within(join_all(renewals)).await {
            outcome.unwrap();
        }
    }
    within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
}

/// Regression: a call in flight on a runtime that was dropped passed the next batch to that runtime, which never ran
/// it. The shard then counted as busy forever, and every later renewal failed.
#[test]
fn renewals_continue_after_the_runtime_of_a_call_is_dropped() {
    let (dropped, surviving) = (runtime(), runtime());
    let (server, registry, leases) = surviving.block_on(async {
        let server = server(&[]).await;
        let registry = Arc::new(one_shard(&server).await);
        let mut leases = Vec::new();
        // More than three batches.
        for n in 0..400 {
            let one = instance("user.rpc", &n.to_string());
            let lease = within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await;
            leases.push(lease.unwrap());
        }
        (server, registry, leases)
    });
    let in_progress = {
        let (registry, lease) = (registry.clone(), leases[0].clone());
        async move { registry.keep_alive(&lease, &CallOptions::DEFAULT).await }
    };
    dropped.spawn(in_progress);
    let mut pending: Vec<_> =
        leases.iter().map(|lease| registry.keep_alive(lease, &CallOptions::DEFAULT)).collect();
    dropped.block_on(async {
        yield_now().await;
        for renewal in &mut pending {
            assert!(renewal.now_or_never().is_none(), "it waits for the call in flight");
        }
    });
    drop(dropped);
    surviving.block_on(async {
        within(registry.keep_alive(&leases[0], &CallOptions::DEFAULT)).await.unwrap();
        for outcome in within(join_all(pending)).await {
            outcome.unwrap();
        }
        drop(server);
    });
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}
