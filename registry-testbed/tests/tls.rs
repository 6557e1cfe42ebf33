//! Tests of servers with TLS.

#![allow(clippy::unwrap_used)]

use registry_testkit::lag::timeout;
use std::time::Duration;

use registry_testbed::servers::{ClientIdentity, Etcd, EtcdCluster, ServerTls};

/// Sends a request as `identity`. Returns the response or the error.
async fn ask(tls: &ServerTls, identity: ClientIdentity, endpoint: &str) -> Result<String, String> {
    let address = endpoint.strip_prefix("https://").unwrap();
    let answer = tls.exchange(identity, address, "GET /health HTTP/1.0\r\n\r\n");
    let answer = timeout(Duration::from_secs(5), answer).await.unwrap();
    answer.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_server_that_checks_no_clients_accepts_all_that_trust_it() {
    let tls = ServerTls::generate().unwrap();
    let etcd = Etcd::start_tls(Etcd::options(), &tls).await.unwrap();
    assert_eq!(etcd.url(), etcd.endpoint().replace("https://", "etcds://"));
    for identity in [ClientIdentity::Known, ClientIdentity::Anonymous] {
        let answer = ask(&tls, identity, &etcd.endpoint()).await.unwrap();
        assert!(answer.contains("200 OK"), "{answer}");
    }
    let refusal = ask(&tls, ClientIdentity::Distrustful, &etcd.endpoint()).await.unwrap_err();
    assert!(refusal.contains("UnknownIssuer"), "{refusal}");
}

#[tokio::test]
async fn a_server_that_checks_its_clients_accepts_only_the_known_one() {
    let tls = ServerTls::mutual().unwrap();
    let etcd = Etcd::start_tls(Etcd::options(), &tls).await.unwrap();
    let answer = ask(&tls, ClientIdentity::Known, &etcd.endpoint()).await.unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
    for identity in [ClientIdentity::Anonymous, ClientIdentity::Stranger] {
        let refusal = ask(&tls, identity, &etcd.endpoint()).await.unwrap_err();
        assert!(refusal.contains("received fatal alert"), "{identity:?}: {refusal}");
    }
}

#[tokio::test]
async fn a_server_with_tls_can_be_restarted_with_authentication() {
    let tls = ServerTls::mutual().unwrap();
    let mut etcd = Etcd::start_tls(Etcd::options(), &tls).await.unwrap();
    drop(tls);
    etcd.process().unwrap().restart().await.unwrap();
    etcd.enable_auth("test/").await.unwrap();
    etcd.process().unwrap().restart().await.unwrap();
}

#[tokio::test]
async fn a_cluster_with_tls_has_a_leader_and_can_be_partitioned() {
    let tls = ServerTls::generate().unwrap();
    let mut cluster = EtcdCluster::start_tls(Etcd::options(), &tls).await.unwrap();
    assert!(cluster.url().starts_with("etcds://"), "{}", cluster.url());
    let leader = cluster.leader().await.unwrap();
    cluster.partition(leader).await.unwrap();
    let answer = ask(&tls, ClientIdentity::Anonymous, &cluster.endpoint(leader)).await.unwrap();
    assert!(answer.contains(r#""health":"false""#), "{answer}");
    cluster.heal().await.unwrap();
}
