use super::*;
use crate::layout::decoder::Decoder;
use crate::layout::keyspace::{DesiredKeys, Keyspace};
use crate::layout::public::PublicLayout;
use crate::layout::reading::Reading;
use crate::layout::service::Kv;
use etcd_client::EventType;
use proptest::prelude::*;
use registry_core::{Change, ErrorKind, LeaseId, Record};
use std::sync::Arc;
use std::time::Duration;

fn keyspace(path: &str) -> Keyspace {
    Keyspace::new(Arc::new(PublicLayout::<Kratos>::new(path)))
}

fn instance(service: &str, id: &str, address: &str) -> Instance {
    let (service, id) = (service.parse().unwrap(), id.parse().unwrap());
    Instance::from_parts(service, id, address.parse().unwrap())
}

fn user(id: &str) -> Instance {
    instance("user", id, "10.0.0.1:9000")
}

/// Returns the keys to store for an instance under lease 9 with a ttl of 10 s.
fn desired_keys(keyspace: &Keyspace, instance: &Instance) -> Result<DesiredKeys> {
    let record = Record::new(instance.clone()).with_lease(LeaseId::new(9)?);
    keyspace.desired_keys(&record.with_ttl(Duration::from_secs(10)))
}

fn kv<'a>(key: &'a str, value: &'a str) -> Kv<'a> {
    Kv { key: key.as_bytes(), value: value.as_bytes(), lease: 9, modified: 3 }
}

/// Returns what a load of `service` reads from these keys.
fn read(service: &str, kvs: &[(&str, &str)]) -> Reading {
    let keys = keyspace("").service(&service.parse().unwrap()).unwrap();
    Reading::of(&keys, kvs.iter().map(|(key, value)| kv(key, value)))
}

/// Returns the only instance that a load of `service` reads from this key.
fn read_one(service: &str, kv: (&str, &str)) -> Instance {
    let reading = read(service, &[kv]);
    assert_eq!((reading.records.len(), reading.undecodable), (1, 0), "{:?}", reading.example);
    reading.records[0].instance().clone()
}

// These records were written by Kratos itself.
const PLAIN: (&str, &str) = (
    "/microservices/user/u-1",
    r#"{"id":"u-1","name":"user","version":"v1.0.0","metadata":null,"endpoints":["grpc://10.0.0.1:9000"]}"#,
);
const FULL: (&str, &str) = (
    "/microservices/user/u-2",
    concat!(
        r#"{"id":"u-2","name":"user","version":"v1.0.0","metadata":{"a\u003cb\u003e\u0026":"\"q\" \u2028 "#,
        "\u{e9}",
        r#"","weight":"50","zone":"eu-1"},"endpoints":["grpc://10.0.0.2:9000?isSecure=false","http://10.0.0.2:8000?isSecure=false"]}"#
    ),
);
const V6: (&str, &str) = (
    "/microservices/user/u-3",
    r#"{"id":"u-3","name":"user","version":"","metadata":{},"endpoints":["grpc://[fd00::1]:9000","http://[fd00::1]:8000"]}"#,
);
const WITHOUT_ENDPOINTS: (&str, &str) = (
    "/microservices/helloworld/0",
    r#"{"id":"0","name":"helloworld","version":"","metadata":null,"endpoints":null}"#,
);
const SLASHES: (&str, &str) = (
    "/microservices/team/user/a/b",
    r#"{"id":"a/b","name":"team/user","version":"v2","metadata":null,"endpoints":[]}"#,
);

#[test]
fn public_record_equals_the_one_kratos_writes() {
    // The lengths of the records of Kratos: the constants were copied without a change.
    assert_eq!((PLAIN.1.len(), FULL.1.len(), V6.1.len()), (98, 217, 115));
    let plain = user("u-1").with_label("version", "v1.0.0");
    let full = instance("user", "u-2", "10.0.0.2:9000")
        .with_label("version", "v1.0.0")
        .with_port("http", 8000)
        .with_weight(50)
        .with_metadata([("zone", "eu-1"), ("a<b>&", "\"q\" \u{2028} \u{e9}")]);
    // Kratos records for each endpoint whether it has TLS, which an instance of this library does not have.
    for (instance, (key, value)) in [(plain, PLAIN), (full, FULL)] {
        let DesiredKeys { key: public, side } = desired_keys(&keyspace(""), &instance).unwrap();
        assert_eq!(public.name, key);
        let value = value.replace("?isSecure=false", "");
        assert_eq!(str::from_utf8(&public.value.unwrap()).unwrap(), value);
        let side = side.unwrap();
        assert_eq!(side.name, key.replace("/user/", "/user.~meta/"));
        // Kratos reads all keys that start with the service, and skips records of other services. So the side
        // record must name no service.
        let side: Service = go_json::decode(&side.value.unwrap()).unwrap();
        assert_eq!(side.name, "");
    }
    let v6 = instance("user", "u-3", "[fd00::1]:9000").with_port("http", 8000);
    let value = desired_keys(&keyspace(""), &v6).unwrap().key.value.unwrap();
    assert_eq!(str::from_utf8(&value).unwrap(), V6.1.replace("{},", "null,"));
}

#[test]
fn records_written_by_kratos_are_read() {
    let plain = user("u-1").with_label("version", "v1.0.0").with_port("grpc", 9000);
    assert_eq!(read_one("user", PLAIN), plain);
    let full = instance("user", "u-2", "10.0.0.2:9000")
        .with_label("version", "v1.0.0")
        .with_port("grpc", 9000)
        .with_port("http", 8000)
        .with_weight(50)
        .with_metadata([("zone", "eu-1"), ("a<b>&", "\"q\" \u{2028} \u{e9}"), ("weight", "50")]);
    assert_eq!(read_one("user", FULL), full);
    let v6 = instance("user", "u-3", "[fd00::1]:9000");
    assert_eq!(read_one("user", V6), v6.with_port("grpc", 9000).with_port("http", 8000));
}

#[test]
fn address_is_the_grpc_endpoint_or_else_the_first() {
    let cases = [
        (r#"["http://h:1","grpc://h:2","grpc://h:3"]"#, "h:2", &[("grpc", 2), ("http", 1)][..]),
        (r#"["http://h:1/x?y=z","ws://h:2","tcp://other:3"]"#, "h:1", &[("http", 1), ("ws", 2)]),
        (r#"["?","http://h","http://h:1"]"#, "h:1", &[("http", 1)]),
    ];
    for (endpoints, address, ports) in cases {
        let value = format!(r#"{{"name":"user","endpoints":{endpoints}}}"#);
        let found = read_one("user", ("/microservices/user/1", &value));
        assert_eq!(found.address().as_str(), address);
        let found: Vec<_> = found.ports().iter().map(|(n, port)| (&**n, port.number())).collect();
        assert_eq!(found, ports, "{endpoints}");
    }
    let bad = r#"{"name":"user","endpoints":["http://0.0.0.0:80"]}"#;
    let reading = read("user", &[("/microservices/user/1", bad)]);
    assert_eq!((reading.records.len(), reading.undecodable), (0, 1));
}

#[test]
fn instance_without_an_endpoint_is_listed_and_not_available() {
    let found = read_one("helloworld", WITHOUT_ENDPOINTS);
    assert_eq!((found.id().as_str(), found.is_available()), ("0", false));
    assert_eq!(found.address().as_str(), NO_ENDPOINT);
}

#[test]
fn instance_belongs_to_the_service_that_its_record_names() {
    let elsewhere = ("/microservices/user/x", r#"{"id":"x","name":"order","endpoints":[]}"#);
    let nested = ("/microservices/user/a/1", r#"{"id":"1","name":"user/a","endpoints":[]}"#);
    let reading = read("user", &[elsewhere, nested]);
    assert_eq!((reading.records.len(), reading.undecodable), (0, 0));
    assert_eq!(read_one("user/a", nested).id().as_str(), "1");
}

#[test]
fn id_with_a_slash_is_reported_only_for_its_own_service() {
    assert_eq!(read("team", &[SLASHES]).undecodable, 0);
    let reading = read("team/user", &[SLASHES]);
    assert_eq!((reading.records.len(), reading.undecodable), (0, 1));
    let why = "the id contains a `/`, id=`a/b`".to_owned();
    assert_eq!(reading.example, Some((SLASHES.0.to_owned(), why)));
    let keys = keyspace("").service(&"team/user".parse().unwrap()).unwrap();
    let mut decoder = Decoder::new(keys, [].into_iter());
    let events =
        [(EventType::Put, kv(SLASHES.0, SLASHES.1)), (EventType::Delete, kv(SLASHES.0, ""))];
    assert_eq!(decoder.apply(events.into_iter()), [] as [Change; 0]);
}

#[test]
fn instance_that_is_not_available_has_no_public_record() {
    let draining = user("7").with_status(InstanceStatus::Draining);
    for hidden in [draining, user("7").with_weight(0)] {
        assert_eq!(desired_keys(&keyspace(""), &hidden).unwrap().key.value, None);
    }
}

#[test]
fn instance_with_the_metadata_weight_0_is_not_available() {
    let weightless = r#"{"name":"user","metadata":{"weight":"0"},"endpoints":["grpc://h:1"]}"#;
    assert!(!read_one("user", ("/microservices/user/1", weightless)).is_available());
}

#[test]
fn weight_is_written_as_the_metadata_entry_weight() {
    let stored = |instance: Instance| -> Service {
        go_json::decode(&desired_keys(&keyspace(""), &instance).unwrap().key.value.unwrap())
            .unwrap()
    };
    assert_eq!(stored(user("1").with_weight(7)).metadata.unwrap()["weight"], "7");
    // The metadata entry of the instance itself is replaced.
    let with_entry = user("1").with_metadata([("weight", "x")]);
    assert_eq!(stored(with_entry).metadata.unwrap()["weight"], "100");
}

#[test]
fn metadata_entry_weight_that_is_no_number_is_ordinary_metadata() {
    let value = r#"{"name":"user","metadata":{"weight":"x"},"endpoints":["grpc://h:1"]}"#;
    let found = read_one("user", ("/microservices/user/1", value));
    assert_eq!((found.weight(), found.metadata()["weight"].as_str()), (DEFAULT_WEIGHT, "x"));
}

#[test]
fn port_is_published_only_if_its_name_is_a_scheme_other_than_grpc() {
    let ports = user("1").with_port("a b", 1).with_port("grpc", 2).with_port("9p", 3);
    let value =
        desired_keys(&keyspace(""), &ports.with_port("ws+x", 4)).unwrap().key.value.unwrap();
    let stored: Service = go_json::decode(&value).unwrap();
    assert_eq!(stored.endpoints.unwrap(), ["grpc://10.0.0.1:9000", "ws+x://10.0.0.1:4"]);
}

#[test]
fn path_of_the_url_is_the_namespace() {
    for (path, key) in [
        ("", PLAIN.0),
        ("/prod", "/prod/user/u-1"),
        ("/prod/", "/prod//user/u-1"),
        ("a", "a/user/u-1"),
    ] {
        let keyspace = keyspace(path);
        assert_eq!(desired_keys(&keyspace, &user("u-1")).unwrap().key.name, key);
        let service = keyspace.layout().service_of(key.as_bytes());
        assert_eq!(service, Some("user".parse().unwrap()), "{path}");
    }
}

#[test]
fn value_that_is_no_record_of_kratos_is_undecodable() {
    for bad in ["", "10.0.0.1:80", r#"{"name":1}"#, r#"{"name":"user","metadata":{"a":1}}"#] {
        assert_eq!(read("user", &[("/microservices/user/1", bad)]).undecodable, 1, "{bad}");
    }
}

#[test]
fn record_whose_json_is_too_large_is_refused() {
    let large = user("1").with_metadata([("k", "<".repeat(60_000))]);
    assert_eq!(desired_keys(&keyspace(""), &large).unwrap_err().kind(), ErrorKind::Invalid);
}

proptest! {
    #[test]
    fn every_instance_round_trips(
        service in ".{1,40}",
        id in ".{1,40}",
        weight in prop_oneof![Just(100_u32), any::<u32>()],
        drains: bool,
        ports in proptest::collection::btree_map("grpc|http|.*", 1..=u16::MAX, 0..3),
        metadata in proptest::collection::btree_map("weight|.*", ".*", 0..3),
    ) {
        let (Ok(service), Ok(id)) = (ServiceName::new(service), InstanceId::new(id)) else {
            return Ok(());
        };
        let status = if drains { InstanceStatus::Draining } else { InstanceStatus::Up };
        let instance = Instance::from_parts(service.clone(), id, "[::1]:65535".parse().unwrap());
        let mut instance = instance.with_weight(weight).with_status(status).with_metadata(metadata);
        for (name, port) in ports {
            instance = instance.with_port(name, port);
        }
        let keyspace = keyspace("");
        let DesiredKeys { key, side } = desired_keys(&keyspace, &instance).unwrap();
        let (keys, side) = (keyspace.service(&service).unwrap(), side.unwrap());
        let value = |value: &Option<Vec<u8>>| value.clone().map(|value| String::from_utf8(value).unwrap());
        let (public, side_value) = (value(&key.value), value(&side.value).unwrap());
        let public = public.as_ref().map(|value| kv(&key.name, value));
        let reading = Reading::of(&keys, [kv(&side.name, &side_value)].into_iter().chain(public));
        prop_assert_eq!(reading.records[0].instance(), &instance);
        // Programs with Kratos itself read only the public record.
        let bare = Reading::of(&keys, public.into_iter());
        let bare: Vec<_> = bare.records.iter().map(|r| (r.instance().address(), r.instance().weight())).collect();
        let expected = instance.is_available().then_some((instance.address(), weight));
        prop_assert_eq!(bare, Vec::from_iter(expected));
        for name in [&key.name, &side.name] {
            prop_assert_eq!(keyspace.layout().service_of(name.as_bytes()), Some(service.clone()));
        }
    }
}
