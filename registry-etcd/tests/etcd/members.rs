//! Several endpoints: which member is used, and when the client switches.

use crate::support::{Fixture, Seen, claim, end_error, instance, name, next, put, within};
use registry_core::{CallOptions, ErrorKind, Registry, Result};
use registry_etcd::{EtcdOptions, EtcdRegistry};
use registry_testbed::proxy::{Fault, Proxy};
use registry_testkit::lag::tolerating;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// The timeout of a caller in these tests, longer than the silence timeout.
const CALL_TIMEOUT: Duration = Duration::from_millis(1_200);

async fn proxy(etcd: &Fixture) -> Proxy {
    let endpoint = etcd.server.endpoint();
    let address = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
    within(Proxy::start(address)).await.unwrap()
}

async fn connect(authorities: &str) -> Result<EtcdRegistry> {
    within(EtcdRegistry::connect(&format!("etcd://{authorities}").parse().unwrap())).await
}

/// Returns an address where no server listens.
async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn unreachable_endpoints_in_the_list_fail_no_call() {
    let etcd = Fixture::start().await;
    let endpoint = etcd.server.endpoint();
    let live = endpoint.strip_prefix("http://").unwrap();
    let (one, two) = (closed_port().await, closed_port().await);
    // The first member is random.
    for _ in 0..10 {
        let registry = connect(&format!("{one},{live},{two}")).await.unwrap();
        for _ in 0..5 {
            within(registry.load(&name("user"), &CallOptions::DEFAULT)).await.unwrap();
        }
    }
    let error = connect(&format!("{one},{two}")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&one) && error.to_string().contains(&two), "{error}");
}

#[tokio::test]
async fn connect_skips_a_silent_endpoint() {
    let etcd = Fixture::start().await;
    let endpoint = etcd.server.endpoint();
    let live = endpoint.strip_prefix("http://").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap();
    let target = format!("etcd://{silent},{live}").parse().unwrap();
    let request_timeout = CALL_TIMEOUT;
    let options = EtcdOptions { request_timeout, ..EtcdOptions::default() };
    for _ in 0..4 {
        let registry = EtcdRegistry::connect_with(&target, options.clone());
        let registry = within(registry).await.unwrap();
        within(registry.load(&name("user"), &CallOptions::DEFAULT)).await.unwrap();
    }
}

#[tokio::test]
async fn calls_and_watches_fail_over_to_the_next_member() {
    let etcd = Fixture::start().await;
    let proxies = [proxy(&etcd).await, proxy(&etcd).await];
    let [a, b] = [proxies[0].address(), proxies[1].address()];
    let registry = connect(&format!("{a},{b}")).await.unwrap();
    let user = name("user");
    let mut watched = within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
    // Stops the current member, whichever it is, and then the other one.
    for round in 0..4 {
        let mut watch =
            within(registry.watch(&user, watched.cursor(), &CallOptions::DEFAULT)).await.unwrap();
        let (down, up) = (&proxies[round % 2], &proxies[1 - round % 2]);
        up.heal();
        down.inject(Fault::Refuse);
        down.cut();
        let mut failed = 0;
        while within(registry.load(&user, &CallOptions::DEFAULT)).await.is_err() {
            failed += 1;
            assert!(failed < 3, "at most one call fails with the connection");
        }
        let one = instance("user", &round.to_string());
        within(registry.register(&one, &claim(60), &CallOptions::DEFAULT)).await.unwrap();
        // If the watch was on the stopped member, it has ended and resumes on the other.
        let batch = match within(futures_util::StreamExt::next(&mut watch)).await.unwrap() {
            Ok(batch) if !batch.is_progress() => Seen::from(batch),
            _ => {
                let mut resumed =
                    within(registry.watch(&user, watch.cursor(), &CallOptions::DEFAULT))
                        .await
                        .unwrap();
                next(&mut resumed).await
            }
        };
        assert_eq!(batch.changes, [put(&one)]);
        watched = within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
    }
}

#[test]
fn silent_connection_is_replaced_when_a_call_times_out() {
    tolerating(Duration::from_secs(5), async |lag| {
        // The sockets stay open without data, and new connections work.
        let etcd = Fixture::start().await;
        let proxy = proxy(&etcd).await;
        let options = EtcdOptions { request_timeout: CALL_TIMEOUT, ..EtcdOptions::default() };
        let url = format!("etcd://{}", proxy.address()).parse().unwrap();
        let registry = within(EtcdRegistry::connect_with(&url, options)).await.unwrap();
        let (one, user) = (instance("user", "1"), name("user"));
        let lease =
            within(registry.register(&one, &claim(60), &CallOptions::DEFAULT)).await.unwrap();
        within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.unwrap();
        let now = within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
        let mut watch =
            within(registry.watch(&user, now.cursor(), &CallOptions::DEFAULT)).await.unwrap();

        proxy.strand();
        let before_a_ping = lag.deadline(Duration::from_secs(5));
        let silent = within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await;
        assert_eq!(silent.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(proxy.hits().stranded >= 1);
        within(registry.keep_alive(&lease, &CallOptions::DEFAULT))
            .await
            .expect("on a new connection");
        assert_eq!(
            end_error(&mut watch).await,
            ErrorKind::Unavailable,
            "so that its reader can resume"
        );
        let mut resumed =
            within(registry.watch(&user, watch.cursor(), &CallOptions::DEFAULT)).await.unwrap();
        let two = instance("user", "2");
        within(registry.register(&two, &claim(60), &CallOptions::DEFAULT)).await.unwrap();
        assert_eq!(next(&mut resumed).await.changes, [put(&two)]);
        before_a_ping.assert_met();
    });
}

/// Regression: each request in flight when a link recovered waited for its whole timeout.
#[test]
fn request_on_a_dead_connection_ends_once_its_member_answers_on_another() {
    tolerating(Duration::from_secs(2), async |lag| {
        let etcd = Fixture::start().await;
        let proxy = proxy(&etcd).await;
        let url = format!("etcd://{}", proxy.address()).parse().unwrap();
        let registry = within(EtcdRegistry::connect(&url)).await.unwrap();
        let user = name("user");
        within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
        proxy.strand();
        let before_its_timeout = lag.deadline(Duration::from_secs(3));
        let error = within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(proxy.hits().stranded >= 1);
        within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
        before_its_timeout.assert_met();
    });
}

/// Regression: the first request of a deregistration used the caller's whole timeout, so the lease was not revoked and
/// the instance stayed until its ttl had passed.
#[tokio::test]
async fn deregistration_without_an_answer_to_its_first_request_revokes_the_lease() {
    let etcd = Fixture::start().await;
    let proxy = proxy(&etcd).await;
    let registry = connect(&proxy.address().to_string()).await.unwrap();
    let options = CallOptions::DEFAULT;
    let lease = within(registry.register(&instance("user", "1"), &claim(60), &options)).await;
    proxy.strand();
    let options = options.with_timeout(2 * CALL_TIMEOUT);
    within(registry.deregister(&lease.unwrap(), &options)).await.unwrap();
    assert!(etcd.load("user").await.records().is_empty());
    assert!(etcd.leases().await.is_empty());
}

#[tokio::test]
async fn call_cancelled_at_once_does_not_close_the_connection() {
    let etcd = Fixture::start().await;
    let proxy = proxy(&etcd).await;
    let registry = connect(&proxy.address().to_string()).await.unwrap();
    let user = name("user");
    let now = within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
    let mut watch =
        within(registry.watch(&user, now.cursor(), &CallOptions::DEFAULT)).await.unwrap();
    for _ in 0..50 {
        drop(
            timeout(Duration::from_micros(100), registry.load(&user, &CallOptions::DEFAULT)).await,
        );
    }
    let one = instance("user", "1");
    etcd.register(&one, &claim(60)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&one)], "the watch is open");
}

/// A slow response does not mean a dead connection. A caller with a short timeout must not affect others.
#[tokio::test]
async fn caller_with_a_short_timeout_ends_no_watch_and_avoids_a_silent_connection() {
    let etcd = Fixture::start().await;
    let proxy = proxy(&etcd).await;
    let registry = connect(&proxy.address().to_string()).await.unwrap();
    let (user, options) = (name("user"), CallOptions::DEFAULT);
    let now = within(registry.load(&user, &options)).await.unwrap();
    let mut watch = within(registry.watch(&user, now.cursor(), &options)).await.unwrap();
    // Everything arrives, but later than the caller waits.
    let slow = CALL_TIMEOUT + Duration::from_millis(300);
    proxy.inject(Fault::Delay { each: slow, jitter: Duration::ZERO });
    let impatient = options.with_timeout(CALL_TIMEOUT);
    let error = within(registry.load(&user, &impatient)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("caller's timeout"), "{error}");
    let one = instance("user", "1");
    etcd.register(&one, &claim(60)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&one)], "the watch is open");
    proxy.heal();
    within(registry.load(&user, &options)).await.unwrap();
    let two = instance("user", "2");
    etcd.register(&two, &claim(60)).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&two)], "also after the sign of life");
}
