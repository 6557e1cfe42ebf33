//! The quickstart prints the same lines on every store.

use std::time::Duration;

#[allow(dead_code)] // its `main` is not called
#[path = "../examples/quickstart.rs"]
mod quickstart;

const STORY: [&str; 8] = [
    "instances: 0",
    "the view is live",
    "alice is Up",
    "bob is Up",
    "bob is removed",
    "available: 10.0.0.1:8080",
    "alice is Draining",
    "alice is removed",
];

#[allow(dead_code)] // unused if no store is built in
async fn assert_story(url: &str) {
    let mut lines = Vec::new();
    let story = quickstart::story(url, |line| lines.push(line));
    registry_testkit::lag::timeout(Duration::from_secs(20), story)
        .await
        .expect("the quickstart hangs")
        .expect("the quickstart failed");
    assert_eq!(lines, STORY);
}

#[cfg(feature = "mem")]
#[tokio::test(start_paused = true)]
async fn story_on_memory() {
    assert_story("mem://").await;
}

#[cfg(feature = "etcd")]
#[tokio::test]
async fn story_on_etcd() {
    let server = registry_testbed::servers::Etcd::start().await.expect("etcd does not start");
    assert_story(server.url()).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn story_on_redis() {
    let server = registry_testbed::servers::Redis::start().await.expect("Redis does not start");
    assert_story(server.url()).await;
}
