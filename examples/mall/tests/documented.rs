//! The server and the client of README.md and docs/grpc.md, with the URLs of these pages.
#![cfg(feature = "etcd")]
#![allow(clippy::unwrap_used)]

use registry_testbed::servers::Etcd;
use registry_testkit::lag::timeout;
use service_registry::grpc::{Channel, ChannelOptions, Health, channel, connect_channel};
use service_registry::serve::{ServeOptions, serve};
use service_registry::{Instance, connect};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const README: &str = include_str!("../../../README.md");
const GRPC: &str = include_str!("../../../docs/grpc.md");

/// Prevents a bug: the README had a URL with the native layout for the server and one with that of go-zero for the client,
/// so they did not find each other.
#[tokio::test]
async fn server_and_client_of_the_readme_find_each_other() {
    assert!(is_documented(README, "etcd://127.0.0.1:2379?layout=go-zero"));
    for url in ["etcd://127.0.0.1:2379", "etcd://127.0.0.1:2379?layout=go-zero"] {
        let (etcd, [url]) = started([url]).await;
        let client = connect(&url).await.unwrap();
        let view = client.discover("user.rpc").unwrap();
        within(call(&url, channel(&view, ChannelOptions::default()))).await;
        drop(etcd);
    }
}

#[tokio::test]
async fn pairs_of_a_url_and_a_target_in_the_grpc_page_find_each_other() {
    for (server, target) in [
        ("etcd://127.0.0.1:2379", "etcd://127.0.0.1:2379?service=user.rpc"),
        ("etcd://127.0.0.1:2379?layout=go-zero", "etcd:///127.0.0.1:2379?key=user.rpc"),
    ] {
        assert!(is_documented(GRPC, server) && is_documented(GRPC, target), "{server}, {target}");
        let (etcd, [server, target]) = started([server, target]).await;
        let target = target.parse().unwrap();
        let channel = connect_channel(&target, ChannelOptions::default()).await.unwrap();
        within(call(&server, channel)).await;
        drop(etcd);
    }
}

fn is_documented(document: &str, url: &str) -> bool {
    document.contains(&format!("`{url}`")) || document.contains(&format!("\"{url}\""))
}

/// Starts etcd, and returns the URLs with its address.
async fn started<const N: usize>(urls: [&str; N]) -> (Etcd, [String; N]) {
    let etcd = Etcd::start().await.unwrap();
    let here = etcd.endpoint().trim_start_matches("http://").to_owned();
    (etcd, urls.map(|url| url.replace("127.0.0.1:2379", &here)))
}

async fn within<T>(call: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), call).await.expect("the calls are answered in time")
}

/// Serves `user.rpc` in the registry `server`, and calls it through `channel`.
async fn call(server: &str, channel: Channel) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new("user.rpc", listener.local_addr().unwrap()).unwrap();
    let (reporter, health) = tonic_health::server::health_reporter();
    let (end, ended) = oneshot::channel::<()>();
    let options = ServeOptions::default()
        .with_health(Health::new(reporter))
        .with_shutdown(async { drop(ended.await) })
        .with_signals(false);
    let registry = connect(server).await.unwrap();
    let running = serve(listener, &registry, instance, options, |listener, shutdown| {
        Server::builder().add_service(health).serve_with_incoming_shutdown(listener, shutdown)
    });
    let running = tokio::spawn(running);

    channel.ready(Duration::from_secs(10)).await.unwrap();
    let mut health = HealthClient::new(channel);
    // A caller may find the server before the reply to its registration, after which it reports `SERVING`.
    let mut told = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    while told.message().await.unwrap().unwrap().status() != ServingStatus::Serving.into() {}
    drop(told);
    drop(end);
    running.await.unwrap().unwrap();
}

/// Without the listener of this library, the p99 of a caller in Go was 41 ms instead of 6 ms (Nagle's algorithm), and
/// callers in Go with two etcd hosts could not call the server.
#[test]
fn every_documented_server_uses_the_listener() {
    let serve = include_str!("../../../src/serve.rs");
    for document in [README, GRPC, serve] {
        assert!(document.contains("serve_with_incoming_shutdown(listener, shutdown)"), "tonic");
        assert!(!document.contains("TcpIncoming"));
    }
    for document in [GRPC, serve] {
        assert!(document.contains("axum::serve(listener, app)"), "axum");
    }
}
