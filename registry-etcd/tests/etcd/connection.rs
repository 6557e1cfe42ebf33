//! Servers that are absent, do not answer, or refuse.

use crate::support::{Fixture, claim, end_error, instance, name, within};
use registry_core::{CallOptions, ErrorKind, Registry};
use registry_etcd::{EtcdOptions, EtcdRegistry};
use registry_testkit::lag::tolerating;
use std::error::Error as _;
use std::time::Duration;
use tokio::net::TcpListener;

/// Short timeouts, also for dead connections.
fn short_timeouts() -> EtcdOptions {
    EtcdOptions {
        request_timeout: Duration::from_millis(500),
        connect_timeout: Duration::from_millis(500),
        ping_interval: Duration::from_secs(1),
        ping_timeout: Duration::from_secs(1),
        ..EtcdOptions::default()
    }
}

#[tokio::test]
async fn connect_to_a_closed_port_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let target = format!("etcd://{address}").parse().unwrap();
    let error = within(EtcdRegistry::connect(&target)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), format!("cannot connect to etcd, endpoints=`[\"{address}\"]`"));
    let why = error.source().unwrap().to_string();
    assert!(why.to_lowercase().contains("connection refused"), "{why}");
}

#[tokio::test]
async fn connect_to_a_silent_server_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("etcd://{}", listener.local_addr().unwrap()).parse().unwrap();
    let error = within(EtcdRegistry::connect_with(&target, short_timeouts())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.source().unwrap().to_string(), "no answer within 500ms");
}

#[test]
fn paused_server_makes_every_call_unavailable_in_time() {
    tolerating(Duration::from_secs(2), async |lag| {
        let mut etcd = Fixture::start().await;
        let target = etcd.server.url().parse().unwrap();
        let registry = within(EtcdRegistry::connect_with(&target, short_timeouts())).await.unwrap();
        let (one, user, claim) = (instance("user", "1"), name("user"), claim(60));
        let lease = within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();
        let now = within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
        let mut quiet =
            within(registry.watch(&user, now.cursor(), &CallOptions::DEFAULT)).await.unwrap();

        etcd.server.process().unwrap().pause().unwrap();
        // Seven requests of half a second each, since a withdrawal makes two.
        let deadline = lag.deadline(Duration::from_secs(4));
        let failures = [
            within(registry.register(&one, &claim, &CallOptions::DEFAULT)).await.map(drop),
            within(registry.keep_alive(&lease, &CallOptions::DEFAULT)).await.map(drop),
            within(registry.deregister(&lease, &CallOptions::DEFAULT)).await,
            within(registry.load(&user, &CallOptions::DEFAULT)).await.map(drop),
            within(registry.watch(&user, now.cursor(), &CallOptions::DEFAULT)).await.map(drop),
            within(registry.services(&CallOptions::DEFAULT)).await.map(drop),
        ];
        deadline.assert_met();
        for failure in failures {
            assert_eq!(failure.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        assert_eq!(end_error(&mut quiet).await, ErrorKind::Unavailable);

        etcd.server.process().unwrap().resume().unwrap();
        // Requests sent during the pause may still be executed, including the revocation.
        within(async {
            while registry.register(&one, &claim, &CallOptions::DEFAULT).await.is_err() {}
        })
        .await;
        assert_eq!(
            etcd.load("user").await.records().find("1").map(registry_core::Record::instance),
            Some(&one)
        );
    });
}

#[tokio::test]
async fn killed_server_makes_calls_unavailable_until_its_restart() {
    let mut etcd = Fixture::start().await;
    let mut watch = etcd.watch("user").await;
    etcd.server.process().unwrap().kill().unwrap();
    assert_eq!(end_error(&mut watch).await, ErrorKind::Unavailable);
    let error = within(etcd.registry.load(&name("user"), &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    within(etcd.server.process().unwrap().restart()).await.unwrap();
    etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
}

#[tokio::test]
async fn server_with_authentication_denies() {
    let etcd = Fixture::start().await;
    let lease = etcd.register(&instance("user", "1"), &claim(10)).await.unwrap();
    let now = etcd.load("user").await;
    let mut auth = etcd.raw.auth_client();
    within(auth.user_add("root", "s3cret", None)).await.unwrap();
    within(auth.user_grant_role("root", "root")).await.unwrap();
    within(auth.auth_enable()).await.unwrap();

    let (one, user, other) = (instance("user", "1"), name("user"), claim(10));
    let failures = [
        etcd.register(&one, &other).await.map(drop),
        etcd.deregister(&lease).await,
        within(etcd.registry.load(&user, &CallOptions::DEFAULT)).await.map(drop),
        within(etcd.registry.services(&CallOptions::DEFAULT)).await.map(drop),
        within(EtcdRegistry::connect(&etcd.server.url().parse().unwrap())).await.map(drop),
    ];
    for failure in failures {
        assert_eq!(failure.unwrap_err().kind(), ErrorKind::Denied);
    }
    assert_eq!(etcd.watch_error("user", now.cursor()).await, ErrorKind::Denied);
}

#[tokio::test]
async fn debug_shows_the_endpoints() {
    let etcd = Fixture::start().await;
    let shown = format!("{:?}", etcd.registry);
    let endpoint = etcd.server.endpoint();
    let address = endpoint.strip_prefix("http://").unwrap();
    assert!(shown.contains(address) && shown.contains("registry/"), "{shown}");
}
