//! A custom layout: JSON as Kratos writes it, and the weight in a side key.

use crate::support::{Fixture, claim, deleted, instance, name, next, put, within};
use etcd_client::Client;
use registry_core::encoding::Stored;
use registry_core::{
    BoxError, CallOptions, DEFAULT_WEIGHT, Diagnose, Error, ErrorKind, Instance, InstanceId,
    Record, Registry, Result,
};
use registry_core::{InstanceStatus, ServiceName};
use registry_etcd::layout::{Encoded, Layout, ServiceKeys};
use registry_etcd::{EtcdOptions, EtcdRegistry};
use registry_testbed::servers::Etcd;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const ROOT: &str = "/microservices/";

#[derive(Debug)]
struct Microservices;

#[derive(Serialize, Deserialize)]
struct Value {
    id: String,
    name: String,
    endpoints: Vec<String>,
}

impl Layout for Microservices {
    fn name(&self) -> &'static str {
        "microservices"
    }

    fn root(&self) -> &'static str {
        ROOT
    }

    fn keys(&self, service: &ServiceName) -> Result<ServiceKeys> {
        let keys = ServiceKeys::new(format!("{ROOT}{service}/"));
        Ok(keys.with_side_prefix(format!("{ROOT}{service}.weight/")))
    }

    fn encode(&self, record: &Record) -> Result<Encoded> {
        let instance = record.instance();
        if instance.status() != InstanceStatus::Up || !instance.metadata().is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "has no field for status and metadata"));
        }
        let (id, name) = (instance.id().to_string(), instance.service().to_string());
        let endpoints = vec![format!("grpc://{}", instance.address())];
        let value = serde_json::to_vec(&Value { id, name, endpoints }).unwrap();
        let encoded = Encoded::new(instance.id().as_str(), value);
        Ok(match instance.weight() {
            DEFAULT_WEIGHT => encoded,
            weight => encoded.with_side(weight.to_string()),
        })
    }

    fn decode_id(&self, text: &[u8]) -> Result<Option<InstanceId>, BoxError> {
        match str::from_utf8(text)? {
            "junk" => Err("no instance has this key".into()),
            text => Ok(text.parse().ok()),
        }
    }

    fn decode(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        value: Option<&[u8]>,
        side: Option<&[u8]>,
    ) -> Result<Option<Stored>, BoxError> {
        let Some(value) = value else { return Ok(None) };
        let value: Value = serde_json::from_slice(value)?;
        if value.name != service.as_str() {
            return Ok(None);
        }
        let address = value.endpoints.iter().find_map(|url| url.strip_prefix("grpc://"));
        let address = address.ok_or("has no endpoint for gRPC")?.parse()?;
        let weight = side.map_or(Ok(DEFAULT_WEIGHT), |side| {
            str::from_utf8(side)?.parse::<u32>().map_err(BoxError::from)
        })?;
        let instance =
            Instance::from_parts(service.clone(), id.clone(), address).with_weight(weight);
        Ok(Some(Stored::Live(Record::new(instance))))
    }

    fn service_of(&self, key: &[u8]) -> Option<ServiceName> {
        let names = str::from_utf8(key.strip_prefix(ROOT.as_bytes())?).ok()?;
        let (service, _id) = names.rsplit_once('/')?;
        service.strip_suffix(".weight").unwrap_or(service).parse().ok()
    }
}

async fn connect(server: &Etcd, rest: &str) -> Result<EtcdRegistry> {
    let options = EtcdOptions { layout: Some(Arc::new(Microservices)), ..EtcdOptions::default() };
    let url = format!("{}{rest}", server.url()).parse().unwrap();
    within(EtcdRegistry::connect_with(&url, options)).await
}

async fn start() -> Fixture {
    let server = within(Etcd::start()).await.unwrap();
    let registry = connect(&server, "").await.unwrap();
    let raw = within(Box::pin(Client::connect([server.endpoint()], None))).await.unwrap();
    Fixture { server, registry, raw: Box::new(raw) }
}

#[tokio::test]
async fn register_writes_the_keys_of_a_custom_layout() {
    let etcd = start().await;
    let (plain, claim) = (instance("user", "u-1"), claim(10));
    etcd.register(&plain, &claim).await.unwrap();
    let key = "/microservices/user/u-1".to_owned();
    let value = r#"{"id":"u-1","name":"user","endpoints":["grpc://10.0.0.1:8080"]}"#.to_owned();
    let stored = etcd.range("/", "0").await;
    assert_eq!(stored, [(key.clone(), value.clone())]);

    let heavy = plain.clone().with_weight(7);
    let lease = etcd.register(&heavy, &claim).await.unwrap();
    let side = ("/microservices/user.weight/u-1".to_owned(), "7".to_owned());
    assert_eq!(etcd.range("/", "0").await, [side, (key.clone(), value)]);
    assert_eq!(etcd.load("user").await.instances().collect::<Vec<_>>(), [&heavy]);
    etcd.keep_alive(&lease).await.unwrap();

    let draining = plain.with_status(InstanceStatus::Draining);
    let error = etcd.register(&draining, &claim).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    etcd.deregister(&lease).await.unwrap();
    assert_eq!(etcd.range("/", "0").await, []);
}

#[tokio::test]
async fn watch_and_load_decode_the_keys_of_a_custom_layout() {
    let etcd = start().await;
    let mut watch = etcd.watch("user").await;
    let (plain, claim) = (instance("user", "u-1"), claim(10));
    etcd.register(&plain, &claim).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&plain)]);
    let heavy = plain.with_weight(7);
    let lease = etcd.register(&heavy, &claim).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [put(&heavy)]);

    // Keys of other programs: one that should not exist, an invalid record, and a record of another service.
    etcd.put("/microservices/user/junk", "").await;
    etcd.put("/microservices/user/u-2", "{").await;
    etcd.put("/microservices/user/u-3", r#"{"id":"3","name":"order","endpoints":[]}"#).await;
    let found = etcd.load("user").await;
    assert_eq!(found.instances().collect::<Vec<_>>(), [&heavy]);
    assert_eq!(found.undecodable(), 2);
    let services = within(etcd.registry.services(&CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(services, [name("user")].into());

    etcd.deregister(&lease).await.unwrap();
    assert_eq!(next(&mut watch).await.changes, [deleted("u-1")]);
}

#[tokio::test]
async fn diagnosis_does_not_mistake_a_custom_layout_for_another() {
    let etcd = start().await;
    etcd.register(&instance("user", "u-1"), &claim(10)).await.unwrap();
    let findings = within(Box::pin(etcd.registry.diagnose())).await;
    let layout: Vec<_> = findings.iter().filter(|finding| finding.check == "layout").collect();
    let [layout] = layout[..] else { panic!("{findings:?}") };
    assert_eq!(layout.message, "`microservices`, keys begin with `/microservices/`");
}

#[tokio::test]
async fn url_must_not_have_a_layout_or_path_beside_a_custom_layout() {
    let etcd = start().await;
    for url_end in ["/prod", "?layout=native"] {
        let error = connect(&etcd.server, url_end).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url_end}");
    }
    let cursor = etcd.load("user").await.cursor().clone();
    let native = crate::support::connect(&etcd.server).await;
    let error =
        within(native.watch(&name("user"), &cursor, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "the cursor is of another layout");
}
