//! Tests of the stored form of a record: its exact bytes, and the tolerance of the decoder.

use super::*;
use proptest::prelude::*;

fn read(record: &str) -> Result<Record, DecodeError> {
    let decoded = decode(&"user.rpc".parse().unwrap(), &"1".parse().unwrap(), record.as_bytes());
    decoded.map(|stored| match stored {
        Stored::Live(record) => record,
        Stored::Withdrawn(record) => panic!("{record:?} is not withdrawn"),
    })
}

fn instance() -> Instance {
    let address = "10.0.0.1:8080".parse().unwrap();
    Instance::from_parts("user.rpc".parse().unwrap(), "1".parse().unwrap(), address)
}

#[test]
fn encoding_a_record_builds_no_map_of_its_metadata() {
    let instance = instance().with_metadata([("a", "\u{1}\""), ("b", "/\u{7f}")]);
    let encoded = encode(&Record::new(instance)).unwrap();
    let record = read(str::from_utf8(&encoded).unwrap()).unwrap();
    assert_eq!(encode(&record).unwrap(), encoded);
    assert!(!record.instance().encoded_metadata().has_map());
}

/// The golden files are wire format: every release must read them in the same way.
#[test]
fn golden_records_encode_byte_for_byte_and_decode() {
    let full = instance()
        .with_address("[2001:db8::1]:65535".parse().unwrap())
        .with_port("metrics", Port::new(9100).with_protocol("http"))
        .with_port("admin", 9090)
        .with_zone("eu-1")
        .with_label("tier", "gold")
        .with_weight(0)
        .with_status(InstanceStatus::Draining)
        .with_metadata([("commit", "4f2a"), ("a<", "\"b\"")]);
    let full = Record::new(full)
        .with_lease(LeaseId::new(7_587_862_094_070_025_734).unwrap())
        .with_ttl(Duration::from_secs(10));
    let minimal = Record::new(instance());
    let forms = [
        (full, include_str!("../../golden/record-full.json")),
        (minimal, include_str!("../../golden/record-minimal.json")),
    ];
    for (record, form) in forms {
        assert_eq!(String::from_utf8(encode(&record).unwrap()).unwrap(), form);
        assert_eq!(read(form).unwrap(), record);
    }
    let withdrawn = Record::new(instance()).with_ttl(Duration::from_secs(2));
    let form = include_str!("../../golden/record-withdrawn.json");
    assert_eq!(String::from_utf8(encode_withdrawn(&withdrawn).unwrap()).unwrap(), form);
    let (service, id) = (withdrawn.instance().service(), withdrawn.id());
    let decoded = decode(service, id, form.as_bytes()).unwrap();
    assert!(matches!(decoded, Stored::Withdrawn(record) if record.ttl() == withdrawn.ttl()));
}

#[test]
fn a_record_of_a_future_release_is_read_and_its_instance_is_not_available() {
    let record = read(include_str!("../../golden/record-future.json")).unwrap();
    let expected = instance().with_weight(0).with_status(InstanceStatus::Unknown);
    assert_eq!(record.instance(), &expected);
    assert_eq!((record.ttl(), record.lease()), (Some(Duration::from_secs(10)), None));
}

#[test]
fn unknown_missing_and_null_fields_are_tolerated() {
    assert_eq!(*read(r#"{"address":"10.0.0.1:8080"}"#).unwrap().instance(), instance());
    let null = r#"{"zone":[1],"address":"10.0.0.1:8080","metadata":null,"weight":null,"status":null,"v":1}"#;
    assert_eq!(*read(null).unwrap().instance(), instance());
    for v in ["7", "\"x\"", "-1"] {
        let later = format!(r#"{{"v":{v},"address":"10.0.0.1:8080"}}"#);
        assert_eq!(*read(&later).unwrap().instance(), instance(), "{later}");
    }
}

#[test]
fn an_unknown_field_may_have_bytes_that_are_not_utf_8() {
    let record = b"{\"address\":\"10.0.0.1:8080\",\"x\":\"\xff\"}";
    let (service, id) = ("user.rpc".parse().unwrap(), "1".parse().unwrap());
    let decoded = decode(&service, &id, record).unwrap();
    assert_eq!(decoded, Stored::Live(Record::new(instance())));
}

#[test]
fn a_status_or_weight_that_is_not_understood_makes_the_instance_unavailable() {
    for field in [
        r#""status":"resting""#,
        r#""status":{"is":"up"}"#,
        r#""weight":-1"#,
        r#""weight":"heavy""#,
        r#""weight":4294967296"#,
    ] {
        let record = format!(r#"{{"v":2,"address":"10.0.0.1:8080",{field},"ttl":5000}}"#);
        let record = read(&record).unwrap();
        assert!(!record.instance().is_available(), "{field}");
        assert_eq!(record.ttl(), Some(Duration::from_secs(5)), "{field}");
        assert_eq!(record.instance().address().to_string(), "10.0.0.1:8080");
    }
}

#[test]
fn metadata_that_is_not_understood_is_left_out() {
    let record = read(r#"{"address":"10.0.0.1:8080","metadata":{"a":1},"ttl":"long"}"#).unwrap();
    assert_eq!((record.ttl(), record.instance()), (None, &instance()));
}

#[test]
fn only_a_missing_or_unreadable_address_makes_a_record_undecodable() {
    let huge = format!(r#"{{"v":1,"address":"a:1","x":"{}"}}"#, "y".repeat(MAX_RECORD_LEN));
    assert!(matches!(read(&huge), Err(DecodeError::TooLarge(_))));
    for malformed in ["", "{", "10.0.0.1:8080", "[]", "null"] {
        assert!(matches!(read(malformed), Err(DecodeError::Malformed(_))), "{malformed}");
    }
    for address in ["{}", r#"{"address":"x"}"#, r#"{"address":["a:1"]}"#, r#"{"address":":1"}"#] {
        assert!(matches!(read(address), Err(DecodeError::Address(_))), "{address}");
    }
}

/// JSON does not escape DEL and the C1 control characters, so a record could send control sequences to the terminal of
/// a person who reads the log.
#[test]
fn a_decode_error_contains_no_control_characters_of_the_record() {
    let record = "{\"address\":\"\u{9b}31m\u{7f}\u{202e}'\\\"\"}";
    let error = read(record).unwrap_err().to_string();
    let shown = r#"address=`"\u{9b}31m\u{7f}\u{202e}'\""`"#;
    assert_eq!(error, format!("record has no readable address, {shown}"));
}

#[test]
fn an_address_that_cannot_be_registered_is_still_read() {
    for address in ["under_score:80", "a b:1", "999.1.1.1:80"] {
        let record = format!(r#"{{"v":1,"address":"{address}"}}"#);
        assert_eq!(read(&record).unwrap().instance().address().to_string(), address);
    }
}

#[test]
fn a_record_that_is_too_large_is_not_written() {
    let large = Record::new(instance().with_label("a", "x".repeat(MAX_RECORD_LEN)));
    assert_eq!(encode(&large).unwrap_err().kind(), ErrorKind::Invalid);
}

proptest! {
    #[test]
    fn every_instance_round_trips(
        weight: u32,
        drains: bool,
        zone: Option<String>,
        port: Option<u16>,
        lease in proptest::option::of(1_i64..),
        ttl in proptest::option::of(1_u32..),
        metadata in proptest::collection::btree_map(".*", ".*", 0..5),
    ) {
        let status = if drains { InstanceStatus::Draining } else { InstanceStatus::Up };
        let mut instance = instance().with_weight(weight).with_status(status).with_metadata(metadata);
        if let Some(zone) = zone {
            instance = instance.with_label("of", &zone).with_zone(zone);
        }
        if let Some(port) = port.filter(|port| *port > 0) {
            instance = instance.with_port("admin", Port::new(port).with_protocol("http"));
        }
        let mut record = Record::new(instance);
        if let Some(ttl) = ttl {
            record = record.with_ttl(Duration::from_millis(ttl.into()));
        }
        if let Some(lease) = lease {
            record = record.with_lease(LeaseId::new(lease).unwrap());
        }
        let (service, id) = (record.instance().service(), record.id());
        let encoded = encode(&record).unwrap();
        prop_assert!(encoded.len() <= MAX_RECORD_LEN);
        prop_assert_eq!(decode(service, id, &encoded).unwrap(), Stored::Live(record.clone()));
        let withdrawn = decode(service, id, &encode_withdrawn(&record).unwrap()).unwrap();
        prop_assert!(matches!(withdrawn, Stored::Withdrawn(_)));
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
        let _ = decode(&"a".parse().unwrap(), &"1".parse().unwrap(), &bytes);
    }
}
