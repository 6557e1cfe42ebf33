//! Tests of a client: its registrations and views, and third-party stores.
#![cfg(feature = "mem")]
#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use registry_testkit::lag::timeout;
use service_registry::store::{
    CallOptions, ConnectOptions, Connected, Connector, Registry, Target,
};
use service_registry::testing::{Fault, FaultyRegistry, MemRegistry};
use service_registry::{
    Client, ErrorKind, Instance, InstanceStatus, RegistrationOptions, RegistrationStatus, Result,
    ServiceState, View, connect,
};
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// A connector of a third-party store, which connects to the given registry in memory.
#[derive(Debug)]
struct Scratch(MemRegistry);

#[async_trait]
impl Connector for Scratch {
    fn schemes(&self) -> &[&str] {
        &["scratch", "mem"]
    }

    async fn connect(&self, target: &Target, _options: &ConnectOptions) -> Result<Connected> {
        target.allow_options(&[])?;
        Ok(Connected::new(Arc::new(self.0.clone())))
    }
}

fn node() -> Instance {
    Instance::from_parts("user.rpc".parse().unwrap(), "1".parse().unwrap(), "h:1".parse().unwrap())
}

async fn ready(view: View) -> View {
    timeout(LIMIT, view.ready(LIMIT)).await.unwrap().unwrap();
    view
}

#[tokio::test]
async fn a_third_party_store_is_reached_by_its_scheme_and_can_replace_a_built_in_one() {
    let store = MemRegistry::new();
    for url in ["scratch://", "mem://"] {
        let client =
            Client::builder(url).connector(Scratch(store.clone())).connect().await.unwrap();
        let registration = client.register(node()).await.unwrap();
        let view = ready(client.discover("user.rpc").unwrap()).await;
        assert_eq!(view.state().instances().len(), 1);
        let direct = Client::from_registry(store.clone());
        let listed = ready(direct.discover("user.rpc").unwrap()).await;
        assert_eq!(listed.state().instances().len(), 1, "connected to another store");
        registration.stop().await.unwrap();
    }
}

#[tokio::test]
async fn the_error_of_an_unknown_scheme_lists_those_of_connectors() {
    let builder = Client::builder("consul://h").connector(Scratch(MemRegistry::new()));
    let error = builder.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("scratch://"), "{error}");
}

#[tokio::test]
async fn dropping_the_last_client_ends_no_registration_and_no_view() {
    let client = connect("mem://").await.unwrap();
    let registry = client.registry().clone();
    let registration = client.register(node()).await.unwrap();
    let view = ready(client.discover(node().service()).unwrap()).await;
    drop(client);
    timeout(LIMIT, registration.update(|node| node.with_weight(7))).await.unwrap().unwrap();
    let mut changed = view.clone();
    let seen = async {
        while view.state().instances().next().is_none_or(|node| node.weight() != 7) {
            changed.changed().await.unwrap();
        }
    };
    timeout(LIMIT, seen).await.unwrap();
    assert!(registry.default_ttl().is_none());
}

#[test]
fn a_view_can_be_opened_outside_of_the_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let client = runtime.block_on(connect("mem://")).unwrap();
    let view = client.discover("user.rpc").unwrap();
    runtime.block_on(ready(view));
    assert_eq!(client.discover("/").unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn connect_lazy_is_unsupported_by_a_connector_without_lazy_connections() {
    let builder = Client::builder("scratch://").connector(Scratch(MemRegistry::new()));
    let error = builder.connect_lazy().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("scratch"), "{error}");
}

#[tokio::test]
async fn a_lazy_client_registers_discovers_and_uses_the_ttl_of_its_url() {
    let client = Client::builder("mem://?ttl=5s").connect_lazy().unwrap();
    assert_eq!(client.registry().default_ttl(), Some(Duration::from_secs(5)));
    let registration = client.register(node()).await.unwrap();
    let view = ready(client.discover("user.rpc").unwrap()).await;
    assert_eq!(view.state().instances().len(), 1);
    registration.stop().await.unwrap();
}

#[tokio::test]
async fn a_memory_registry_with_a_name_is_shared_in_the_process() {
    let server = connect("mem://shared-by-name?ttl=5s").await.unwrap();
    let registration = server.register(node()).await.unwrap();
    let client = connect("mem://shared-by-name").await.unwrap();
    let view = ready(client.discover("user.rpc").unwrap()).await;
    assert_eq!(view.state().instances().len(), 1);
    for other in ["mem://another-name", "mem://shared-by-name/namespace", "mem://"] {
        let other = connect(other).await.unwrap();
        let view = ready(other.discover("user.rpc").unwrap()).await;
        assert!(view.state().records().is_empty());
    }
    registration.stop().await.unwrap();
}

#[tokio::test]
async fn services_are_visible_only_in_their_namespace() {
    let open = |namespace| Client::builder("mem://namespaces").namespace(namespace).connect();
    let [prod, test] = [open("prod").await.unwrap(), open("test").await.unwrap()];
    let registration = prod.register(node()).await.unwrap();
    let view = ready(test.discover("user.rpc").unwrap()).await;
    assert!(view.state().records().is_empty());
    let view = ready(open("prod").await.unwrap().discover("user.rpc").unwrap()).await;
    assert_eq!(view.state().records().len(), 1);
    registration.stop().await.unwrap();

    let error =
        Client::builder("mem://namespaces/prod").namespace("test").connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("url=`prod`, options=`test`"), "{error}");
}

#[tokio::test]
async fn the_ttl_of_a_builder_is_the_default_of_its_registrations() {
    let seconds = Duration::from_secs;
    let client = Client::builder("mem://?ttl=5s").ttl(seconds(7)).connect().await.unwrap();
    let registration = client.register(node()).await.unwrap();
    let view = ready(client.discover("user.rpc").unwrap()).await;
    assert_eq!(view.state().records()[0].ttl(), Some(seconds(7)));
    registration.stop().await.unwrap();
    let error = Client::builder("mem://").ttl(seconds(0)).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_withdraws_all_registrations_and_closes_the_client() {
    let client = connect("mem://").await.unwrap();
    let mut registrations = Vec::new();
    for id in ["1", "2", "3"] {
        let node = node().with_id(id.parse().unwrap());
        registrations.push(client.register(node).await.unwrap());
    }
    registrations[0].stop().await.unwrap();
    let mut view = ready(client.discover("user.rpc").unwrap()).await;
    assert_eq!(view.state().records().len(), 2);

    let start = tokio::time::Instant::now();
    let grace = Duration::from_millis(300);
    let drained = async {
        let drains = |view: &View| {
            view.state().instances().all(|node| node.status() == InstanceStatus::Draining)
        };
        while !drains(&view) {
            view.changed().await.unwrap();
        }
        view.state().records().len()
    };
    let (shut, draining) = tokio::join!(client.shutdown(grace), timeout(LIMIT, drained));
    shut.unwrap();
    assert_eq!(draining.unwrap(), 2, "not all were draining at once");
    assert!(start.elapsed() < grace * 2, "drained one after the other");
    for registration in &registrations {
        assert!(matches!(registration.status(), RegistrationStatus::Stopped));
    }
    timeout(LIMIT, async {
        while !view.state().records().is_empty() {
            view.changed().await.unwrap();
        }
    })
    .await
    .unwrap();
    assert_eq!(client.register(node()).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(client.discover("user.rpc").unwrap_err().kind(), ErrorKind::Closed);
}

/// Callers on other machines would otherwise call themselves.
#[tokio::test]
async fn an_instance_at_an_unspecified_address_is_registered_at_an_address_of_this_machine() {
    let client = connect("mem://").await.unwrap();
    let everywhere = Instance::new("user.rpc", ([0, 0, 0, 0], 8080).into()).unwrap();
    match client.register(everywhere).await {
        Ok(registration) => {
            let address = registration.instance().address().clone();
            assert_eq!(address.port(), 8080);
            assert!(address.is_dialable() && !address.host().starts_with("127."), "{address}");
        }
        // A machine without a network has no such address.
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("address"), "{error}");
        }
    }
}

#[tokio::test]
async fn concurrent_stops_and_drains_all_return_the_outcome() {
    let client = connect("mem://").await.unwrap();
    let registration = client.register(node()).await.unwrap();
    let (one, two) = tokio::join!(registration.stop(), registration.drain(LIMIT));
    one.unwrap();
    two.unwrap(); // without waiting for its grace
    registration.stop().await.unwrap();
    let update = registration.update(|node| node.with_weight(7)).await;
    assert_eq!(update.unwrap_err().kind(), ErrorKind::Closed);
}

/// Regression: a registration whose request was in flight during the shutdown stayed listed until it expired.
#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_a_registration_that_is_starting() {
    let store = MemRegistry::new();
    let link = FaultyRegistry::new(store.clone());
    let latency = Duration::from_secs(2);
    link.inject(Fault::Latency { min: latency, max: latency });
    let client = Client::from_registry(link);
    let starting = tokio::spawn({
        let client = client.clone();
        async move { client.register(node()).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    timeout(LIMIT, client.shutdown(Duration::from_secs(1))).await.unwrap().unwrap();
    let listed = store.load(node().service(), &CallOptions::DEFAULT).await.unwrap();
    assert!(listed.records().is_empty());
    let error = starting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

/// Regression: a background registration of an invalid instance was retried without an end, and only logged.
#[tokio::test]
async fn an_invalid_instance_is_refused_even_if_it_registers_in_the_background() {
    let client = connect("mem://").await.unwrap();
    for bad in
        [node().with_label("", "x"), Instance::new("a//b", ([10, 0, 0, 1], 80).into()).unwrap()]
    {
        let options = RegistrationOptions::default().in_background();
        let error = client.register_with(bad, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

/// Regression: an update by another task, such as a health check, made a draining instance available again.
#[tokio::test(start_paused = true)]
async fn an_update_does_not_end_a_drain() {
    let client = connect("mem://").await.unwrap();
    let registration = client.register(node()).await.unwrap();
    let mut view = ready(client.discover("user.rpc").unwrap()).await;
    let update = async {
        let drains = |state: &ServiceState| {
            state.instances().all(|node| node.status() == InstanceStatus::Draining)
        };
        timeout(LIMIT, view.wait_for(drains)).await.unwrap().unwrap();
        let up = registration.update(|node| node.with_weight(7).with_status(InstanceStatus::Up));
        up.await.unwrap();
        timeout(LIMIT, view.changed()).await.unwrap().unwrap();
        view.state().instances().map(|node| (node.weight(), node.status())).next()
    };
    let (drained, seen) = tokio::join!(registration.drain(Duration::from_secs(10)), update);
    drained.unwrap();
    assert_eq!(seen, Some((7, InstanceStatus::Draining)));
}

/// Regression: a deadlock, since the closure ran under the lock that `instance` takes.
#[tokio::test]
async fn the_closure_of_an_update_can_read_its_registration() {
    let client = connect("mem://").await.unwrap();
    let registration = client.register(node()).await.unwrap();
    let double = |node: Instance| node.with_weight(registration.instance().weight() * 2);
    timeout(LIMIT, registration.update(double)).await.unwrap().unwrap();
    assert_eq!(registration.instance().weight(), 200);
    let refused = registration.update(|node| node.with_port("admin", 0)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    registration.stop().await.unwrap();
}

/// A library may connect on a runtime that ends before the registration should.
#[test]
fn registrations_and_views_run_on_the_runtime_that_the_builder_names() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (named, caller) = (runtime(), runtime());
    let builder = Client::builder("mem://").runtime(named.handle().clone());
    let (client, registration) = caller.block_on(async {
        let client = builder.connect().await.unwrap();
        let options = RegistrationOptions::default().in_background();
        let registration = client.register_with(node(), options).await.unwrap();
        (client, registration)
    });
    drop(caller);
    let view = client.discover("user.rpc").unwrap(); // on no runtime at all
    named.block_on(async {
        let view = timeout(LIMIT, view.wait_for(|state| state.available().count() == 1)).await;
        view.unwrap().unwrap();
        timeout(LIMIT, registration.update(|node| node.with_weight(7))).await.unwrap().unwrap();
        timeout(LIMIT, registration.stop()).await.unwrap().unwrap();
    });
}
