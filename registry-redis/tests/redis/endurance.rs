//! A long random run over connections that are cut all the time.

use crate::support::{connect, registry, server};
use registry_redis::RedisOptions;
use registry_testkit::Endurance;
use registry_testkit::proxy::Proxy;
use std::sync::Arc;

/// How many changes to see, if not a few.
const CHANGES: &str = "REGISTRY_TEST_CHANGES";

#[tokio::test]
async fn no_law_is_broken_in_a_long_run_over_connections_that_are_cut() {
    let changes = std::env::var(CHANGES).map_or(1_000, |count| count.parse().expect(CHANGES));
    let server = server(&[]).await;
    let proxy = Proxy::start(server.address().parse().unwrap()).await.unwrap();
    let url = format!("redis://{}", proxy.address());
    let disturbed = Arc::new(connect(&url, RedisOptions::default()).await.unwrap());
    let direct = Arc::new(registry(&server).await);
    let seed = fastrand::u64(..);
    println!("seed {seed}"); // of what is done; when it is done is not in our hands
    let disturb = || if fastrand::bool() { proxy.cut() } else { proxy.reset() };
    let endured = Endurance { disturbed, direct, disturb, changes, seed }.run().await;
    println!("{endured:?}");
    let struck = proxy.hits().cut + proxy.hits().reset;
    assert!(struck > 0 && endured.failures > 0, "nothing was disturbed: {endured:?}");
}
