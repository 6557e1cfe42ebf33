//! Tests of the etcd cluster with servers from `PATH`.

#![allow(clippy::unwrap_used)]

mod wire;

use registry_testkit::lag::timeout;
use std::time::Duration;

use registry_testbed::servers::EtcdCluster;

use self::wire::{GET_K, PUT_K, V};

async fn cluster() -> EtcdCluster {
    EtcdCluster::start().await.unwrap()
}

/// Calls a member. `None` without a response in time, as from a member without a leader.
async fn call(cluster: &EtcdCluster, member: usize, path: &str, body: &str) -> Option<String> {
    let endpoint = cluster.endpoint(member);
    timeout(Duration::from_secs(2), wire::etcd(&endpoint, path, body)).await.ok()?.ok()
}

async fn writes(cluster: &EtcdCluster, member: usize) -> bool {
    let answer = call(cluster, member, "/v3/kv/put", PUT_K).await;
    answer.is_some_and(|answer| answer.contains("200 OK"))
}

async fn reads(cluster: &EtcdCluster, member: usize) -> bool {
    let answer = call(cluster, member, "/v3/kv/range", GET_K).await;
    answer.is_some_and(|answer| answer.contains(V))
}

#[tokio::test]
async fn all_members_serve_the_same_store() {
    let cluster = cluster().await;
    let addresses: Vec<_> = (0..3).map(|member| cluster.endpoint(member)).collect();
    let addresses = addresses.join(",").replace("http://", "");
    assert_eq!(cluster.url(), format!("etcd://{addresses}"));
    assert!(writes(&cluster, 0).await);
    for member in 0..3 {
        assert!(reads(&cluster, member).await, "{member}");
    }
}

#[tokio::test]
async fn cluster_elects_a_leader_after_a_kill() {
    let mut cluster = cluster().await;
    let killed = cluster.leader().await.unwrap();
    cluster.process(killed).kill().unwrap();
    let leader = cluster.leader().await.unwrap();
    assert_ne!(leader, killed);
    let other = 3 - killed - leader;
    assert!(writes(&cluster, other).await);
    cluster.process(killed).restart().await.unwrap();
    assert!(reads(&cluster, killed).await);
}

#[tokio::test]
async fn cluster_elects_a_leader_during_a_pause() {
    let mut cluster = cluster().await;
    let paused = cluster.leader().await.unwrap();
    cluster.process(paused).pause().unwrap();
    let leader = cluster.leader().await.unwrap();
    assert_ne!(leader, paused);
    assert!(writes(&cluster, leader).await);
    cluster.process(paused).resume().unwrap();
    cluster.rejoined(paused).await.unwrap();
    assert!(reads(&cluster, paused).await);
}

#[tokio::test]
async fn partitioned_leader_refuses_writes_and_the_others_elect_another() {
    let mut cluster = cluster().await;
    let isolated = cluster.leader().await.unwrap();
    cluster.partition(isolated).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    assert_ne!(leader, isolated);
    assert!(!writes(&cluster, isolated).await);
    assert!(writes(&cluster, leader).await);
    // The member still runs: it answers serializable reads.
    let stale =
        call(&cluster, isolated, "/v3/kv/range", r#"{"key": "aw==", "serializable": true}"#);
    let stale = stale.await.unwrap();
    assert!(stale.contains("200 OK") && !stale.contains(V), "{stale}");

    cluster.heal().await.unwrap();
    assert!(reads(&cluster, isolated).await);
}

#[tokio::test]
async fn partitioned_follower_refuses_writes_and_the_leader_stays() {
    let mut cluster = cluster().await;
    let leader = cluster.leader().await.unwrap();
    let isolated = (leader + 1) % 3;
    cluster.partition(isolated).await.unwrap();
    assert_eq!(cluster.leader().await.unwrap(), leader);
    assert!(!writes(&cluster, isolated).await);
    assert!(writes(&cluster, leader).await);

    // A partition of another member ends the first one.
    cluster.partition(leader).await.unwrap();
    assert!(!writes(&cluster, leader).await);
    assert!(writes(&cluster, isolated).await);
    cluster.heal().await.unwrap();
    assert!(reads(&cluster, leader).await);
}

#[tokio::test]
async fn wiped_cluster_restarts_empty() {
    let mut cluster = cluster().await;
    assert!(writes(&cluster, 0).await);
    cluster.restart_all().await.unwrap();
    assert!(reads(&cluster, 0).await);
    for member in 0..3 {
        cluster.process(member).wipe().unwrap();
    }
    cluster.restart_all().await.unwrap();
    let answer = call(&cluster, 0, "/v3/kv/range", GET_K).await.unwrap();
    assert!(answer.contains("200 OK") && !answer.contains(V), "{answer}");
}
