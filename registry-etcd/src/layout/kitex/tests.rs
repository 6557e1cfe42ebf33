use super::*;
use crate::layout::builtin;
use crate::layout::keyspace::{DesiredKeys, Keyspace};
use crate::layout::public::PublicLayout;
use crate::layout::reading::Reading;
use crate::layout::service::Kv;
use proptest::prelude::*;
use registry_core::{InstanceStatus, LeaseId, Record};
use std::sync::Arc;
use std::time::Duration;

fn layout(path: &str) -> Keyspace {
    Keyspace::new(Arc::new(PublicLayout::<Kitex>::new(path)))
}

fn instance(id: &str, address: &str) -> Instance {
    Instance::from_parts("user".parse().unwrap(), id.parse().unwrap(), address.parse().unwrap())
}

/// Returns the keys to store for an instance under lease 9 with a ttl of 10 s.
fn written(layout: &Keyspace, instance: &Instance) -> DesiredKeys {
    let record = Record::new(instance.clone()).with_lease(LeaseId::new(9).unwrap());
    layout.desired_keys(&record.with_ttl(Duration::from_secs(10))).unwrap()
}

fn at<'a>(key: &'a str, value: &'a [u8]) -> Kv<'a> {
    Kv { key: key.as_bytes(), value, lease: 9, modified: 3 }
}

fn read(key: &str, value: &str) -> Reading {
    let keys = layout("").service(&"user".parse().unwrap()).unwrap();
    Reading::of(&keys, [at(key, value.as_bytes())].into_iter())
}

fn only(key: &str, value: &str) -> Instance {
    let reading = read(key, value);
    assert_eq!((reading.records.len(), reading.undecodable), (1, 0), "{:?}", reading.example);
    reading.records[0].instance().clone()
}

// These records were written by Kitex' own registry.
const PLAIN: (&str, &str) = (
    "kitex/registry-etcd/user/10.0.0.1:8888",
    r#"{"network":"tcp","address":"10.0.0.1:8888","weight":10,"tags":null}"#,
);
const FULL: (&str, &str) = (
    "kitex/registry-etcd/user/10.0.0.2:8888",
    concat!(
        r#"{"network":"tcp","address":"10.0.0.2:8888","weight":50,"tags":{"a\u003cb\u003e\u0026":"\"q\" \u2028 "#,
        "\u{e9}",
        r#"","zone":"eu-1"}}"#
    ),
);
const WITHOUT_WEIGHT: (&str, &str) = (
    "kitex/registry-etcd/user/10.0.0.3:8888",
    r#"{"network":"tcp","address":"10.0.0.3:8888","weight":0,"tags":null}"#,
);
const V6: (&str, &str) = (
    "kitex/registry-etcd/user/fd00::1:8888",
    r#"{"network":"tcp","address":"fd00::1:8888","weight":10,"tags":null}"#,
);

#[test]
fn records_have_the_bytes_of_kitex_and_are_read() {
    assert_eq!((PLAIN.1.len(), FULL.1.len(), WITHOUT_WEIGHT.1.len()), (67, 119, 66));
    let plain = instance("10.0.0.1:8888", "10.0.0.1:8888");
    let full = instance("10.0.0.2:8888", "10.0.0.2:8888")
        .with_weight(500)
        .with_metadata([("zone", "eu-1"), ("a<b>&", "\"q\" \u{2028} \u{e9}")]);
    for (instance, (key, value)) in [(plain, PLAIN), (full, FULL)] {
        assert_eq!(only(key, value), instance);
        let DesiredKeys { key: public, side } = written(&layout(""), &instance);
        assert_eq!(public.name, key);
        assert_eq!(str::from_utf8(&public.value.unwrap()).unwrap(), value);
        assert_eq!(side.unwrap().name, key.replace("/user/", "/user.~meta/"));
    }
    let unweighted = only(WITHOUT_WEIGHT.0, WITHOUT_WEIGHT.1);
    assert_eq!(unweighted, instance("10.0.0.3:8888", "10.0.0.3:8888"));
}

#[test]
fn ipv6_address_is_read_without_brackets_and_written_with_them() {
    let v6 = instance("fd00::1:8888", "[fd00::1]:8888");
    assert_eq!(only(V6.0, V6.1), v6);
    let value = written(&layout(""), &v6).key.value.unwrap();
    assert_eq!(str::from_utf8(&value).unwrap(), V6.1.replace("fd00::1:", "[fd00::1]:"));
}

#[test]
fn weights_are_in_tenths() {
    for (weight, kitex) in [(1, 1), (10, 1), (11, 2), (100, 10), (u32::MAX, 429_496_730_i64)] {
        let value = written(&layout(""), &instance("1", "h:1").with_weight(weight)).key.value;
        let info: Info = go_json::decode(&value.unwrap()).unwrap();
        assert_eq!(info.weight, kitex);
    }
    for (kitex, weight) in [(-1, 100), (1, 10), (429_496_729, 4_294_967_290), (i64::MAX, u32::MAX)]
    {
        let value = format!(r#"{{"address":"h:1","weight":{kitex}}}"#);
        assert_eq!(only("kitex/registry-etcd/user/1", &value).weight(), weight, "{kitex}");
    }
}

#[test]
fn instance_that_is_not_available_has_no_public_key() {
    let draining = instance("1", "h:1").with_status(InstanceStatus::Draining);
    for hidden in [draining, instance("1", "h:1").with_weight(0)] {
        assert_eq!(written(&layout(""), &hidden).key.value, None);
    }
}

#[test]
fn service_with_a_slash_is_invalid() {
    let error = layout("").service(&"user/a".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let service_of = |key: &str| layout("").layout().service_of(key.as_bytes());
    assert_eq!(service_of(PLAIN.0), Some("user".parse().unwrap()));
    let nested = "kitex/registry-etcd/user/a/10.0.0.1:8888";
    assert_eq!(service_of(nested), None);
    let reading = read(nested, PLAIN.1);
    assert_eq!((reading.records.len(), reading.undecodable), (0, 0));
}

#[test]
fn value_that_kitex_refuses_is_undecodable() {
    for bad in
        ["", "10.0.0.1:80", r#"{"address":"/tmp/socket"}"#, r#"{"address":"h:1","weight":"x"}"#]
    {
        assert_eq!(read(PLAIN.0, bad).undecodable, 1, "{bad}");
    }
}

#[test]
fn kitex_record_is_not_detected_as_a_native_one() {
    let detect = |(key, value): (&str, &str)| builtin::detect(key.as_bytes(), value.as_bytes());
    assert_eq!(detect(PLAIN), Some("kitex"));
    assert_eq!(detect(("registry/user/1", r#"{"v":1,"address":"10.0.0.1:80"}"#)), Some("native"));
    let kratos = r#"{"id":"1","name":"user","endpoints":["grpc://h:1"]}"#;
    assert_eq!(detect(("/microservices/user/1", kratos)), Some("kratos"));
    assert_eq!(detect(("registry/user/2", kratos)), None);
}

#[test]
fn path_of_the_url_is_the_prefix() {
    for (path, key) in
        [("", "kitex/registry-etcd/user/1"), ("a/b", "a/b/user/1"), ("/a/", "/a//user/1")]
    {
        assert_eq!(written(&layout(path), &instance("1", "h:1")).key.name, key);
    }
}

proptest! {
    #[test]
    fn every_instance_round_trips(
        id in ".{1,40}",
        weight in prop_oneof![Just(100_u32), any::<u32>()],
        drains: bool,
        metadata in proptest::collection::btree_map(".*", ".*", 0..3),
    ) {
        let Ok(id) = InstanceId::new(id) else { return Ok(()) };
        let status = if drains { InstanceStatus::Draining } else { InstanceStatus::Up };
        let instance = Instance::from_parts("user".parse().unwrap(), id, "[::1]:65535".parse().unwrap())
            .with_weight(weight)
            .with_status(status)
            .with_metadata(metadata);
        let layout = layout("");
        let DesiredKeys { key, side } = written(&layout, &instance);
        let (keys, side) = (layout.service(instance.service()).unwrap(), side.unwrap());
        let public = key.value.as_ref().map(|value| at(&key.name, value));
        let side_kv = at(&side.name, side.value.as_ref().unwrap());
        let reading = Reading::of(&keys, [side_kv].into_iter().chain(public));
        prop_assert_eq!(reading.records[0].instance(), &instance);
        for name in [&key.name, &side.name] {
            prop_assert_eq!(layout.layout().service_of(name.as_bytes()), Some(instance.service().clone()));
        }
    }
}
