use super::*;
use crate::layout::decoder::Decoder;
use crate::layout::keyspace::{DesiredKeys, Keyspace};
use crate::layout::public::PublicLayout;
use crate::layout::reading::Reading;
use crate::layout::service::Kv;
use etcd_client::EventType;
use proptest::prelude::*;
use registry_core::{Change, Deleted, ErrorKind, InstanceStatus, LeaseId, Record};
use std::sync::Arc;

fn layout() -> Keyspace {
    Keyspace::new(Arc::new(PublicLayout::<Grpc>::new("")))
}

fn instance(id: &str) -> Instance {
    let address = "10.0.0.1:8080".parse().unwrap();
    Instance::from_parts("user.rpc".parse().unwrap(), id.parse().unwrap(), address)
}

fn read(value: &str) -> Result<Option<Instance>, DecodeError> {
    Grpc::decode(&"user.rpc".parse().unwrap(), &"1".parse().unwrap(), value.as_bytes())
}

/// Returns the keys to store for an instance under lease 9 with a ttl of 10 s.
fn written(instance: &Instance) -> Result<DesiredKeys> {
    let record = Record::new(instance.clone()).with_lease(LeaseId::new(9)?);
    layout().desired_keys(&record.with_ttl(std::time::Duration::from_secs(10)))
}

fn at<'a>(key: &'a str, value: &'a [u8]) -> Kv<'a> {
    Kv { key: key.as_bytes(), value, lease: 9, modified: 3 }
}

#[test]
fn public_key_has_the_bytes_of_go() {
    let DesiredKeys { key, side } = written(&instance("10.0.0.1:8080")).unwrap();
    assert_eq!(key.name, "user.rpc/10.0.0.1:8080");
    let value = key.value.unwrap();
    assert_eq!(value, br#"{"Op":0,"Addr":"10.0.0.1:8080","Metadata":null}"#);
    assert_eq!(value.len(), 47);
    let side = side.unwrap();
    assert_eq!(side.name, "user.rpc.~meta/10.0.0.1:8080");
    let record = r#"{"v":1,"address":"10.0.0.1:8080","weight":100,"status":"up","lease":9,"ttl":10000,"metadata":{}}"#;
    assert_eq!(str::from_utf8(&side.value.unwrap()).unwrap(), record);
    let keys = layout().service(&"user.rpc".parse().unwrap()).unwrap();
    assert_eq!((keys.start(), keys.end()), (&b"user.rpc.~meta/"[..], &b"user.rpc0"[..]));
}

#[test]
fn metadata_is_escaped_like_go() {
    let odd = [("<a>", "&\u{2028}\u{2029}\u{7f}"), ("\t", "\u{8}\u{c}\u{1}\"\\/\u{e9}")];
    let full = instance("1").with_metadata(odd);
    let golden = concat!(
        r#"{"Op":0,"Addr":"10.0.0.1:8080","Metadata":{"#,
        r#""\t":"\b\f\u0001\"\\/"#,
        "\u{e9}",
        r#"","\u003ca\u003e":"\u0026\u2028\u2029"#,
        "\u{7f}",
        r#""}}"#
    );
    assert_eq!(str::from_utf8(&Grpc::encode(&full).unwrap()).unwrap(), golden);
    assert_eq!(read(golden).unwrap(), Some(full));
}

#[test]
fn instance_that_is_not_available_has_no_public_key() {
    let draining = instance("7").with_status(InstanceStatus::Draining);
    for hidden in [draining, instance("7").with_weight(0)] {
        assert_eq!(written(&hidden).unwrap().key.value, None);
    }
}

#[test]
fn record_is_read_like_go() {
    let forms = [
        r#"{"Op":0,"Addr":"10.0.0.1:8080","Metadata":null}"#,
        r#"{"Addr":"10.0.0.1:8080"}"#,
        r#" { "ADDR" : "10.0.0.1:8080", "op": null, "New": [{}] } "#,
        r#"{"addr":"x","metadata":{"a":"b"},"Addr":"10.0.0.1:8080","Addr":null,"Metadata":null}"#,
        r#"{"Addr":"10.0.0.1\u003a8080"}"#,
    ];
    for form in forms {
        assert_eq!(read(form).unwrap(), Some(instance("1")), "{form}");
    }
}

#[test]
fn any_metadata_is_read_and_string_maps_are_kept() {
    let deep = format!("{}1{}", "[".repeat(1_000), "]".repeat(1_000));
    let shapes = [
        "1",
        "-1.5e300",
        "1e999",
        "\"text\"",
        "true",
        "[1,\"a\"]",
        "{}",
        r#"{"zone":"a","weight":7}"#,
        r#"{"weight":7}"#,
        r#""\ud800""#,
        r#"{"a":{"b":null}}"#,
        &deep,
    ];
    for shape in shapes {
        let record = format!(r#"{{"Op":0,"Addr":"10.0.0.1:8080","Metadata":{shape}}}"#);
        assert_eq!(read(&record).unwrap(), Some(instance("1")), "{shape}");
    }
    let strings = r#"{"Op":0,"Addr":"10.0.0.1:8080","metadata":{"v":"1","weight":"7"}}"#;
    let kept = instance("1").with_metadata([("v", "1"), ("weight", "7")]);
    assert_eq!(read(strings).unwrap(), Some(kept));
    let latin = b"{\"Addr\":\"10.0.0.1:8080\",\"Metadata\":{\"a\":\"\xe9\"}}";
    let replaced = instance("1").with_metadata([("a", "\u{fffd}")]);
    let found = Grpc::decode(replaced.service(), replaced.id(), latin).unwrap();
    assert_eq!(found, Some(replaced));
}

#[test]
fn invalid_records_are_refused() {
    let bad = [
        "",
        "null",
        "[]",
        "10.0.0.1:8080",
        "{}",
        r#"{"Op":0}"#,
        r#"{"Op":0,"Addr":""}"#,
        r#"{"Op":"0","Addr":"10.0.0.1:8080"}"#,
        r#"{"Op":2,"Addr":"10.0.0.1:8080"}"#,
        r#"{"Op":256,"Addr":"10.0.0.1:8080"}"#,
        r#"{"Addr":"10.0.0.1:8080"}x"#,
        r#"{"Addr":"10.0.0.1:8080","Metadata":}"#,
    ];
    for bad in bad {
        assert!(read(bad).is_err(), "{bad}");
    }
    let huge = format!(r#"{{"Addr":"h:1","x":"{}"}}"#, "y".repeat(MAX_RECORD_LEN));
    assert!(matches!(read(&huge), Err(DecodeError::TooLarge(_))));
}

#[test]
fn deleted_record_is_no_instance() {
    let deleted = br#"{"Op":1,"Addr":"10.0.0.1:8080","Metadata":null}"#;
    let keys = layout().service(&"user.rpc".parse().unwrap()).unwrap();
    let kv = Kv { key: b"user.rpc/1", value: deleted, lease: 0, modified: 3 };
    let nested = Kv { key: b"user.rpc/a/1", value: b"?", lease: 0, modified: 3 };
    let bad = Kv { key: b"user.rpc/2", value: b"?", lease: 0, modified: 3 };
    let reading = Reading::of(&keys, [kv, nested, bad].into_iter());
    assert_eq!((reading.records, reading.undecodable), (vec![], 1));
    let stored = Kv { value: br#"{"Addr":"h:1"}"#, ..kv };
    let mut decoder = Decoder::new(keys, [stored].into_iter());
    let changes = decoder.apply([kv, nested, bad].map(|s| (EventType::Put, s)).into_iter());
    assert_eq!(changes, [Change::Delete(Deleted::new("1".parse().unwrap()))]);
}

#[test]
fn record_too_large_after_escaping_is_invalid() {
    let large = instance("1").with_metadata([("k", "<".repeat(60_000))]);
    assert_eq!(written(&large).unwrap_err().kind(), ErrorKind::Invalid);
}

proptest! {
    #[test]
    fn every_instance_round_trips(
        service in ".{1,40}",
        id in ".{1,40}",
        weight in prop_oneof![Just(100_u32), any::<u32>()],
        drains: bool,
        metadata in proptest::collection::btree_map(".*", ".*", 0..3),
    ) {
        let (Ok(service), Ok(id)) = (ServiceName::new(service), InstanceId::new(id)) else {
            return Ok(());
        };
        let status = if drains { InstanceStatus::Draining } else { InstanceStatus::Up };
        let instance = Instance::from_parts(service.clone(), id, "[::1]:65535".parse().unwrap())
            .with_weight(weight)
            .with_status(status)
            .with_metadata(metadata);
        let DesiredKeys { key, side } = written(&instance).unwrap();
        let (keys, side) = (layout().service(&service).unwrap(), side.unwrap());
        let public = key.value.as_ref().map(|value| at(&key.name, value));
        let side_kv = at(&side.name, side.value.as_ref().unwrap());
        let reading = Reading::of(&keys, [side_kv].into_iter().chain(public));
        prop_assert_eq!(reading.records[0].instance(), &instance);
        for name in [&key.name, &side.name] {
            prop_assert_eq!(layout().layout().service_of(name.as_bytes()), Some(service.clone()));
        }
    }

    #[test]
    fn decoding_never_panics(bytes: Vec<u8>, metadata in ".*") {
        let (service, id) = ("a".parse().unwrap(), "1".parse().unwrap());
        let _ = Grpc::decode(&service, &id, &bytes);
        let record = format!(r#"{{"Addr":"h:1","Metadata":{metadata}}}"#);
        let _ = Grpc::decode(&service, &id, record.as_bytes());
    }
}
