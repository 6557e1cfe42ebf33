//! What watches and renewals share, and what they leave on the server.

use crate::support::{Fixture, claim, encoded, instance, name, next, put, within};
use etcd_client::TxnOp;
use futures_util::{StreamExt, future};
use registry_core::{CallOptions, Claim, Instance, Registry};
use registry_etcd::EtcdRegistry;
use registry_testbed::proxy::{Fault, Proxy};
use registry_testkit::lag;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Returns an instance whose record has about this size.
fn bulky(id: &str, bytes: usize) -> Instance {
    let metadata = BTreeMap::from([("bulk".to_owned(), "x".repeat(bytes))]);
    instance("user", id).with_metadata(metadata)
}

#[tokio::test]
async fn hundred_watches_share_one_stream() {
    let etcd = Fixture::start().await;
    let mut watches = Vec::new();
    for n in 0..100 {
        watches.push(etcd.watch(&format!("service-{n}")).await);
    }
    assert_eq!(etcd.metric("etcd_debugging_mvcc_watch_stream_total").await, 1);
    assert_eq!(etcd.metric("etcd_debugging_mvcc_watcher_total").await, 100);
    for (n, watch) in watches.iter_mut().enumerate() {
        let one = instance(&format!("service-{n}"), "1");
        etcd.register(&one, &claim(10)).await.unwrap();
        assert_eq!(next(watch).await.changes, [put(&one)]);
    }
    drop(watches);
    etcd.wait_until_zero("etcd_debugging_mvcc_watch_stream_total").await;
    etcd.watch("user").await; // on a new stream
}

#[tokio::test]
async fn watches_opened_concurrently_share_one_stream() {
    let etcd = Fixture::start().await;
    let names: Vec<String> = (0..50).map(|n| format!("service-{n}")).collect();
    let opening = names.iter().map(|service| etcd.watch(service));
    let watches = future::join_all(opening).await;
    assert_eq!(etcd.metric("etcd_debugging_mvcc_watch_stream_total").await, 1);
    assert_eq!(etcd.metric("etcd_debugging_mvcc_watcher_total").await, 50);
    drop(watches);
}

#[tokio::test]
async fn cursor_loaded_while_the_stream_is_open_is_not_checked_again() {
    let etcd = Fixture::start().await;
    // Loading an empty service also looks for it in other layouts, which is a read.
    etcd.register(&instance("anchor", "1"), &claim(60)).await.unwrap();
    let _anchor = etcd.watch("anchor").await;
    etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
    let now = etcd.load("user").await;
    let before = etcd.calls("Range").await;
    let mut watch = etcd.watch_after("user", now.cursor()).await.unwrap();
    assert_eq!(etcd.calls("Range").await, before, "the open stream proves the cursor");
    let two = instance("user", "2");
    etcd.register(&two, &claim(10)).await.unwrap();
    let batch = next(&mut watch).await;
    assert_eq!(batch.changes, [put(&two)]);
    // The cursors of the watch contain their own proof, as usual.
    let before = etcd.calls("Range").await;
    etcd.watch_after("user", &batch.cursor).await.unwrap();
    assert_eq!(
        etcd.calls("Range").await,
        before + 2,
        "the check of its proof, and the survey of its backlog"
    );
}

#[tokio::test]
async fn cursor_before_a_compaction_is_compacted_though_the_stream_is_open() {
    // etcd would start a watch at the compacted revision itself, where deletions are lost.
    let etcd = Fixture::start().await;
    // Loading an empty service also looks for it in other layouts, which is a read.
    etcd.register(&instance("anchor", "1"), &claim(60)).await.unwrap();
    let _anchor = etcd.watch("anchor").await;
    let before = etcd.load("user").await;
    etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
    etcd.compact(before.cursor().revision().get() + 1).await;
    assert_eq!(
        etcd.watch_error("user", before.cursor()).await,
        registry_core::ErrorKind::Compacted
    );
}

#[tokio::test]
async fn cursor_loaded_before_a_wipe_is_checked() {
    let mut etcd = Fixture::start().await;
    let anchor = etcd.watch("anchor").await;
    etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
    let before = etcd.load("user").await;
    let process = etcd.server.process().unwrap();
    process.wipe().unwrap();
    within(process.restart()).await.unwrap();
    for id in ["2", "3", "4", "5"] {
        etcd.register(&instance("user", id), &claim(10)).await.unwrap();
    }
    assert_eq!(etcd.watch_error("user", before.cursor()).await, registry_core::ErrorKind::Diverged);
    drop(anchor);
}

#[tokio::test]
async fn backlog_of_many_mebibytes_arrives_whole() {
    let etcd = Fixture::start().await;
    let before = etcd.load("user").await;
    // Two keys per revision, 100 KiB together, so that responses are split within revisions.
    for n in 0..120 {
        let puts = ["a", "b"].map(|half| {
            let id = format!("{n}{half}");
            TxnOp::put(format!("registry/user/{id}"), encoded(&bulky(&id, 50_000)), None)
        });
        etcd.change(puts).await;
    }
    let mut watch = etcd.watch_after("user", before.cursor()).await.unwrap();
    for n in 0..120 {
        let ids: Vec<String> = next(&mut watch)
            .await
            .batch
            .changes
            .iter()
            .map(|change| change.id().to_string())
            .collect();
        assert_eq!(ids, [format!("{n}a"), format!("{n}b")]);
    }
}

#[tokio::test]
async fn renewals_share_a_few_streams() {
    let etcd = Fixture::start().await;
    let mut leases = Vec::new();
    for n in 0..40 {
        leases.push(etcd.register(&instance("user", &n.to_string()), &claim(60)).await.unwrap());
    }
    for _ in 0..5 {
        for lease in &leases {
            etcd.keep_alive(lease).await.unwrap();
        }
    }
    let all_at_once = leases.iter().map(|lease| etcd.keep_alive(lease));
    for renewed in future::join_all(all_at_once).await {
        renewed.unwrap();
    }
    let streams = etcd.calls("LeaseKeepAlive").await;
    assert!((1..=4).contains(&streams), "{streams} streams for 240 renewals");
}

#[tokio::test]
async fn slow_server_gets_a_bounded_number_of_streams_per_lane() {
    const LANES_AND_MOST: u64 = 4 * 4;
    let etcd = Fixture::start().await;
    let address = etcd.server.endpoint().trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(address).await.unwrap();
    let url = format!("etcd://{}", proxy.address()).parse().unwrap();
    let registry = within(EtcdRegistry::connect(&url)).await.unwrap();
    let mut leases = Vec::new();
    for n in 0..40 {
        let one = instance("user", &n.to_string());
        leases.push(
            within(registry.register(&one, &claim(60), &CallOptions::DEFAULT)).await.unwrap(),
        );
    }
    // Longer than the stall timeout, after which later renewals use another stream.
    proxy.inject(Fault::Delay { each: Duration::from_millis(300), jitter: Duration::ZERO });
    let start = Instant::now();
    let renewals = leases.iter().map(|lease| async {
        while start.elapsed() < Duration::from_secs(8) {
            within(registry.keep_alive(lease, &CallOptions::DEFAULT)).await.unwrap();
        }
    });
    future::join_all(renewals).await;
    let streams = etcd.calls("LeaseKeepAlive").await;
    assert!(streams > 4, "{streams}: no stream stalled, so the test shows nothing");
    // The first late responses cost another connection, until they are known to be late.
    assert!(streams <= 2 * LANES_AND_MOST, "{streams} streams");
}

#[tokio::test]
async fn lost_lease_is_reported_only_to_its_owner() {
    let etcd = Fixture::start().await;
    let mut leases = Vec::new();
    for n in 0..20 {
        leases.push(etcd.register(&instance("user", &n.to_string()), &claim(60)).await.unwrap());
    }
    for lease in leases.iter().step_by(2) {
        within(etcd.raw.lease_client().revoke(lease.id().get())).await.unwrap();
    }
    let renewals = future::join_all(leases.iter().map(|lease| etcd.keep_alive(lease))).await;
    for (n, renewed) in renewals.into_iter().enumerate() {
        let lost = renewed.is_err_and(|error| error.kind() == registry_core::ErrorKind::LeaseLost);
        assert_eq!(lost, n % 2 == 0, "{n}");
    }
}

#[tokio::test]
async fn cancelled_renewals_do_not_shift_the_answers_of_others() {
    let etcd = Fixture::start().await;
    let one = etcd.register(&instance("user", "1"), &claim(60)).await.unwrap();
    let gone = etcd.register(&instance("user", "2"), &claim(60)).await.unwrap();
    etcd.keep_alive(&one).await.unwrap();
    within(etcd.raw.lease_client().revoke(gone.id().get())).await.unwrap();
    for turns in 0..200 {
        let giving_up = async {
            for _ in 0..turns % 8 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = etcd.registry.keep_alive(&gone, &CallOptions::DEFAULT) => {}
            () = giving_up => {}
        }
        etcd.keep_alive(&one).await.expect("its own response");
    }
}

#[tokio::test]
async fn renewals_continue_while_a_thousand_leases_expire() {
    let etcd = Fixture::start().await;
    let dying = (0..1_000).map(|n| {
        let one = instance("crowd", &n.to_string());
        let registry = &etcd.registry;
        async move {
            registry
                .register(&one, &Claim::new(Duration::from_secs(2))?, &CallOptions::DEFAULT)
                .await
        }
    });
    let mut dying: Vec<_> =
        within(futures_util::stream::iter(dying).buffer_unordered(64).collect::<Vec<_>>()).await;
    let dying: Vec<_> = dying.drain(..).map(Result::unwrap).collect();
    // Registered after the others, since a busy machine takes longer than their ttl to register those.
    let mut living = Vec::new();
    for n in 0..20 {
        living.push(etcd.register(&instance("user", &n.to_string()), &claim(4)).await.unwrap());
    }
    // Once their ttls have passed, the expired leases are renewed, too. etcd answers only after it has
    // revoked them, which blocks the renewals behind them on the stream.
    let over = Instant::now() + Duration::from_secs(2);
    let deadline = lag::deadline(Duration::from_secs(22));
    while !etcd.load("crowd").await.records().is_empty() {
        assert!(!deadline.has_passed(), "the abandoned leases do not expire");
        let doomed = if Instant::now() < over { &[][..] } else { &dying[..50] };
        let dead =
            doomed.iter().map(|lease| etcd.registry.keep_alive(lease, &CallOptions::DEFAULT));
        let dead = tokio::time::timeout(Duration::from_millis(100), future::join_all(dead));
        let alive = future::join_all(living.iter().map(|lease| etcd.keep_alive(lease)));
        let (dead, alive) = future::join(dead, alive).await;
        for renewed in alive {
            renewed.expect("a live lease is renewed");
        }
        for renewed in dead.unwrap_or_default() {
            renewed.expect_err("an expired lease is not renewed");
        }
    }
    let remaining = etcd.load("user").await.instances().len();
    assert_eq!(remaining, 20);
    assert!(etcd.registry.services(&CallOptions::DEFAULT).await.unwrap().contains(&name("user")));
}
