//! A long random run over connections that are cut all the time.

use crate::support::{Fixture, within};
use registry_etcd::EtcdRegistry;
use registry_testbed::Soak;
use registry_testbed::proxy::Proxy;
use std::sync::Arc;

/// The number of changes, if not the short form. `cargo xtask matrix etcd` runs the long form.
const CHANGES: &str = "REGISTRY_TEST_CHANGES";

#[tokio::test]
async fn soak_over_cut_connections_keeps_the_contract() {
    let changes = std::env::var(CHANGES).map_or(1_000, |count| count.parse().expect(CHANGES));
    let etcd = Fixture::start().await;
    let endpoint = etcd.server.endpoint();
    let address = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
    let proxies = [Proxy::start(address).await.unwrap(), Proxy::start(address).await.unwrap()];
    // Two addresses of the same member, so that the client can switch.
    let url = format!("etcd://{},{}", proxies[0].address(), proxies[1].address());
    let disturbed = within(EtcdRegistry::connect(&url.parse().unwrap())).await.unwrap();
    let seed = fastrand::u64(..);
    println!("seed {seed}"); // of the operations; their timing is not reproducible
    let disturb = || {
        for proxy in &proxies {
            if fastrand::bool() { proxy.cut() } else { proxy.reset() }
        }
    };
    let direct = Arc::new(etcd.registry.clone());
    let run = Soak { disturbed: Arc::new(disturbed), direct, disturb, changes, seed };
    let endured = run.run().await;
    println!("{endured:?}");
    let struck = proxies.iter().map(|proxy| proxy.hits().cut + proxy.hits().reset).sum::<u64>();
    assert!(struck > 0 && endured.failures > 0, "nothing was disturbed: {endured:?}");
}
