//! Renewals that go together.

use crate::support::{Operator, claim, instance, one_shard, server, within};
use futures_util::FutureExt;
use futures_util::future::join_all;
use registry_core::{ErrorKind, Registry};

/// How many scripts the server has run.
async fn scripts(operator: &mut Operator) -> u64 {
    let info: String = operator.run("INFO commandstats").await;
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_thousand_renewals_at_once_are_a_few_calls_and_each_hears_of_its_own() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let mut leases = Vec::new();
    for n in 0..1000 {
        let one = instance("user.rpc", &n.to_string());
        leases.push(within(registry.register(&one, &claim())).await.unwrap());
    }
    for lease in leases.iter().step_by(10) {
        within(registry.deregister(lease)).await.unwrap();
    }
    let mut operator = Operator::of(&server).await;
    let before = scripts(&mut operator).await;
    let outcomes = within(join_all(leases.iter().map(|lease| registry.keep_alive(lease)))).await;
    let calls = scripts(&mut operator).await - before;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let is_lost = outcome.is_err_and(|error| error.kind() == ErrorKind::LeaseLost);
        assert_eq!(is_lost, n % 10 == 0, "{n}");
    }
    assert!((8..=10).contains(&calls), "{calls} calls");
}

#[tokio::test]
async fn a_renewal_that_is_given_up_leaves_the_others_their_answers() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let lease = within(registry.register(&instance("user.rpc", "1"), &claim())).await.unwrap();
    for given_up in 0..3 {
        let mut renewals: Vec<_> = (0..3).map(|_| registry.keep_alive(&lease)).collect();
        for renewal in &mut renewals {
            assert!(renewal.now_or_never().is_none(), "nobody has answered yet");
        }
        drop(renewals.remove(given_up));
        for outcome in within(join_all(renewals)).await {
            outcome.unwrap();
        }
    }
    within(registry.keep_alive(&lease)).await.unwrap();
}
