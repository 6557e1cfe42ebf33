//! Callers' timeouts, and servers that send nothing.

use crate::support::{
    Operator, claim, connect, failure, instance, load, next_change, registry, server, service,
    watch_from_now, within,
};
use registry_core::{CallOptions, ErrorKind, Registry};
use registry_redis::{RedisOptions, RedisRegistry};
use registry_testbed::proxy::{Fault, Proxy};
use registry_testkit::lag::tolerating;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Returns the ids of the connections for commands.
async fn connections(operator: &mut Operator) -> Vec<String> {
    let list: String = operator.run("CLIENT LIST").await;
    let named = list.lines().filter(|line| line.contains(" name=registry "));
    named.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

#[tokio::test]
async fn timeout_of_a_caller_ends_its_call_but_not_the_connection() {
    let mut server = server(&[]).await;
    let registry = registry(&server).await;
    let mut operator = Operator::of(&server).await;
    let one = instance("user.rpc", "1");
    let claim = claim();
    let lease = within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();
    let snapshot = load(&registry, "user.rpc").await;
    let before = connections(&mut operator).await;
    assert_eq!(before.len(), 1);
    server.process().unwrap().pause().unwrap();
    let options = CallOptions::default().with_timeout(Duration::from_millis(50));
    let errors = [
        within(registry.register(&one, &claim, &options)).await.unwrap_err(),
        within(registry.keep_alive(&lease, &options)).await.unwrap_err(),
        within(registry.deregister(&lease, &options)).await.unwrap_err(),
        within(registry.load(one.service(), &options)).await.unwrap_err(),
        within(registry.watch(one.service(), snapshot.cursor(), &options)).await.unwrap_err(),
        within(registry.watch_record(&lease, &options)).await.unwrap_err(),
        within(registry.services(&options)).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("50ms"), "{error}");
    }
    server.process().unwrap().resume().unwrap();
    within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(connections(&mut operator).await, before);
}

/// Regression: if callers always gave up before the deadline of a call, a dead connection was never replaced.
#[test]
fn connection_is_replaced_although_no_caller_waits_for_its_deadline() {
    tolerating(Duration::from_secs(1), async |_| {
        let server = server(&[]).await;
        let proxy = Proxy::start(server.address().parse().unwrap()).await.unwrap();
        let url = format!("redis://{}", proxy.address());
        let registry = connect(&url, RedisOptions::default()).await.unwrap();
        let one = instance("user.rpc", "1");
        let lease = within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await.unwrap();
        let mut operator = Operator::of(&server).await;
        let before = connections(&mut operator).await;
        proxy.lose_replies();
        let options = CallOptions::default().with_timeout(Duration::from_millis(400));
        let replaced = async {
            while connections(&mut operator).await.iter().all(|id| before.contains(id)) {
                let error = registry.keep_alive(&lease, &options).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable);
            }
        };
        within(replaced).await;
        proxy.heal();
        within(async { while registry.keep_alive(&lease, &options).await.is_err() {} }).await;
    });
}

#[test]
fn watch_of_a_silent_server_ends_in_two_thirds_of_the_ttl_of_the_url() {
    tolerating(Duration::from_secs(1), async |lag| {
        let mut server = server(&[]).await;
        let url = format!("{}?ttl=3s", server.url());
        let registry = connect(&url, RedisOptions::default()).await.unwrap();
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        let start = Instant::now();
        let deadline = lag.deadline(Duration::from_millis(2500));
        server.process().unwrap().pause().unwrap();
        assert_eq!(failure(&mut watch).await, ErrorKind::Unavailable);
        deadline.assert_met();
        assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    });
}

/// Once the store answers on new connections, an owner with a ttl of 3 s is registered within 1 s. A call
/// with a long timeout, such as a view's, started to connect earlier, and that connection stays dead.
#[test]
fn call_that_connects_on_a_dead_link_does_not_block_registrations() {
    tolerating(Duration::from_secs(1), async |lag| {
        let server = server(&[]).await;
        let proxy = Proxy::start(server.address().parse().unwrap()).await.unwrap();
        let url = format!("redis://{}?ttl=3s", proxy.address());
        let registry = RedisRegistry::connect_lazy(&url.parse().unwrap()).unwrap();
        proxy.inject(Fault::Blackhole);
        let patient = CallOptions::default().with_timeout(Duration::from_secs(10));
        let view = {
            let registry = registry.clone();
            tokio::spawn(async move { registry.load(&service("user.rpc"), &patient).await })
        };
        within(async {
            while proxy.hits().frozen_connections == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        proxy.strand();
        proxy.heal();
        // As a registration with a ttl of 3 s: its request may take 0.8 s and its backoff at most 0.2 s.
        let options = CallOptions::default().with_timeout(Duration::from_millis(800));
        let deadline = lag.deadline(Duration::from_secs(1));
        let one = instance("user.rpc", "1");
        while within(registry.register(&one, &claim(), &options)).await.is_err() {}
        deadline.assert_met();
        view.abort();
    });
}

/// Regression: only the connection of the feed was silent, and its watches stayed open, since other calls were
/// answered.
#[test]
fn watch_ends_in_time_if_only_the_connection_of_its_feed_is_silent() {
    tolerating(Duration::from_secs(1), async |lag| {
        let server = server(&[]).await;
        let proxy = Proxy::start(server.address().parse().unwrap()).await.unwrap();
        let url = format!("redis://{}?ttl=3s", proxy.address());
        let registry = connect(&url, RedisOptions::default()).await.unwrap();
        let lease = {
            let one = instance("user.rpc", "1");
            within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await.unwrap()
        };
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        let deadline = lag.deadline(Duration::from_millis(2500));
        proxy.strand();
        let others = async {
            let options = CallOptions::default().with_timeout(Duration::from_millis(300));
            let mut answered = 0;
            loop {
                answered += u32::from(registry.keep_alive(&lease, &options).await.is_ok());
                assert!(answered < 1_000_000);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            kind = failure(&mut watch) => assert_eq!(kind, ErrorKind::Unavailable),
            () = others => {}
        }
        deadline.assert_met();
    });
}

/// Regression: the server blocked for three quarters of the silence timeout, which left only a quarter for its reply.
#[test]
fn watch_of_a_server_that_needs_a_third_of_the_silence_timeout_stays_open() {
    tolerating(Duration::from_millis(200), async |_| {
        let server = server(&[]).await;
        let proxy = Proxy::start(server.address().parse().unwrap()).await.unwrap();
        let url = format!("redis://{}?ttl=3s", proxy.address());
        let registry = connect(&url, RedisOptions::default()).await.unwrap();
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        proxy.inject(Fault::DelayReplies { each: Duration::from_millis(650) });
        let quiet = timeout(Duration::from_secs(5), failure(&mut watch)).await;
        assert!(quiet.is_err(), "the watch ended: {quiet:?}");
    });
}

/// No lease can be renewed there: a listed instance may be dead, and a missing one may be alive.
#[test]
fn watch_of_a_shard_that_refuses_scripts_ends_in_time() {
    tolerating(Duration::from_secs(1), async |lag| {
        let server = server(&[]).await;
        let url = format!("{}?ttl=3s", server.url());
        let registry = connect(&url, RedisOptions::default().with_shards(1)).await.unwrap();
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        let deadline = lag.deadline(Duration::from_millis(2500));
        Operator::of(&server).await.run::<()>("CONFIG SET maxmemory 1").await;
        assert_eq!(failure(&mut watch).await, ErrorKind::Unavailable);
        deadline.assert_met();
    });
}

/// Regression: a reply that took longer than the deadline broke the connection of all callers, although it kept
/// arriving.
#[test]
fn large_reply_over_a_slow_link_arrives_and_breaks_no_connection() {
    tolerating(Duration::from_secs(1), async |_| {
        let server = server(&[]).await;
        let proxy = Proxy::start(server.address().parse().unwrap()).await.unwrap();
        let url = format!("redis://{}", proxy.address());
        let direct = registry(&server).await;
        let padding = "x".repeat(50_000);
        for n in 0..40 {
            let large = instance("user.rpc", &n.to_string()).with_label("padding", &padding);
            within(direct.register(&large, &claim(), &CallOptions::DEFAULT)).await.unwrap();
        }
        let one = instance("other", "1");
        let registry = connect(&url, RedisOptions::default()).await.unwrap();
        let lease = within(registry.register(&one, &claim(), &CallOptions::DEFAULT)).await.unwrap();
        let mut operator = Operator::of(&server).await;
        let before = connections(&mut operator).await;
        proxy.inject(Fault::Throttle { bytes_per_second: 500_000 });
        // The reply takes 4 s. Other callers with short timeouts wait in vain for longer than the deadline in total.
        let user = service("user.rpc");
        let load = registry.load(&user, &CallOptions::DEFAULT);
        let options = CallOptions::default().with_timeout(Duration::from_millis(100));
        let impatient = async {
            loop {
                let _ = registry.keep_alive(&lease, &options).await;
            }
        };
        let loaded = tokio::select! {
            loaded = within(load) => loaded,
            () = impatient => unreachable!("it never ends"),
        };
        assert_eq!(loaded.unwrap().instances().len(), 40);
        proxy.heal();
        within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
        let after = connections(&mut operator).await;
        assert!(before.iter().all(|id| after.contains(id)), "{before:?} {after:?}");
    });
}

/// Regression: a watch ended as if its server were silent, since its check waited behind a reply that took longer than
/// the silence timeout.
#[test]
fn watch_outlives_a_reply_that_takes_longer_than_the_silence_timeout() {
    tolerating(Duration::from_secs(1), async |_| {
        let server = server(&[]).await;
        let proxy = Proxy::start(server.address().parse().unwrap()).await.unwrap();
        let direct = registry(&server).await;
        let padding = "x".repeat(50_000);
        for n in 0..20 {
            let large = instance("user.rpc", &n.to_string()).with_label("padding", &padding);
            within(direct.register(&large, &claim(), &CallOptions::DEFAULT)).await.unwrap();
        }
        let url = format!("redis://{}?ttl=3s", proxy.address());
        let registry = connect(&url, RedisOptions::default()).await.unwrap();
        let mut watch = watch_from_now(&registry, "other").await;
        proxy.inject(Fault::Throttle { bytes_per_second: 150_000 });
        let start = Instant::now();
        let loaded = load(&registry, "user.rpc").await;
        assert_eq!(loaded.instances().len(), 20);
        assert!(start.elapsed() > Duration::from_secs(5), "the link is too fast");
        proxy.heal();
        let one = instance("other", "1");
        within(direct.register(&one, &claim(), &CallOptions::DEFAULT)).await.unwrap();
        assert_eq!(next_change(&mut watch).await, "+1");
    });
}

/// Two thirds of the shortest ttl are less than the server needs for a probe at half that interval.
#[test]
fn watch_with_the_shortest_ttl_stays_open() {
    tolerating(Duration::from_millis(50), async |_| {
        let server = server(&[]).await;
        let url = format!("{}?ttl=100ms", server.url());
        let registry = connect(&url, RedisOptions::default()).await.unwrap();
        let mut watch = watch_from_now(&registry, "user.rpc").await;
        let quiet = timeout(Duration::from_secs(3), failure(&mut watch)).await;
        assert!(quiet.is_err(), "the watch ended: {quiet:?}");
    });
}
