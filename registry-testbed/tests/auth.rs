//! etcd with users and passwords.

#![allow(clippy::unwrap_used)]

mod wire;

use std::time::Duration;

use registry_testbed::servers::{Etcd, EtcdTokens, ServerError, ServerOptions};
use tokio::time::sleep;

use self::wire::exchange;

/// A server with the users, where `app` may use what begins with `k`.
async fn locked(tokens: EtcdTokens) -> Etcd {
    let options = ServerOptions { arguments: tokens.arguments(), ..Etcd::options() };
    let etcd = Etcd::start_with(options).await.unwrap();
    etcd.enable_auth("k").await.unwrap();
    etcd
}

/// The token for a user.
async fn token(etcd: &Etcd, user: &str) -> String {
    let body = format!(r#"{{"name":"{user}","password":"{}"}}"#, Etcd::PASSWORD);
    let answer = wire::etcd(&etcd.endpoint(), "/v3/auth/authenticate", &body).await.unwrap();
    let token = answer.split('"').skip_while(|word| *word != "token").nth(2);
    token.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// The answer to the question for a key, in base64.
async fn range(etcd: &Etcd, token: &str, key: &str) -> String {
    let body = format!(r#"{{"key":"{key}"}}"#);
    let length = body.len();
    let head = "POST /v3/kv/range HTTP/1.0\r\n";
    let head = format!("{head}Authorization: {token}\r\nContent-Length: {length}\r\n\r\n");
    exchange(etcd.endpoint().strip_prefix("http://").unwrap(), &(head + &body)).await.unwrap()
}

/// `k/a`, which begins with the prefix.
const INSIDE: &str = "ay9h";

/// `l`, the first key after those.
const OUTSIDE: &str = "bA==";

async fn each_user_may_do_its_own(tokens: EtcdTokens) -> (Etcd, String) {
    let etcd = locked(tokens).await;
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
async fn a_token_that_nobody_uses_is_forgotten() {
    let (etcd, app) = each_user_may_do_its_own(EtcdTokens::Simple).await;
    // Time must pass in which nothing is asked. It looks for them every second.
    sleep(Duration::from_secs(4)).await;
    let answer = range(&etcd, &app, INSIDE).await;
    assert!(answer.contains("invalid auth token"), "{answer}");
}

#[tokio::test]
async fn a_signed_token_expires() {
    let (etcd, app) = each_user_may_do_its_own(EtcdTokens::Jwt).await;
    sleep(Duration::from_secs(4)).await;
    let answer = range(&etcd, &app, INSIDE).await;
    assert!(answer.contains("invalid auth token"), "{answer}");
}

#[tokio::test]
async fn a_locked_server_becomes_ready_again_after_a_restart() {
    let mut etcd = locked(EtcdTokens::Jwt).await;
    etcd.process().unwrap().restart().await.unwrap();
    let app = token(&etcd, "app").await;
    let answer = range(&etcd, &app, INSIDE).await;
    assert!(answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn the_server_of_somebody_else_is_not_locked() {
    let own = Etcd::start_with(ServerOptions { url: None, ..Etcd::options() }).await.unwrap();
    let url = Some(own.url().to_owned());
    let same = Etcd::start_with(ServerOptions { url, ..Etcd::options() }).await.unwrap();
    let error = same.enable_auth("k").await.unwrap_err();
    assert!(matches!(error, ServerError::NotSupported { .. }), "{error}");
    let anyone = wire::etcd(&own.endpoint(), "/v3/kv/range", wire::GET_K).await.unwrap();
    assert!(anyone.contains("200 OK"), "{anyone}");
}
