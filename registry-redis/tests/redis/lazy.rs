//! Lazy handles, and what their first calls do.

use crate::support::{Operator, server, service, within};
use futures_util::FutureExt;
use futures_util::future::join_all;
use registry_core::{CallOptions, ErrorKind, Registry, Result, Snapshot};
use registry_redis::{RedisOptions, RedisRegistry};
use std::net::TcpListener;
use std::pin::pin;

fn lazy(url: &str) -> RedisRegistry {
    RedisRegistry::connect_lazy(&url.parse().unwrap()).unwrap()
}

async fn load(registry: &RedisRegistry) -> Result<Snapshot> {
    within(registry.load(&service("user.rpc"), &CallOptions::DEFAULT)).await
}

#[test]
fn lazy_handle_needs_neither_a_runtime_nor_a_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    for scheme in ["redis://", "redis+sentinel://", "redis+cluster://"] {
        let path = if scheme.contains("sentinel") { "/mymaster" } else { "" };
        let registry = lazy(&format!("{scheme}{address}{path}"));
        assert_eq!(registry.default_ttl(), None);
    }
    assert!(listener.accept().is_err(), "no connection is made");
}

#[test]
fn invalid_url_or_option_is_refused_without_a_server() {
    let connect = |url: &str, options| {
        RedisRegistry::connect_lazy_with(&url.parse().unwrap(), options).unwrap_err().kind()
    };
    assert_eq!(connect("redis://h?prefx=a", RedisOptions::default()), ErrorKind::Invalid);
    let options = RedisOptions::default().with_log_cap(0);
    assert_eq!(connect("redis://h", options), ErrorKind::Invalid);
}

#[tokio::test]
async fn call_connects_once_the_server_is_up() {
    let mut server = server(&[]).await;
    let registry = lazy(server.url());
    server.process().unwrap().kill().unwrap();
    for _ in 0..2 {
        assert_eq!(load(&registry).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    within(server.process().unwrap().restart()).await.unwrap();
    load(&registry).await.unwrap();
}

#[tokio::test]
async fn concurrent_first_calls_share_a_connection_and_a_check_of_the_layout() {
    let server = server(&[]).await;
    let mut operator = Operator::of(&server).await;
    let registry = lazy(server.url());
    let user = service("user.rpc");
    let loads = (0..20).map(|_| registry.load(&user, &CallOptions::DEFAULT));
    for loaded in within(join_all(loads)).await {
        loaded.unwrap();
    }
    assert_eq!(operator.connections("registry").await, 1);
    let info: String = operator.run("INFO commandstats").await;
    // Only the script that checks the layout uses HSETNX, twice.
    let checks = info.lines().find(|line| line.starts_with("cmdstat_hsetnx:")).unwrap();
    assert!(checks.starts_with("cmdstat_hsetnx:calls=2,"), "{checks}");
}

#[tokio::test]
async fn dropped_first_call_does_not_end_the_first_contact_of_others() {
    let server = server(&[]).await;
    let registry = lazy(server.url());
    let user = service("user.rpc");
    let mut second = pin!(registry.load(&user, &CallOptions::DEFAULT));
    {
        let mut first = pin!(registry.load(&user, &CallOptions::DEFAULT));
        assert!(first.as_mut().now_or_never().is_none(), "the first call connects");
        assert!(second.as_mut().now_or_never().is_none(), "the second call waits for the first");
    }
    within(second).await.unwrap();
}

#[tokio::test]
async fn server_that_evicts_keys_is_invalid_to_each_call_until_it_is_corrected() {
    let server = server(&["--maxmemory-policy", "allkeys-lru"]).await;
    let registry = lazy(server.url());
    for _ in 0..2 {
        let error = load(&registry).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("allkeys-lru"), "{error}");
    }
    let mut operator = Operator::of(&server).await;
    operator.run::<()>("CONFIG SET maxmemory-policy noeviction").await;
    load(&registry).await.unwrap();
}

#[tokio::test]
async fn prefix_of_another_layout_is_invalid_to_each_call() {
    let server = server(&[]).await;
    let target = server.url().parse().unwrap();
    let options = RedisOptions::default().with_shards(1);
    within(RedisRegistry::connect_with(&target, options)).await.unwrap();
    let registry = lazy(server.url());
    for _ in 0..2 {
        let error = load(&registry).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
        assert!(error.to_string().contains("another layout"), "{error}");
    }
}

#[tokio::test]
async fn wrong_password_is_denied_to_each_call() {
    let server = server(&["--requirepass", "s3cret"]).await;
    let registry = lazy(&server.url().replace("redis://", "redis://:wrong@"));
    for _ in 0..2 {
        let error = load(&registry).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    }
    let registry = lazy(&server.url().replace("redis://", "redis://:s3cret@"));
    load(&registry).await.unwrap();
}
