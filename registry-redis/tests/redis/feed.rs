//! The connection that serves all watches.

use crate::support::{
    Operator, claim, failure, ids, instance, load, next, next_change, one_shard, register,
    registry, server, service, watch, watch_from_now, within,
};
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use registry_core::{CallOptions, ErrorKind, Registry, WATCH_CAPACITY};
use registry_redis::{RedisOptions, RedisRegistry};
use registry_testbed::proxy::{Fault, Proxy};
use registry_testkit::lag::tolerating;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Waits until the server has `count` feed connections.
async fn wait_for_feeds(operator: &mut Operator, count: usize) {
    let counted = async {
        while operator.connections("registry-feed").await != count {
            sleep(Duration::from_millis(20)).await;
        }
    };
    within(counted).await;
}

#[tokio::test]
async fn watches_of_a_handle_share_one_connection_that_closes_with_the_last() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    let mut operator = Operator::of(&server).await;
    assert_eq!(operator.connections("registry-feed").await, 0);
    let mut watches = Vec::new();
    for n in 0..40 {
        watches.push(watch_from_now(&registry.clone(), &format!("service-{n}")).await);
    }
    for (n, watch) in watches.iter_mut().enumerate() {
        register(&registry, &format!("service-{n}"), "1").await;
        assert_eq!(next_change(watch).await, "+1");
    }
    wait_for_feeds(&mut operator, 1).await;
    watches.truncate(1);
    register(&registry, "service-0", "2").await;
    assert_eq!(next_change(&mut watches[0]).await, "+2");
    watches.clear();
    wait_for_feeds(&mut operator, 0).await;
    let mut again = watch_from_now(&registry, "service-0").await;
    register(&registry, "service-0", "3").await;
    assert_eq!(next_change(&mut again).await, "+3");
    drop(registry);
    drop(again);
    wait_for_feeds(&mut operator, 0).await;
}

#[test]
fn watch_in_a_new_shard_does_not_wait_for_the_read_in_flight() {
    tolerating(Duration::from_secs(1), async |lag| {
        let server = server(&[]).await;
        let registry = registry(&server).await;
        let mut old = watch_from_now(&registry, "service-0").await;
        register(&registry, "service-0", "1").await;
        assert_eq!(next_change(&mut old).await, "+1");
        let mut new = watch_from_now(&registry, "service-1").await;
        let deadline = lag.deadline(Duration::from_secs(1));
        register(&registry, "service-1", "1").await;
        assert_eq!(next_change(&mut new).await, "+1");
        deadline.assert_met();
    });
}

#[tokio::test]
async fn watch_resumed_past_changes_of_other_services_receives_progress() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let start = load(&registry, "quiet").await.cursor().clone();
    for id in ["1", "2", "3"] {
        register(&registry, "other", id).await;
    }
    let mut quiet = watch(&registry, "quiet", &start).await;
    let progress = within(quiet.next()).await.unwrap().unwrap();
    assert!(progress.is_progress());
    assert_eq!(progress.cursor, *load(&registry, "quiet").await.cursor());
}

#[tokio::test]
async fn watches_of_one_shard_receive_their_own_changes_and_progress_past_others() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    // Both are in shard 1 of 16.
    let (one, two) = ("service-0", "service-15");
    let mut first = watch_from_now(&registry, one).await;
    let mut second = watch_from_now(&registry, two).await;
    for n in 0..20 {
        register(&registry, two, &n.to_string()).await;
    }
    for n in 0..20 {
        assert_eq!(next_change(&mut second).await, format!("+{n}"));
    }
    let progress = within(first.next()).await.unwrap().unwrap();
    assert!(progress.is_progress(), "{progress:?}");
    let mut seen = progress.revision();
    while seen < second.cursor().revision() {
        let more = within(first.next()).await.unwrap().unwrap();
        assert!(more.is_progress(), "{more:?}");
        seen = more.revision();
    }
    register(&registry, one, "1").await;
    assert_eq!(next_change(&mut first).await, "+1");
}

#[tokio::test]
async fn idle_watch_receives_progress_before_its_position_is_trimmed() {
    let server = server(&[]).await;
    let options = RedisOptions::default().with_shards(1).with_log_cap(400);
    let registry = crate::support::connect(server.url(), options).await.unwrap();
    let mut quiet = watch_from_now(&registry, "quiet").await;
    let claim = claim();
    let start = quiet.cursor().revision().get();
    // It reads while the others write, since unread progress is replaced by later progress.
    let reader = tokio::spawn(within(async move {
        let mut steps = 0;
        while quiet.cursor().revision().get() < start + 900 {
            assert!(quiet.next().await.unwrap().unwrap().is_progress());
            steps += 1;
        }
        steps
    }));
    for n in 0..1000 {
        let noisy = instance("noisy", "1").with_weight(n);
        within(registry.register(&noisy, &claim, &CallOptions::DEFAULT)).await.unwrap();
    }
    // This takes a few seconds, in which one progress per second would be only a few steps.
    let steps = reader.await.unwrap();
    assert!(steps >= 9, "{steps}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_watches_opened_in_a_busy_shard_lose_nothing() {
    let server = server(&[]).await;
    let options = RedisOptions::default().with_shards(1).with_log_cap(1_000_000);
    let registry = crate::support::connect(server.url(), options).await.unwrap();
    let start = load(&registry, "user.rpc").await.cursor().clone();
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let write = |n| tokio::spawn(write(registry.clone(), n, stop.clone(), written.clone()));
    let writers: Vec<_> = (0..3).map(write).collect();

    // Ten at a time: half of them from an old cursor, half from the current one.
    let join = async |n: usize| {
        let now = load(&registry, "user.rpc").await.cursor().clone();
        watch(&registry, "user.rpc", if n.is_multiple_of(2) { &start } else { &now }).await
    };
    let mut watches = Vec::new();
    for tens in 0..5 {
        let joined = join_all((0..10).map(join)).await;
        watches.extend(joined.into_iter().map(|watch| tokio::spawn(revisions(watch))));
        let enough = async {
            while written.load(Ordering::Relaxed) < 200 * (tens + 1) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        within(enough).await;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        within(writer).await.unwrap();
    }
    register(&registry, "user.rpc", "last").await;

    let mut operator = Operator::of(&server).await;
    let log: Vec<(String, Vec<Vec<u8>>)> = operator.run("XRANGE {registry/00}:log - +").await;
    let of_service = |fields: &[Vec<u8>]| fields[3].starts_with(b"user.rpc\x1f");
    let all: Vec<u64> = log
        .iter()
        .filter(|(_, fields)| of_service(fields))
        .map(|(id, _)| id.strip_suffix("-0").unwrap().parse().unwrap())
        .collect();
    let mut joined_midway = 0;
    for seen in watches {
        let (from, seen) = within(seen).await.unwrap();
        joined_midway += usize::from(from > start.revision().get());
        let expected: Vec<u64> = all.iter().copied().filter(|revision| *revision > from).collect();
        assert_eq!(seen, expected, "from {from}");
    }
    assert!(all.len() >= 500 && joined_midway >= 20, "{} {joined_midway}", all.len());
}

/// Writes to the watched service and to another one, without pauses.
async fn write(registry: RedisRegistry, n: u32, stop: Arc<AtomicBool>, written: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        for name in ["user.rpc", "other.rpc"] {
            let instance = instance(name, &n.to_string());
            let lease = within(registry.register(&instance, &claim(), &CallOptions::DEFAULT))
                .await
                .unwrap();
            within(registry.deregister(&lease, &CallOptions::DEFAULT)).await.unwrap();
            written.fetch_add(2, Ordering::Relaxed);
        }
    }
}

/// Returns the first position of a watch, and the revisions of all changes up to the instance `last`.
async fn revisions(mut watch: registry_core::Watch) -> (u64, Vec<u64>) {
    let from = watch.cursor().revision().get();
    let mut seen = Vec::new();
    loop {
        let batch = next(&mut watch).await;
        seen.push(batch.revision().get());
        if batch.changes.iter().any(|change| change.id().as_str() == "last") {
            return (from, seen);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adding_shards_to_the_feed_loses_nothing_in_the_others() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    let mut steady = watch_from_now(&registry, "steady").await;
    let writer = {
        let registry = registry.clone();
        tokio::spawn(async move {
            for n in 0..600 {
                register(&registry, "steady", &n.to_string()).await;
            }
        })
    };
    let mut watches = Vec::new();
    for n in 0..40 {
        watches.push((n, watch_from_now(&registry, &format!("service-{n}")).await));
    }
    for n in 0..600 {
        assert_eq!(next_change(&mut steady).await, format!("+{n}"));
    }
    within(writer).await.unwrap();
    for (n, watch) in &mut watches {
        register(&registry, &format!("service-{n}"), "1").await;
        assert_eq!(next_change(watch).await, "+1");
    }
}

#[tokio::test]
async fn unread_watch_lags_without_delaying_others() {
    let server = server(&[]).await;
    let registry = one_shard(&server).await;
    let mut lazy = watch_from_now(&registry, "user.rpc").await;
    let mut eager = watch_from_now(&registry, "user.rpc").await;
    let claim = claim();
    for n in 0..u32::try_from(WATCH_CAPACITY).unwrap() + 10 {
        let heavier = instance("user.rpc", "1").with_weight(n);
        within(registry.register(&heavier, &claim, &CallOptions::DEFAULT)).await.unwrap();
        assert_eq!(next_change(&mut eager).await, "+1");
    }
    for _ in 0..WATCH_CAPACITY {
        next(&mut lazy).await;
    }
    assert_eq!(failure(&mut lazy).await, ErrorKind::Unavailable);
    let mut resumed = watch(&registry, "user.rpc", &lazy.cursor().clone()).await;
    while resumed.cursor().revision() < eager.cursor().revision() {
        next(&mut resumed).await;
    }
}

#[tokio::test]
async fn cancelled_watch_call_leaves_nothing_behind() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    let mut operator = Operator::of(&server).await;
    let cursor = load(&registry, "user.rpc").await.cursor().clone();
    let name = service("user.rpc");
    for polls in 0..6 {
        let mut call = registry.watch(&name, &cursor, &CallOptions::DEFAULT);
        for _ in 0..polls {
            if (&mut call).now_or_never().is_some() {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
    wait_for_feeds(&mut operator, 0).await;
    let mut watch = watch(&registry, "user.rpc", &cursor).await;
    register(&registry, "user.rpc", "1").await;
    assert_eq!(next_change(&mut watch).await, "+1");
    assert_eq!(ids(&registry, "user.rpc").await, ["1"]);
}

#[tokio::test]
async fn idle_watch_outlives_a_blocking_read() {
    let server = server(&[]).await;
    let registry = registry(&server).await;
    let mut watch = watch_from_now(&registry, "user.rpc").await;
    let start = Instant::now();
    let idle = tokio::time::timeout(Duration::from_secs(8), watch.next()).await;
    assert!(idle.is_err(), "{idle:?} after {:?}", start.elapsed());
    register(&registry, "user.rpc", "1").await;
    assert_eq!(next_change(&mut watch).await, "+1");
}

/// Regression: the failed connection ended all watches of the handle.
#[tokio::test]
async fn failed_connection_for_a_new_shard_ends_no_other_watch() {
    let server = server(&[]).await;
    let proxy = Proxy::start(server.address().parse().unwrap()).await.unwrap();
    let url = format!("redis://{}", proxy.address()).parse().unwrap();
    let registry = within(RedisRegistry::connect(&url)).await.unwrap();
    let mut old = watch_from_now(&registry, "service-0").await;
    wait_for_feeds(&mut Operator::of(&server).await, 1).await;
    proxy.inject(Fault::Refuse);
    let mut new = watch_from_now(&registry, "service-1").await;
    let error = within(async {
        loop {
            if let Err(error) = new.next().await.expect("a watch ends with an error") {
                return error;
            }
        }
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!error.is_silence(), "{error}");
    register(&registry, "service-0", "1").await;
    assert_eq!(next_change(&mut old).await, "+1");
    proxy.heal();
    let mut new = watch(&registry, "service-1", new.cursor()).await;
    register(&registry, "service-1", "1").await;
    assert_eq!(next_change(&mut new).await, "+1");
}
