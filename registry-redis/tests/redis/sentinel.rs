//! Sentinel: failovers with and without lost writes, and a partitioned primary.

use crate::support::{
    Operator, assert_service_continues, claim, connect_with_short_deadlines, failure, ids,
    instance, next_change, register, retry_while_unavailable, service, watch, watch_failure,
    watch_from_now, within, within_a_minute,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use registry_core::{CallOptions, ErrorKind, Registry, Secret};
use registry_engine::{Discovery, DiscoveryOptions, Registration, RegistrationOptions};
use registry_redis::{RedisOptions, RedisRegistry};
use registry_testbed::servers::RedisSentinel;
use std::sync::Arc;
use std::time::Duration;

async fn start() -> RedisSentinel {
    Box::pin(within_a_minute(RedisSentinel::start())).await.unwrap()
}

async fn connect(url: &str) -> registry_core::Result<RedisRegistry> {
    connect_with_short_deadlines(url, RedisOptions::default().with_shards(1)).await
}

#[tokio::test]
async fn failover_is_followed() {
    let mut servers = start().await;
    let registry = connect(&servers.url()).await.unwrap();
    let lease =
        within(registry.register(&instance("user.rpc", "1"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    let mut live = watch_from_now(&registry, "user.rpc").await;
    let mut primary = Operator::at(&servers.address(0)).await;
    assert_eq!(primary.in_sync("WAIT 2 10000").await, 2, "the replicas are not in sync");

    servers.process(0).kill().unwrap();
    assert_eq!(failure(&mut live).await, ErrorKind::Unavailable);
    within_a_minute(servers.successor_of(0)).await.unwrap();
    assert_service_continues(&registry, &lease, &live).await;
}

/// Regression: each poll, every 3 s, dialled all sentinels again: a fleet of 1,000 processes made 333 connections a
/// second to each sentinel.
#[tokio::test]
async fn sentinels_are_polled_on_connections_that_stay_open() {
    let servers = start().await;
    let url = servers.url();
    let registry = connect(&url).await.unwrap();
    register(&registry, "user.rpc", "1").await;
    let (_, rest) = url.split_once("://").unwrap();
    let addresses = rest.split('/').next().unwrap().split(',');
    let mut checks: FuturesUnordered<_> = addresses.map(assert_polled_on_one_connection).collect();
    while checks.next().await.is_some() {}
}

async fn assert_polled_on_one_connection(sentinel: &str) {
    let mut operator = Operator::at(sentinel).await;
    // The connection has existed for more than two polls, and the last poll used it.
    within(async {
        loop {
            let list: String = operator.run("CLIENT LIST").await;
            let ours = list.lines().filter(|line| line.contains(" name=registry-sentinel "));
            let [one] = ours.collect::<Vec<_>>()[..] else { continue };
            let number = |name: &str| -> u64 {
                let word = one.split(' ').find_map(|word| word.strip_prefix(name));
                word.unwrap().parse().unwrap()
            };
            if number("age=") >= 7 && number("idle=") <= 3 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn write_lost_by_a_failover_is_detected_and_repeated() {
    let mut servers = start().await;
    let registry = connect(&servers.url()).await.unwrap();
    let kept =
        within(registry.register(&instance("user.rpc", "1"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    let before = watch_from_now(&registry, "user.rpc").await.cursor().clone();
    let mut primary = Operator::at(&servers.address(0)).await;
    assert_eq!(primary.in_sync("WAIT 2 10000").await, 2, "the replicas are not in sync");

    // The next write reaches no replica, not even a replication buffer.
    for replica in [1, 2] {
        servers.process(replica).pause().unwrap();
    }
    assert_eq!(primary.run::<u64>("CLIENT KILL TYPE replica").await, 2);
    let (two, claim_of_two) = (instance("user.rpc", "2"), claim());
    let lost_lease =
        within(registry.register(&two, &claim_of_two, &CallOptions::DEFAULT)).await.unwrap();
    let beyond = watch_from_now(&registry, "user.rpc").await.cursor().clone();
    servers.process(0).kill().unwrap();
    for replica in [1, 2] {
        servers.process(replica).resume().unwrap();
    }
    within_a_minute(servers.successor_of(0)).await.unwrap();

    retry_while_unavailable(|| async { registry.keep_alive(&kept, &CallOptions::DEFAULT).await })
        .await;
    assert_eq!(ids(&registry, "user.rpc").await, ["1"], "the second write was not lost");
    let error = within(registry.keep_alive(&lost_lease, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    assert_eq!(watch_failure(&registry, "user.rpc", &beyond).await, ErrorKind::Diverged);
    let mut resumed = watch(&registry, "user.rpc", &before).await;
    let again =
        within(registry.register(&two.with_weight(7), &claim_of_two, &CallOptions::DEFAULT))
            .await
            .unwrap();
    assert_eq!(next_change(&mut resumed).await, "+2", "a cursor of the common history resumes");
    // The revision of the lost write is reused with another digest.
    assert_eq!(again.revision(), beyond.revision());
    assert_eq!(watch_failure(&registry, "user.rpc", &beyond).await, ErrorKind::Diverged);
}

#[tokio::test]
async fn registration_lost_by_a_failover_stays_in_a_view() {
    let mut servers = start().await;
    let ours = Arc::new(connect(&servers.url()).await.unwrap());
    let theirs = Arc::new(connect(&servers.url()).await.unwrap());
    let options = RegistrationOptions::default().with_ttl(Duration::from_secs(6));
    let register =
        |id| within(Registration::start(ours.clone(), instance("user.rpc", id), options.clone()));
    let _kept = register("1").await.unwrap();
    let mut view =
        Discovery::new(theirs.clone(), DiscoveryOptions::default()).view(&service("user.rpc"));
    view.ready(Duration::from_secs(10)).await.unwrap();
    let mut primary = Operator::at(&servers.address(0)).await;
    assert_eq!(primary.in_sync("WAIT 2 10000").await, 2, "the replicas are not in sync");

    for replica in [1, 2] {
        servers.process(replica).pause().unwrap();
    }
    assert_eq!(primary.run::<u64>("CLIENT KILL TYPE replica").await, 2);
    let _lost = register("2").await.unwrap();
    within(async {
        while view.state().instances().len() < 2 {
            view.changed().await.unwrap();
        }
    })
    .await;
    let before = within(theirs.load(&service("user.rpc"), &CallOptions::DEFAULT)).await.unwrap();
    servers.process(0).kill().unwrap();
    for replica in [1, 2] {
        servers.process(replica).resume().unwrap();
    }

    // The owner may register again before a load shows the loss, but then the lineage has changed. The view
    // shows both instances all the time, and in the end the store does too.
    let (mut was_lost, mut steps) = (false, 0);
    within_a_minute(async {
        loop {
            if let Ok(now) = theirs.load(&service("user.rpc"), &CallOptions::DEFAULT).await {
                was_lost |= now.lineage() != before.lineage();
                match now.instances().len() {
                    2 if was_lost && view.status().is_live() => break,
                    2 => {}
                    _ => was_lost = true,
                }
            }
            let ids: Vec<_> = view.state().records().ids().map(ToString::to_string).collect();
            assert_eq!(ids, ["1", "2"], "{:?}", view.status());
            steps += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // The replicas were paused and cut off before the write, and resumed after the primary's end, so none has it.
    assert!(was_lost && steps > 10, "there was no failover");
    // The owner has written the very same record again, under the same lease: the history is the one that was lost.
    let after = within(theirs.load(&service("user.rpc"), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(after.cursor(), before.cursor());
}

#[tokio::test]
async fn partitioned_primary_is_abandoned() {
    let servers = start().await;
    let registry = connect(&servers.url()).await.unwrap();
    register(&registry, "user.rpc", "1").await;
    let mut live = watch_from_now(&registry, "user.rpc").await;
    let mut primary = Operator::at(&servers.address(0)).await;
    assert_eq!(primary.in_sync("WAIT 2 10000").await, 2, "the replicas are not in sync");

    servers.cut_off(0);
    let three = instance("user.rpc", "3");
    let lost_lease = within(registry.register(&three, &claim(), &CallOptions::DEFAULT))
        .await
        .expect("the old primary still acknowledges");
    assert_eq!(next_change(&mut live).await, "+3");
    let successor = within_a_minute(servers.successor_of(0)).await.unwrap();
    let url = format!("redis://{}", servers.address(successor));
    let at_successor = connect(&url).await.unwrap();
    register(&at_successor, "user.rpc", "2").await;
    // The feed first notices either that the primary is another server, or that it lost a change. Resuming
    // from the cursor fails `Diverged` in both cases, see below.
    let end = failure(&mut live).await;
    assert!(matches!(end, ErrorKind::Unavailable | ErrorKind::Diverged), "{end:?}");
    let name = service("user.rpc");
    retry_while_unavailable(|| async {
        let now = registry.load(&name, &CallOptions::DEFAULT).await?;
        if now.records().find("2").is_some() { Ok(()) } else { Err(not_yet()) }
    })
    .await;
    assert_eq!(ids(&registry, "user.rpc").await, ["1", "2"], "no replica had the third instance");
    let error = within(registry.keep_alive(&lost_lease, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error:?}");
    assert_eq!(watch_failure(&registry, "user.rpc", live.cursor()).await, ErrorKind::Diverged);
    servers.heal();
    retry_while_unavailable(|| async {
        registry.register(&three, &claim(), &CallOptions::DEFAULT).await
    })
    .await;
    assert_eq!(ids(&registry, "user.rpc").await, ["1", "2", "3"]);
}

#[tokio::test]
async fn partitioned_primary_with_min_replicas_acknowledges_no_lost_write() {
    let servers = start().await;
    for n in 0..3 {
        let mut server = Operator::at(&servers.address(n)).await;
        server.run::<()>("CONFIG SET min-replicas-to-write 1 min-replicas-max-lag 1").await;
    }
    let registry = connect(&servers.url()).await.unwrap();
    register(&registry, "user.rpc", "1").await;
    servers.cut_off(0);
    // The primary notices within two seconds: the permitted lag, and the interval of its checks.
    let (two, claim_of_two) = (instance("user.rpc", "2"), claim());
    let refused = within(async {
        loop {
            match registry.register(&two, &claim_of_two, &CallOptions::DEFAULT).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => break error,
            }
        }
    });
    assert_eq!(refused.await.kind(), ErrorKind::Unavailable);
    within_a_minute(servers.successor_of(0)).await.unwrap();
    retry_while_unavailable(|| async {
        registry.register(&instance("user.rpc", "3"), &claim(), &CallOptions::DEFAULT).await
    })
    .await;
    let listed = ids(&registry, "user.rpc").await;
    assert!(listed.contains(&"1".to_owned()) && listed.contains(&"3".to_owned()), "{listed:?}");
}

/// Without this, a registration would renew its lease at the old primary until it expires at the new one.
#[tokio::test]
async fn idle_handle_learns_of_a_failover_before_its_next_call() {
    const META: &str = "HGET {registry/00}:state meta";
    let servers = start().await;
    let registry = connect(&servers.url()).await.unwrap();
    let lease =
        within(registry.register(&instance("user.rpc", "1"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    let mut primary = Operator::at(&servers.address(0)).await;
    assert_eq!(primary.in_sync("WAIT 2 10000").await, 2, "the replicas are not in sync");
    servers.cut_off(0);
    let successor = within_a_minute(servers.successor_of(0)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(7)).await; // more than two poll intervals
    // A renewal saves the lease clock on the server that receives it, and nothing else has done so since.
    let mut successor = Operator::at(&servers.address(successor)).await;
    let before: String = successor.run(META).await;
    within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
    let after: String = successor.run(META).await;
    assert_ne!(before, after, "the old primary was called");
}

/// Sentinel does not react to a partition between clients and the primary.
#[tokio::test]
async fn clients_partitioned_from_the_primary_are_unavailable_until_the_network_heals() {
    let servers = start().await;
    let registry = connect(&servers.url()).await.unwrap();
    let lease =
        within(registry.register(&instance("user.rpc", "1"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    let mut live = watch_from_now(&registry, "user.rpc").await;
    servers.cut_off_clients(0);
    let error = within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(failure(&mut live).await, ErrorKind::Unavailable);
    assert_eq!(
        within_a_minute(servers.primary()).await.unwrap(),
        0,
        "the sentinels see no failure"
    );
    servers.heal();
    retry_while_unavailable(|| async { registry.keep_alive(&lease, &CallOptions::DEFAULT).await })
        .await;
    let mut live = watch(&registry, "user.rpc", live.cursor()).await;
    register(&registry, "user.rpc", "2").await;
    assert_eq!(next_change(&mut live).await, "+2");
}

fn not_yet() -> registry_core::Error {
    registry_core::Error::new(ErrorKind::Unavailable, "not yet")
}

#[tokio::test]
async fn one_sentinel_suffices_to_connect_and_none_to_serve() {
    let mut servers = start().await;
    servers.sentinel(0).kill().unwrap();
    let registry = connect(&servers.url()).await.unwrap();
    register(&registry, "user.rpc", "1").await;
    for sentinel in [1, 2] {
        servers.sentinel(sentinel).kill().unwrap();
    }
    register(&registry, "user.rpc", "2").await;
    let error = connect(&servers.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn sentinels_receive_their_own_credentials() {
    let servers = start().await;
    let url = servers.url();
    let (_, hosts) = url.split_once("://").unwrap();
    let (hosts, _) = hosts.split_once('/').unwrap();
    for sentinel in hosts.split(',') {
        let mut sentinel = Operator::at(sentinel).await;
        sentinel.run::<()>("ACL SETUSER default resetpass >s3cret").await;
    }
    let error = connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    let with = |password| {
        let options = RedisOptions::default().with_sentinel_login(None, Secret::new(password));
        assert!(!format!("{options:?}").contains(password));
        connect_with_short_deadlines(&url, options)
    };
    let error = with("wr0ng").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    let registry = with("s3cret").await.unwrap();
    register(&registry, "user.rpc", "1").await;

    for n in 0..3 {
        let mut server = Operator::at(&servers.address(n)).await;
        server.run::<()>("ACL SETUSER app allkeys allchannels allcommands on >s3cret").await;
    }
    for sentinel in hosts.split(',') {
        let mut sentinel = Operator::of_url(&format!("redis://:s3cret@{sentinel}")).await;
        sentinel.run::<()>("ACL SETUSER app allchannels allcommands on >s3cret").await;
    }
    let same = url.replace("://", "://app:s3cret@") + "?sentinel_login=same&prefix=other";
    register(&connect(&same).await.unwrap(), "user.rpc", "2").await;
}

#[tokio::test]
async fn wrong_primary_name_and_wrong_scheme_are_invalid() {
    let servers = start().await;
    let url = servers.url().replace(RedisSentinel::NAME, "nobody");
    let error = connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    let sentinel = servers.url().replace("redis+sentinel", "redis");
    let (first, _) = sentinel.split_once(',').unwrap();
    let error = connect(first).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert!(error.to_string().contains("redis+sentinel://"), "{error}");
}
