//! The committed stored forms of each layout. They may change only with a new format number.

use super::{Encoded, Layout, builtin};
use registry_core::encoding::Stored;
use registry_core::{Instance, InstanceId, InstanceStatus, LeaseId, Port, Record, ServiceName};
use std::sync::Arc;
use std::time::Duration;

fn layout(name: &str) -> Arc<dyn Layout> {
    builtin::from_target(&format!("etcd://h/root?layout={name}").parse().unwrap()).unwrap()
}

fn service() -> ServiceName {
    "user.rpc".parse().unwrap()
}

fn id() -> InstanceId {
    "7587862094070025734".parse().unwrap()
}

fn minimal() -> Record {
    let instance = Instance::from_parts(service(), id(), "10.0.0.1:8080".parse().unwrap());
    Record::new(instance)
        .with_lease(LeaseId::new(7_587_862_094_070_025_734).unwrap())
        .with_ttl(Duration::from_secs(10))
}

/// A record with every optional field.
fn full(status: InstanceStatus) -> Record {
    let instance = minimal().into_instance();
    let instance = instance
        .with_port("admin", Port::new(9090).with_protocol("http"))
        .with_zone("eu-1")
        .with_label("tier", "gold")
        .with_weight(200)
        .with_status(status)
        .with_metadata([("commit", "4f2a")]);
    Record::new(instance)
        .with_lease(LeaseId::new(7_587_862_094_070_025_734).unwrap())
        .with_ttl(Duration::from_secs(10))
}

/// Formats the keys and values, one per line.
fn written(layout: &dyn Layout, what: &str, encoded: Option<Encoded>) -> String {
    let keys = layout.keys(&service()).unwrap();
    let Some(Encoded { id, value, side }) = encoded else { return format!("{what}: nothing\n") };
    let line = |prefix: Option<&str>, value: Option<Vec<u8>>| match (prefix, value) {
        (Some(prefix), Some(value)) => {
            format!("{what}: {prefix}{id} = {}\n", String::from_utf8(value).unwrap())
        }
        _ => String::new(),
    };
    line(Some(keys.prefix()), value) + &line(keys.side_prefix(), side)
}

#[test]
fn each_layout_matches_its_golden_file() {
    let forms = [
        ("native", include_str!("../../golden/native.txt")),
        ("go-zero", include_str!("../../golden/go-zero.txt")),
        ("grpc", include_str!("../../golden/grpc.txt")),
        ("kratos", include_str!("../../golden/kratos.txt")),
        ("kitex", include_str!("../../golden/kitex.txt")),
    ];
    for (name, golden) in forms {
        let layout = layout(name);
        let (up, draining) = (full(InstanceStatus::Up), full(InstanceStatus::Draining));
        let text = [
            written(&*layout, "minimal", Some(layout.encode(&minimal()).unwrap())),
            written(&*layout, "full", Some(layout.encode(&up).unwrap())),
            written(&*layout, "draining", Some(layout.encode(&draining).unwrap())),
            written(&*layout, "withdrawn", layout.encode_withdrawn(&minimal()).unwrap()),
        ];
        assert_eq!(text.concat(), golden, "{name}");
        for record in [minimal(), up, draining] {
            let Encoded { value, side, .. } = layout.encode(&record).unwrap();
            let decoded = layout.decode(&service(), &id(), value.as_deref(), side.as_deref());
            let Some(Stored::Live(decoded)) = decoded.unwrap() else { panic!("{name}") };
            assert_eq!(decoded.instance(), record.instance(), "{name}");
        }
    }
}

#[test]
fn record_of_a_future_release_is_decoded_in_each_layout_and_not_available() {
    let future = include_bytes!("../../../registry-core/golden/record-future.json");
    let public: [(&str, Option<&[u8]>); 5] = [
        ("native", None),
        ("go-zero", Some(b"10.0.0.1:8080")),
        ("grpc", Some(br#"{"Op":0,"Addr":"10.0.0.1:8080","Metadata":null}"#)),
        ("kratos", Some(br#"{"name":"user.rpc","endpoints":["grpc://10.0.0.1:8080"]}"#)),
        ("kitex", Some(br#"{"network":"tcp","address":"10.0.0.1:8080","weight":10,"tags":null}"#)),
    ];
    for (name, value) in public {
        let (value, side) = match value {
            None => (&future[..], None),
            Some(value) => (value, Some(&future[..])),
        };
        let decoded = layout(name).decode(&service(), &id(), Some(value), side).unwrap();
        let Some(Stored::Live(record)) = decoded else { panic!("{name}") };
        assert_eq!(record.instance().address().to_string(), "10.0.0.1:8080", "{name}");
        assert!(!record.instance().is_available(), "{name}");
    }
}
