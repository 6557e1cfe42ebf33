//! The number of calls that each operation makes.

use crate::support::{Operator, claim, holder_of, instance, load, next, one_shard, server, within};
use registry_core::{CallOptions, Registry, Takeover};

/// Returns the number of scripts that clients have called or sent. The reads of a feed are not among them: they are
/// `XREAD`s, and continue for a moment after the last watch is dropped.
async fn scripts(operator: &mut Operator) -> u64 {
    let info: String = operator.run("INFO commandstats").await;
    let sent = ["evalsha", "eval"];
    let count = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let calls = rest.split(',').next()?.parse::<u64>().ok()?;
        sent.contains(&name).then_some(calls)
    };
    info.lines().filter_map(count).sum()
}

#[tokio::test]
async fn every_operation_is_one_call_of_a_script() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let mut operator = Operator::of(&server).await;
    let options = CallOptions::DEFAULT;
    let one = instance("user.rpc", "1");
    let (first, second) = (claim(), claim());
    let heavier = one.clone().with_weight(7);

    // Each script is sent with its first call.
    for round in 0..2 {
        let mut counts = Vec::new();
        macro_rules! count {
            ($call:expr) => {{
                let before = scripts(&mut operator).await;
                let outcome = within($call).await;
                counts.push((stringify!($call), scripts(&mut operator).await - before));
                outcome
            }};
        }
        count!(registry.holder(&one, &options)).unwrap();
        let lease = count!(registry.register(&one, &first, &options)).unwrap();
        count!(registry.register(&one, &first, &options)).unwrap();
        count!(registry.register(&one, &second, &options)).unwrap_err();
        count!(registry.keep_alive(&lease, &options)).unwrap();
        count!(registry.services(&options)).unwrap();
        let snapshot = count!(registry.load(one.service(), &options)).unwrap();
        let updated = count!(registry.register(&heavier, &first, &options)).unwrap();
        let own = count!(registry.watch_record(&updated, &options)).unwrap();
        let watch = count!(registry.watch(one.service(), snapshot.cursor(), &options)).unwrap();
        drop((own, watch));
        let from = Takeover::From(holder_of(&registry, &one).await);
        let taking = second.with_takeover(from);
        let taken = count!(registry.register(&one, &taking, &options)).unwrap();
        count!(registry.deregister(&taken, &options)).unwrap();
        assert!(load(&registry, "user.rpc").await.records().is_empty());
        if round == 1 {
            assert!(counts.iter().all(|(_, count)| *count == 1), "{counts:?}");
        }
    }
}

/// Regression: a resume read only 256 entries per script call, one call after the other.
#[tokio::test]
async fn resume_after_a_thousand_changes_is_one_call_of_a_script() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let mut operator = Operator::of(&server).await;
    let cursor = load(&registry, "user.rpc").await.cursor().clone();
    let claim = claim();
    for n in 0..1000 {
        let one = instance("user.rpc", "1").with_weight(n % 2 + 1);
        within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();
    }
    let user = "user.rpc".parse().unwrap();
    drop(within(registry.watch(&user, &cursor, &CallOptions::DEFAULT)).await.unwrap());
    let before = scripts(&mut operator).await;
    let mut resumed = within(registry.watch(&user, &cursor, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(scripts(&mut operator).await - before, 1);
    for _ in 0..1000 {
        next(&mut resumed).await;
    }
}

/// Regression: the client loaded a script and then called it by its hash. A flush in between made the call fail.
#[tokio::test]
async fn call_after_a_script_flush_sends_the_script() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let mut operator = Operator::of(&server).await;
    let one = instance("user.rpc", "1");
    within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await.unwrap();
    operator.run::<()>("SCRIPT FLUSH").await;
    operator.run::<()>("CONFIG RESETSTAT").await;
    let two = instance("user.rpc", "2");
    within(registry.register(&two, &claim(), &CallOptions::DEFAULT)).await.unwrap();
    let info: String = operator.run("INFO commandstats").await;
    assert!(info.contains("cmdstat_eval:calls=1,"), "{info}");
    assert!(!info.contains("cmdstat_script"), "{info}");
}
