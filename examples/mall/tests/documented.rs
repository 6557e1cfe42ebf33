//! The server and the client of the README and of docs/grpc.md, on the URLs that stand there.
#![cfg(feature = "etcd")]
#![allow(clippy::unwrap_used)]

use registry_testbed::servers::Etcd;
use registry_testkit::lag::timeout;
use service_registry::grpc::connect_channel;
use service_registry::grpc::{ChannelOptions, Health};
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

/// The README had the server register in the native layout and the client look in go-zero's: they did
/// not find each other.
#[tokio::test]
async fn the_documented_pairs_find_each_other() {
    for document in [README, GRPC] {
        for (server, client) in [
            ("etcd://127.0.0.1:2379", "etcd://127.0.0.1:2379?service=user.rpc"),
            ("etcd://127.0.0.1:2379?layout=go-zero", "etcd:///127.0.0.1:2379?key=user.rpc"),
        ] {
            for url in [format!("`{server}`"), format!("`{client}`")] {
                let quoted = url.replace('`', "\"");
                assert!(document.contains(&url) || document.contains(&quoted), "{url}");
            }
            let etcd = Etcd::start().await.unwrap();
            let here = etcd.endpoint().trim_start_matches("http://").to_owned();
            let [server, client] = [server, client].map(|url| url.replace("127.0.0.1:2379", &here));
            let called = timeout(Duration::from_secs(20), call(&server, &client)).await;
            called.unwrap_or_else(|_| panic!("no call is answered: {server}, {client}"));
        }
    }
}

/// Serves `user.rpc` in the registry `server`, and calls it through a channel to `client`.
async fn call(server: &str, client: &str) {
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

    let channel =
        connect_channel(&client.parse().unwrap(), ChannelOptions::default()).await.unwrap();
    channel.ready(Duration::from_secs(10)).await.unwrap();
    let mut health = HealthClient::new(channel);
    // A caller may find the server before the server's own registration is answered: only then it
    // reports that it serves.
    let mut told = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    while told.message().await.unwrap().unwrap().status() != ServingStatus::Serving.into() {}
    drop(told);
    drop(end);
    running.await.unwrap().unwrap();
}

/// With Nagle's algorithm the p99 of a caller in Go was 41 ms instead of 6 ms, and callers in Go that know
/// two hosts of etcd could not call a server without the listener of this library.
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
