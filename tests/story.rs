//! The quickstart prints the same lines on every store.

use std::time::Duration;

#[allow(dead_code)] // its `main` is for people
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

#[allow(dead_code)] // by the features there may be no store to tell it on
async fn tell(url: &str) {
    let mut told = Vec::new();
    let story = quickstart::story(url, |line| told.push(line));
    registry_testkit::lag::timeout(Duration::from_secs(20), story)
        .await
        .expect("it ends")
        .expect("it is told");
    assert_eq!(told, STORY);
}

#[cfg(feature = "mem")]
#[tokio::test(start_paused = true)]
async fn on_memory() {
    tell("mem://").await;
}

#[cfg(feature = "etcd")]
#[tokio::test]
async fn on_etcd() {
    let server = registry_testbed::servers::Etcd::start().await.expect("a server");
    tell(server.url()).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn on_redis() {
    let server = registry_testbed::servers::Redis::start().await.expect("a server");
    tell(server.url()).await;
}
