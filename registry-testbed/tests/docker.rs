//! Tests of the server fixtures in containers, even if `PATH` has binaries. `cargo xtask images` provides the images.

#![allow(clippy::unwrap_used)]

mod wire;

use registry_testkit::lag::timeout;
use std::time::Duration;

use registry_testbed::servers::{Etcd, Redis, ServerError, ServerOptions};
use tokio::net::TcpStream;
use tokio::time::sleep;

use self::wire::{GET_K, PUT_K, V};

/// Waits until no process listens at `address`.
async fn until_closed(address: &str) {
    let gone = async {
        while TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), gone).await.unwrap();
}

/// Returns options with which only Docker can provide the server, with more arguments.
fn only_docker(options: ServerOptions, arguments: &[&str]) -> ServerOptions {
    let arguments = arguments.iter().map(ToString::to_string).collect();
    ServerOptions { url: None, path: None, arguments, ..options }
}

#[tokio::test]
async fn etcd_runs_in_docker() {
    let options = only_docker(Etcd::options(), &["--max-request-bytes=1000"]);
    let mut etcd = Etcd::start_with(options).await.unwrap();
    wire::etcd(&etcd.endpoint(), "/v3/kv/put", PUT_K).await.unwrap();
    let answer = wire::etcd(&etcd.endpoint(), "/v3/kv/range", GET_K).await.unwrap();
    assert!(answer.contains(V), "{answer}");
    let large = format!(r#"{{"key": "aw==", "value": "{}"}}"#, "dmFs".repeat(500));
    let answer = wire::etcd(&etcd.endpoint(), "/v3/kv/put", &large).await.unwrap();
    assert!(answer.contains("too large"), "the argument is not in force: {answer}");

    let error = etcd.process().unwrap_err();
    assert!(matches!(error, ServerError::NotSupported { .. }), "{error}");
    let address = etcd.endpoint().replace("http://", "");
    drop(etcd);
    until_closed(&address).await;
}

#[tokio::test]
async fn redis_runs_in_docker() {
    let options = only_docker(Redis::options(), &["--appendonly", "yes"]);
    let redis = Redis::start_with(options).await.unwrap();
    let answer = wire::redis(redis.address(), "INFO").await.unwrap();
    assert!(answer.contains("aof_enabled:1"), "the argument is not in force: {answer}");
    let address = redis.address().to_owned();
    drop(redis);
    until_closed(&address).await;
}

#[tokio::test]
async fn valkey_runs_in_docker_under_the_name_of_redis() {
    let image = "valkey/valkey:8.1".to_owned();
    let options = ServerOptions { image, ..only_docker(Redis::options(), &[]) };
    let valkey = Redis::start_with(options).await.unwrap();
    let answer = wire::redis(valkey.address(), "INFO server").await.unwrap();
    assert!(answer.contains("server_name:valkey"), "{answer}");
}

#[tokio::test]
async fn error_of_a_missing_image_names_it() {
    let image = "registry-test-no-such-image:1".to_owned();
    let options = ServerOptions { image, ..only_docker(Redis::options(), &[]) };
    let error = Redis::start_with(options).await.unwrap_err();
    assert!(matches!(error, ServerError::Docker { .. }), "{error}");
    assert!(error.to_string().contains("registry-test-no-such-image:1"), "{error}");
}
