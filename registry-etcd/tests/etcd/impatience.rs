//! Callers with short timeouts: their calls end, and nothing else does.

use crate::support::{Fixture, claim, encoded, instance, name, next, put, within};
use futures_util::StreamExt;
use registry_core::{CallOptions, ErrorKind, Registry, Watch};
use registry_etcd::EtcdRegistry;
use registry_testbed::proxy::{Fault, Proxy};
use registry_testkit::lag::timeout;
use std::time::Duration;

/// Asserts that the watch stays open for longer than the probe of a suspected connection takes.
async fn assert_continues(watch: &mut Watch) {
    let end = async {
        loop {
            if let Err(error) = watch.next().await.expect("the watch does not end") {
                return error;
            }
        }
    };
    if let Ok(error) = timeout(Duration::from_secs(6), end).await {
        panic!("the watch ended: {}", error.chain());
    }
}

/// Regression: only complete responses counted as a sign of life. So a connection that was busy receiving was
/// considered dead, and was closed with all its watches and renewals.
#[tokio::test]
async fn call_that_times_out_while_its_response_arrives_ends_only_itself() {
    let etcd = Fixture::start().await;
    for id in 0..60 {
        let large = instance("big", &id.to_string());
        let large = large.with_metadata([("k", "v".repeat(60_000))]);
        etcd.put(&format!("registry/big/{id}"), encoded(&large)).await;
    }
    let address = etcd.server.endpoint().trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(address).await.unwrap();
    // Queued data delays the probes as well, but by less than two thirds of this ttl.
    let url = format!("etcd://{}?ttl=60s", proxy.address()).parse().unwrap();
    let registry = within(EtcdRegistry::connect(&url)).await.unwrap();
    let (user, big, options) = (name("user"), name("big"), CallOptions::DEFAULT);
    let now = within(registry.load(&user, &options)).await.unwrap();
    let mut watch = within(registry.watch(&user, now.cursor(), &options)).await.unwrap();
    let own_claim = claim(60);
    let lease =
        within(registry.register(&instance("order", "1"), &own_claim, &options)).await.unwrap();
    within(registry.keep_alive(&lease, &options)).await.unwrap();

    // The buffered data takes about 5 s to arrive: too long for a response behind it, but not for a ping.
    proxy.inject(Fault::Throttle { bytes_per_second: 400_000 });
    let limit = Duration::from_millis(1_500);
    let impatient = options.with_timeout(limit);
    let error = within(registry.load(&big, &impatient)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let dropped = tokio::time::timeout(limit, registry.load(&big, &options)).await;
    assert!(dropped.is_err(), "the response takes longer than the timeout");
    assert_continues(&mut watch).await;
    proxy.heal();
    let one = instance("user", "1");
    within(registry.register(&one, &claim(60), &options)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&one)]);
    within(registry.keep_alive(&lease, &options)).await.unwrap();
    assert!(proxy.hits().throttled_bytes > 0);
}

/// Simulates a stalled disk: all responses arrive later than callers wait.
#[tokio::test]
async fn timeouts_on_a_slow_server_end_no_watch_and_open_no_stream() {
    let etcd = Fixture::start().await;
    let address = etcd.server.endpoint().trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(address).await.unwrap();
    let url = format!("etcd://{}?ttl=60s", proxy.address()).parse().unwrap();
    let registry = within(EtcdRegistry::connect(&url)).await.unwrap();
    let (user, options) = (name("user"), CallOptions::DEFAULT);
    let now = within(registry.load(&user, &options)).await.unwrap();
    let mut watch = within(registry.watch(&user, now.cursor(), &options)).await.unwrap();

    proxy.inject(Fault::DelayReplies { each: Duration::from_secs(2) });
    let impatient = options.with_timeout(Duration::from_millis(1_200));
    for _ in 0..3 {
        let error = within(registry.load(&user, &impatient)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert_continues(&mut watch).await;
    proxy.heal();
    let one = instance("user", "1");
    within(registry.register(&one, &claim(60), &options)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&one)]);
    assert_eq!(etcd.metric("etcd_debugging_mvcc_watch_stream_total").await, 1);
}
