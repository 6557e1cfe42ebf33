//! Lazy handles, and what their first calls do.

use crate::support::{Fixture, claim, instance, name, within};
use futures_util::FutureExt;
use futures_util::future::join_all;
use registry_core::{CallOptions, ErrorKind, Registry};
use registry_etcd::EtcdRegistry;
use registry_testbed::proxy::{Fault, Proxy};
use registry_testbed::servers::{Etcd, EtcdTokens, ServerOptions};
use registry_testkit::lag::tolerating;
use std::net::TcpListener;
use std::pin::pin;
use std::time::Duration;

fn lazy(url: &str) -> EtcdRegistry {
    EtcdRegistry::connect_lazy(&url.parse().unwrap()).unwrap()
}

#[test]
fn lazy_handle_needs_neither_a_runtime_nor_a_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let registry = lazy(&format!("etcd://{}", listener.local_addr().unwrap()));
    assert_eq!(registry.default_ttl(), None);
    assert!(listener.accept().is_err(), "no connection is made");
}

#[tokio::test]
async fn each_call_makes_the_initial_read_until_one_succeeds() {
    let mut etcd = Fixture::start().await;
    let registry = lazy(etcd.server.url());
    let user = name("user");
    // Loading an empty service also looks for it in other layouts.
    etcd.register(&instance("user", "1"), &claim(60)).await.unwrap();
    etcd.server.process().unwrap().kill().unwrap();
    for _ in 0..2 {
        let error = within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.to_string().contains("endpoints=`"), "{error}");
    }
    within(etcd.server.process().unwrap().restart()).await.unwrap();
    within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
    let reads = "etcd_debugging_mvcc_range_total";
    let before = etcd.metric(reads).await;
    within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
    let load = etcd.metric(reads).await - before;
    within(lazy(etcd.server.url()).load(&user, &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(etcd.metric(reads).await - before, 2 * load + 1, "the check runs once");
}

#[tokio::test]
async fn dropped_first_call_does_not_end_the_initial_read_of_others() {
    let etcd = Fixture::start().await;
    let registry = lazy(etcd.server.url());
    let user = name("user");
    let mut second = pin!(registry.load(&user, &CallOptions::DEFAULT));
    {
        let mut first = pin!(registry.load(&user, &CallOptions::DEFAULT));
        assert!(first.as_mut().now_or_never().is_none(), "the first call connects");
        assert!(second.as_mut().now_or_never().is_none(), "the second call waits for the first");
    }
    within(second).await.unwrap();
}

#[test]
fn hanging_initial_read_blocks_no_other_call() {
    tolerating(Duration::from_secs(1), async |lag| {
        let etcd = Fixture::start().await;
        let address = etcd.server.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
        let proxy = within(Proxy::start(address)).await.unwrap();
        let registry = lazy(&format!("etcd://{}", proxy.address()));
        proxy.inject(Fault::Blackhole);
        let patient = tokio::spawn({
            let registry = registry.clone();
            async move { registry.load(&name("user"), &CallOptions::DEFAULT).await }
        });
        let hurried = CallOptions::default().with_timeout(Duration::from_secs(2));
        let error = within(registry.load(&name("user"), &hurried)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        // The open connection stays dead, and new ones work.
        proxy.strand();
        proxy.heal();
        let deadline = lag.deadline(Duration::from_secs(2));
        within(registry.load(&name("user"), &CallOptions::DEFAULT)).await.unwrap();
        deadline.assert_met();
        assert!(!patient.is_finished(), "it still waits on its dead connection");
        drop(within(patient).await.unwrap());
    });
}

#[test]
fn a_wrong_password_is_denied_to_each_call_and_concurrent_calls_share_the_attempt() {
    // Calls share an attempt for at most a quarter of a second.
    tolerating(Duration::from_millis(100), async |_| denied_to_each_call().await);
}

async fn denied_to_each_call() {
    let arguments = EtcdTokens::Simple.arguments();
    let options = ServerOptions { url: None, arguments, ..Etcd::options() };
    let etcd = Fixture::over(within(Etcd::start_with(options)).await.unwrap(), "").await;
    within(etcd.server.enable_auth("registry/")).await.unwrap();
    let attempts = "grpc_server_started_total{grpc_method=\"Authenticate\",grpc_service=\"etcdserverpb.Auth\",grpc_type=\"unary\"}";
    let registry = lazy(&etcd.server.url().replace("etcd://", "etcd://app:wrong@"));
    let user = name("user");
    for round in 1..=2 {
        let before = etcd.metric(attempts).await;
        let loads = (0..20).map(|_| registry.load(&user, &CallOptions::DEFAULT));
        for loaded in within(join_all(loads)).await {
            let error = loaded.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        }
        assert_eq!(etcd.metric(attempts).await - before, 1, "round {round}");
    }
    // A missing permission is found by the first call that needs it, as after `connect`.
    let login = format!("etcd://app:{}@", Etcd::PASSWORD);
    let other_url = format!("{}/elsewhere", etcd.server.url().replace("etcd://", &login));
    let error = within(lazy(&other_url).services(&CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    let registry = lazy(&etcd.server.url().replace("etcd://", &login));
    within(registry.load(&user, &CallOptions::DEFAULT)).await.unwrap();
}

/// The same with a user, whose connection begins with a login request. Without sharing limits, the others
/// would wait for 5 s.
#[test]
fn hanging_login_blocks_no_other_call() {
    tolerating(Duration::from_secs(1), async |lag| {
        let arguments = EtcdTokens::Simple.arguments();
        let options = ServerOptions { url: None, arguments, ..Etcd::options() };
        let etcd = Fixture::over(within(Etcd::start_with(options)).await.unwrap(), "").await;
        within(etcd.server.enable_auth("registry/")).await.unwrap();
        let address = etcd.server.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
        let proxy = within(Proxy::start(address)).await.unwrap();
        let registry = lazy(&format!("etcd://app:{}@{}", Etcd::PASSWORD, proxy.address()));
        proxy.inject(Fault::Blackhole);
        let patient = tokio::spawn({
            let registry = registry.clone();
            async move { registry.load(&name("user"), &CallOptions::DEFAULT).await }
        });
        within(async {
            while proxy.hits().frozen_connections == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        // As a registration with a ttl of 3 s, whose requests may take 0.8 s.
        let hurried = CallOptions::default().with_timeout(Duration::from_millis(800));
        // The open connection stays dead, and new ones work.
        proxy.strand();
        proxy.heal();
        let deadline = lag.deadline(Duration::from_secs(2));
        while within(registry.load(&name("user"), &hurried)).await.is_err() {}
        deadline.assert_met();
        drop(within(patient).await.unwrap());
    });
}
