//! Tests of etcd with users and passwords.

#![allow(clippy::unwrap_used)]

mod wire;

use std::time::Duration;

use registry_testbed::servers::{Etcd, EtcdTokens, ServerError, ServerOptions};
use tokio::time::sleep;

use self::wire::exchange;

/// Starts a server with authentication, in which `app` may use the keys that start with `k`.
async fn with_auth(tokens: EtcdTokens) -> Etcd {
    let options = ServerOptions { arguments: tokens.arguments(), ..Etcd::options() };
    let etcd = Etcd::start_with(options).await.unwrap();
    etcd.enable_auth("k").await.unwrap();
    etcd
}

/// Returns a token of a user.
async fn token(etcd: &Etcd, user: &str) -> String {
    let body = format!(r#"{{"name":"{user}","password":"{}"}}"#, Etcd::PASSWORD);
    let answer = wire::etcd(&etcd.endpoint(), "/v3/auth/authenticate", &body).await.unwrap();
    let token = answer.split('"').skip_while(|word| *word != "token").nth(2);
    token.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Reads a key, given in base64. Returns the response.
async fn range(etcd: &Etcd, token: &str, key: &str) -> String {
    let body = format!(r#"{{"key":"{key}"}}"#);
    let length = body.len();
    let head = "POST /v3/kv/range HTTP/1.0\r\n";
    let head = format!("{head}Authorization: {token}\r\nContent-Length: {length}\r\n\r\n");
    exchange(etcd.endpoint().strip_prefix("http://").unwrap(), &(head + &body)).await.unwrap()
}

/// `k/a`, which starts with the prefix.
const INSIDE: &str = "ay9h";

/// `l`, the first key after the prefix.
const OUTSIDE: &str = "bA==";

/// Asserts the permissions of both users. Returns the server, and a token of `app`.
async fn assert_permissions(tokens: EtcdTokens) -> (Etcd, String) {
    let etcd = with_auth(tokens).await;
    let (root, app) = (token(&etcd, "root").await, token(&etcd, "app").await);
    for (token, key) in [(&root, INSIDE), (&root, OUTSIDE), (&app, INSIDE)] {
        let answer = range(&etcd, token, key).await;
        assert!(answer.contains("200 OK"), "{answer}");
    }
    let answer = range(&etcd, &app, OUTSIDE).await;
    assert!(answer.contains("permission denied"), "{answer}");
    (etcd, app)
}

#[tokio::test]
async fn unused_simple_token_expires() {
    let (etcd, app) = assert_permissions(EtcdTokens::Simple).await;
    // Longer than the ttl of 2 s, since etcd looks for expired tokens once per second.
    sleep(Duration::from_secs(4)).await;
    let answer = range(&etcd, &app, INSIDE).await;
    assert!(answer.contains("invalid auth token"), "{answer}");
}

#[tokio::test]
async fn signed_token_expires() {
    let (etcd, app) = assert_permissions(EtcdTokens::Jwt).await;
    sleep(Duration::from_secs(4)).await;
    let answer = range(&etcd, &app, INSIDE).await;
    assert!(answer.contains("invalid auth token"), "{answer}");
}

#[tokio::test]
async fn server_with_auth_becomes_ready_after_a_restart() {
    let mut etcd = with_auth(EtcdTokens::Jwt).await;
    etcd.process().unwrap().restart().await.unwrap();
    let app = token(&etcd, "app").await;
    let answer = range(&etcd, &app, INSIDE).await;
    assert!(answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn auth_is_not_enabled_on_a_server_given_by_its_url() {
    let own = Etcd::start_with(ServerOptions { url: None, ..Etcd::options() }).await.unwrap();
    let url = Some(own.url().to_owned());
    let same = Etcd::start_with(ServerOptions { url, ..Etcd::options() }).await.unwrap();
    let error = same.enable_auth("k").await.unwrap_err();
    assert!(matches!(error, ServerError::NotSupported { .. }), "{error}");
    let anyone = wire::etcd(&own.endpoint(), "/v3/kv/range", wire::GET_K).await.unwrap();
    assert!(anyone.contains("200 OK"), "{anyone}");
}
