//! The ttl of a URL is the default of registrations and views.
#![allow(clippy::unwrap_used)]

use registry_core::CallOptions;
use registry_testkit::lag::timeout;
use service_registry::store::{Claim, LeaseId, Registry};
use service_registry::{ErrorKind, Instance, Registration, RegistrationOptions, connect};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(5);

#[allow(dead_code)] // unused if no store is built in
async fn a_default_registration_uses_the_ttl_of(url: &str) {
    let test = async {
        let registry = connect(url).await.unwrap().registry().clone();
        assert_eq!(registry.default_ttl(), Some(TTL), "the default of views");
        let lease = LeaseId::random();
        let id = lease.to_string().parse().unwrap();
        let node = Instance::from_parts("a".parse().unwrap(), id, "10.0.0.1:80".parse().unwrap());
        let options = RegistrationOptions::default().with_lease(lease);
        let registration = Registration::start(registry.clone(), node, options).await.unwrap();
        assert_registered_for_ttl(&*registry, &registration, lease).await;
        registration.stop().await.unwrap();
    };
    timeout(Duration::from_secs(20), test).await.expect("the test hangs");
}

/// Asserts the ttl of a registration. A store refuses a lease id that is in use with another ttl.
#[allow(dead_code)] // unused if no store is built in
async fn assert_registered_for_ttl(
    registry: &dyn Registry,
    registration: &Registration,
    lease: LeaseId,
) {
    let node = registration.instance();
    let claim = |ttl| Claim::new(ttl).unwrap().with_lease(lease);
    let error = registry.register(&node, &claim(2 * TTL), &CallOptions::DEFAULT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    registry
        .register(&node, &claim(TTL), &CallOptions::DEFAULT)
        .await
        .expect("registered with another ttl");
}

#[cfg(feature = "mem")]
#[tokio::test]
async fn ttl_on_memory() {
    a_default_registration_uses_the_ttl_of("mem://?ttl=5s").await;
}

#[cfg(feature = "etcd")]
#[tokio::test]
async fn ttl_on_etcd() {
    let server = registry_testbed::servers::Etcd::start().await.unwrap();
    a_default_registration_uses_the_ttl_of(&format!("{}?ttl=5s", server.url())).await;
    let go_zero = format!("{}?layout=go-zero&ttl=5s", server.url());
    a_default_registration_uses_the_ttl_of(&go_zero).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn ttl_on_redis() {
    let server = registry_testbed::servers::Redis::start().await.unwrap();
    a_default_registration_uses_the_ttl_of(&format!("{}?ttl=5s", server.url())).await;
}

#[cfg(all(feature = "redis", feature = "go-zero"))]
#[tokio::test]
async fn ttl_in_a_go_zero_configuration() {
    let server = registry_testbed::servers::Redis::start().await.unwrap();
    let url = format!("{}?ttl=5s", server.url());
    let yaml = format!("{{Name: a, ListenOn: '127.0.0.1:0', ServiceRegistry: {{Url: '{url}'}}}}");
    let config = service_registry::go_zero::ServerConfig::from_yaml(&yaml).unwrap();
    let bound = ([127, 0, 0, 1], 4000).into();
    let registration = timeout(Duration::from_secs(20), config.register(bound)).await.unwrap();
    let registration = registration.unwrap().expect("the configuration names no registry");
    let lease = registration.instance().id().as_str().parse().unwrap();
    let registry = connect(&url).await.unwrap().registry().clone();
    assert_registered_for_ttl(&*registry, &registration, LeaseId::new(lease).unwrap()).await;
    registration.stop().await.unwrap();
}

#[tokio::test]
async fn a_ttl_out_of_range_is_refused_at_connect() {
    for (scheme, ttl) in [("mem", "0s"), ("etcd", "1y"), ("redis", "10")] {
        let error = connect(&format!("{scheme}://?ttl={ttl}")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let message = format!("option `ttl` must be 100ms to 1day, such as `10s`, got=`{ttl}`");
        assert_eq!(error.to_string(), message);
    }
}
