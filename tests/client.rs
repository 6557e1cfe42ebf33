//! A client: one connection, registrations and views, and stores of others.
#![cfg(feature = "mem")]
#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use registry_testkit::lag::timeout;
use service_registry::mem::MemRegistry;
use service_registry::{
    Client, ConnectOptions, Connected, Connector, ErrorKind, Instance, Registry, Result, Target,
    View, connect, connect_lazy,
};
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// `scratch://` is one registry in memory, given at the start.
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
    Instance::new("user.rpc".parse().unwrap(), "1".parse().unwrap(), "h:1".parse().unwrap())
}

async fn ready(mut view: View) -> View {
    timeout(LIMIT, view.ready(LIMIT)).await.unwrap().unwrap();
    view
}

#[tokio::test]
async fn a_store_of_others_is_reached_by_its_scheme_and_may_replace_a_built_in_one() {
    let store = MemRegistry::new();
    for url in ["scratch://", "mem://"] {
        let client =
            Client::builder(url).connector(Scratch(store.clone())).connect().await.unwrap();
        let registration = client.register(node()).await.unwrap();
        let view = ready(client.discover("user.rpc").unwrap()).await;
        assert_eq!(view.state().instances().len(), 1);
        let direct = Client::from_registry(store.clone());
        let listed = ready(direct.discover("user.rpc").unwrap()).await;
        assert_eq!(listed.state().instances().len(), 1, "it is the store that was given");
        registration.stop().await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_scheme_names_those_of_the_connectors_too() {
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
    let update = node().with_weight(7);
    timeout(LIMIT, registration.update(update)).await.unwrap().unwrap();
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
fn a_view_may_be_opened_outside_of_the_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let client = runtime.block_on(connect("mem://")).unwrap();
    let view = client.discover("user.rpc").unwrap();
    runtime.block_on(ready(view));
    assert_eq!(client.discover("/").unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_lazy_client_of_a_connector_without_lazy_connections_is_unsupported() {
    let builder = Client::builder("scratch://").connector(Scratch(MemRegistry::new()));
    let error = builder.connect_lazy().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("scratch"), "{error}");
}

#[tokio::test]
async fn a_lazy_client_registers_and_discovers_and_has_the_ttl_of_its_url() {
    let client = connect_lazy("mem://?ttl=5s").unwrap();
    assert_eq!(client.registry().default_ttl(), Some(Duration::from_secs(5)));
    let registration = client.register(node()).await.unwrap();
    let view = ready(client.discover("user.rpc").unwrap()).await;
    assert_eq!(view.state().instances().len(), 1);
    registration.stop().await.unwrap();
}
