use super::*;
use crate::layout::builtin;
use crate::layout::decoder::Decoder;
use crate::layout::keyspace::{DesiredKey, DesiredKeys, Keyspace};
use crate::layout::public::PublicLayout;
use crate::layout::reading::Reading;
use crate::layout::service::{Kv, ServiceLayout};
use etcd_client::EventType;
use proptest::prelude::*;
use registry_core::encoding::MAX_RECORD_LEN;
use registry_core::{Change, DeleteReason, InstanceStatus, LeaseId, Record};
use std::collections::BTreeMap;
use std::sync::Arc;

const PLAIN: &[u8] = b"192.168.1.5:8081";
const HEAVY: &[u8] =
    br#"{"v":1,"address":"192.168.1.5:8081","weight":200,"status":"up","ttl":10000,"metadata":{}}"#;
const DRAINING: &[u8] =
    br#"{"v":1,"address":"192.168.1.5:8081","weight":200,"status":"draining","metadata":{}}"#;
const WITHDRAWN: &[u8] =
    br#"{"v":1,"address":"192.168.1.5:8081","weight":100,"status":"withdrawn","metadata":{}}"#;

/// A change of an instance, without lease and revision.
#[derive(Debug, PartialEq)]
enum Seen {
    Put(Instance),
    Delete(InstanceId, Option<DeleteReason>),
}

use Seen::{Delete, Put};

fn layout(path: &str) -> Keyspace {
    Keyspace::new(Arc::new(PublicLayout::<GoZero>::new(path)))
}

fn built_in(name: &str, path: &str) -> Keyspace {
    let target = format!("etcd://h/{path}?layout={name}").parse().unwrap();
    Keyspace::new(builtin::from_target(&target).unwrap())
}

fn keys() -> ServiceLayout {
    layout("").service(&"user.rpc".parse().unwrap()).unwrap()
}

fn instance(id: &str) -> Instance {
    let address = "192.168.1.5:8081".parse().unwrap();
    Instance::from_parts("user.rpc".parse().unwrap(), id.parse().unwrap(), address)
}

fn at<'a>(key: &'a str, value: &'a [u8], lease: i64) -> Kv<'a> {
    Kv { key: key.as_bytes(), value, lease, modified: 3 }
}

fn put<'a>(key: &'a str, value: &'a [u8], lease: i64) -> (EventType, Kv<'a>) {
    (EventType::Put, at(key, value, lease))
}

fn del(key: &str) -> (EventType, Kv<'_>) {
    (EventType::Delete, at(key, b"", 0))
}

/// Returns the decoder of a watch that starts with the keys `stored`.
fn decoder(stored: &[Kv<'_>]) -> Decoder {
    Decoder::new(keys(), stored.iter().copied())
}

fn read(stored: &[Kv<'_>]) -> Reading {
    Reading::of(&keys(), stored.iter().copied())
}

fn instances(reading: &Reading) -> Vec<Instance> {
    reading.records.iter().map(|record| record.instance().clone()).collect()
}

fn step<'a>(
    decoder: &mut Decoder,
    events: impl IntoIterator<Item = (EventType, Kv<'a>)>,
) -> Vec<Seen> {
    let changes = decoder.apply(events.into_iter()).into_iter();
    let seen = changes.map(|change| match change {
        Change::Put(record) => Put(record.into_instance()),
        Change::Delete(deleted) => Delete(deleted.id().clone(), deleted.reason()),
    });
    seen.collect()
}

fn deleted(id: &str) -> Seen {
    Delete(id.parse().unwrap(), None)
}

/// Returns the keys to store for an instance under lease 9 with a ttl of 10 s.
fn written(layout: &Keyspace, instance: &Instance) -> Result<DesiredKeys> {
    let record = Record::new(instance.clone()).with_lease(LeaseId::new(9)?);
    layout.desired_keys(&record.with_ttl(std::time::Duration::from_secs(10)))
}

fn key(name: &str, value: &str) -> DesiredKey {
    DesiredKey { name: name.into(), value: Some(value.into()) }
}

#[test]
fn public_key_has_the_bytes_of_go_zero_and_the_side_key_the_whole_record() {
    let plain = written(&layout(""), &instance("1418812021444581893")).unwrap();
    assert_eq!(plain.key, key("user.rpc/1418812021444581893", "192.168.1.5:8081"));
    let side = r#"{"v":1,"address":"192.168.1.5:8081","weight":100,"status":"up","lease":9,"ttl":10000,"metadata":{}}"#;
    assert_eq!(plain.side, Some(key("user.rpc.~meta/1418812021444581893", side)));
    let under = written(&layout("prod/"), &instance("7")).unwrap();
    assert_eq!(under.key.name, "prod/user.rpc/7");
}

#[test]
fn instance_that_is_not_available_has_no_public_key() {
    let draining = instance("7").with_status(InstanceStatus::Draining);
    for hidden in [draining, instance("7").with_weight(0)] {
        let DesiredKeys { key, side } = written(&layout(""), &hidden).unwrap();
        assert_eq!((key.name.as_str(), key.value), ("user.rpc/7", None));
        let side = side.unwrap();
        let kv = at(&side.name, side.value.as_deref().unwrap(), 9);
        let reading = read(&[kv]);
        assert_eq!(instances(&reading), [hidden]);
        let record = &reading.records[0];
        assert_eq!((record.lease().unwrap().get(), record.revision().unwrap().get()), (9, 3));
    }
}

#[test]
fn path_of_slashes_is_the_root() {
    for (path, root, end) in [("/", "/", "0"), ("//", "//", "/0")] {
        for name in ["go-zero", "grpc"] {
            let layout = built_in(name, path);
            assert_eq!(layout.range(), (root.into(), end.into()));
            let key = written(&layout, &instance("7")).unwrap().key.name;
            assert_eq!(key, format!("{root}user.rpc/7"));
            assert_eq!(layout.layout().service_of(b"user.rpc/7"), None);
        }
        let key = format!("{root}user.rpc/7");
        let service = layout(path).layout().service_of(key.as_bytes());
        assert_eq!(service.unwrap().as_str(), "user.rpc");
        assert_eq!(built_in("native", path).root(), "registry/");
    }
    assert_eq!(layout("/prod/").root(), "/prod/");
    let scopes = ["", "/", "//"].map(|path| layout(path).root().to_owned());
    assert!(
        scopes[0] != scopes[1] && scopes[1] != scopes[2],
        "cursors of different paths must differ"
    );
}

#[test]
fn one_range_has_the_keys_and_side_keys_of_a_service() {
    let keys = keys();
    assert_eq!((keys.start(), keys.end()), (&b"user.rpc.~meta/"[..], &b"user.rpc0"[..]));
    assert_eq!(layout("").range(), ("\0".into(), "\0".into()));
    assert_eq!(layout("p/q/").range(), ("p/q/".into(), "p/q0".into()));
    let under = layout("p").service(&"a/b".parse().unwrap()).unwrap();
    assert_eq!((under.start(), under.end()), (&b"p/a/b.~meta/"[..], &b"p/a/b0"[..]));
}

#[test]
fn id_to_register_is_a_decimal_as_go_prints_it() {
    for good in ["1", "7", "9223372036854775807"] {
        written(&layout(""), &instance(good)).unwrap();
    }
    for bad in ["0", "-1", "+1", "07", "9223372036854775808", "abc", "1 ", "\u{661}"] {
        let error = written(&layout(""), &instance(bad)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
        assert!(error.to_string().contains("a decimal from 1 to 2^63-1"), "{error}");
    }
}

#[test]
fn service_named_like_side_keys_is_invalid() {
    for bad in ["user.rpc.~meta", ".~meta", "a/b.~meta"] {
        let error = layout("").service(&bad.parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
    }
    for good in ["~meta", "user.~meta/a", "user.~metadata"] {
        layout("").service(&good.parse().unwrap()).unwrap();
    }
}

#[test]
fn any_id_is_read_but_no_deeper_key() {
    let stored = [
        at("user.rpc.~meta/9", HEAVY, 0),
        at("user.rpc.~meta/a/b", HEAVY, 0),
        at("user.rpc.~other/1", PLAIN, 0),
        at("user.rpc/", PLAIN, 0),
        at("user.rpc/7", b"[fe80::1]:80", 5),
        at("user.rpc/abc", b"db-1.prod:1", 0),
        at("user.rpc/x/1", PLAIN, 0),
    ];
    let reading = read(&stored);
    let listed = instances(&reading);
    let found: Vec<_> = listed.iter().map(|i| (i.id().as_str(), i.address().as_str())).collect();
    assert_eq!(found, [("7", "[fe80::1]:80"), ("abc", "db-1.prod:1")]);
    assert_eq!(reading.undecodable, 0);
}

#[test]
fn invalid_address_is_skipped_counted_and_reported() {
    let long = "h".repeat(300);
    let bad: [&[u8]; 6] = [b"", b"host", b"h:0", b"h:1\n", b"\xff:1", long.as_bytes()];
    for bad in bad {
        let reading = read(&[at("user.rpc/1", PLAIN, 0), at("user.rpc/2", bad, 0)]);
        assert_eq!(instances(&reading), [instance("1")]);
        assert_eq!(reading.undecodable, 1);
        assert_eq!(reading.example.unwrap().0, "user.rpc/2");
    }
}

#[test]
fn side_key_counts_only_under_the_lease_of_its_key() {
    let heavy = instance("1").with_weight(200);
    for (side, key, expected) in [(5, 5, &heavy), (0, 0, &heavy), (5, 6, &instance("1"))] {
        let reading = read(&[at("user.rpc.~meta/1", HEAVY, side), at("user.rpc/1", PLAIN, key)]);
        assert_eq!(instances(&reading), std::slice::from_ref(expected), "side {side}, key {key}");
        assert_eq!(reading.undecodable, 0);
    }
}

#[test]
fn undecodable_side_key_is_reported_and_ignored() {
    let huge = [HEAVY, &vec![b' '; MAX_RECORD_LEN]].concat();
    for bad in [b"{".as_slice(), br#"{"v":2}"#, PLAIN, &huge] {
        let stored = [at("user.rpc.~meta/1", bad, 5), at("user.rpc/1", PLAIN, 5)];
        let reading = read(&stored);
        assert_eq!(instances(&reading), [instance("1")]);
        assert_eq!(reading.undecodable, 1);
        assert_eq!(reading.example.unwrap().0, "user.rpc.~meta/1");
        let mut decoder = decoder(&[]);
        let changes = step(&mut decoder, stored.map(|kv| (EventType::Put, kv)));
        assert_eq!(changes, [Put(instance("1"))]);
    }
}

#[test]
fn key_and_side_key_of_one_revision_are_one_change() {
    let heavy = instance("1").with_weight(200);
    let pair = [put("user.rpc.~meta/1", HEAVY, 5), put("user.rpc/1", PLAIN, 5)];
    for events in [pair, [pair[1], pair[0]]] {
        let mut decoder = decoder(&[]);
        assert_eq!(step(&mut decoder, events), [Put(heavy.clone())]);
        let back = [put("user.rpc/1", PLAIN, 5), del("user.rpc.~meta/1")];
        assert_eq!(step(&mut decoder, back), [Put(instance("1"))]);
        step(&mut decoder, events);
        let end = [del("user.rpc/1"), del("user.rpc.~meta/1")];
        assert_eq!(step(&mut decoder, end), [deleted("1")]);
    }
}

#[test]
fn changed_side_key_is_a_put_of_the_whole_instance() {
    let mut decoder = decoder(&[at("user.rpc/1", PLAIN, 5)]);
    let heavy = [Put(instance("1").with_weight(200))];
    assert_eq!(step(&mut decoder, [put("user.rpc.~meta/1", HEAVY, 5)]), heavy);
    let plain = [Put(instance("1"))];
    assert_eq!(step(&mut decoder, [del("user.rpc.~meta/1")]), plain);
}

#[test]
fn side_key_without_key_is_no_instance() {
    let mut decoder = decoder(&[]);
    assert_eq!(step(&mut decoder, [put("user.rpc.~meta/1", HEAVY, 5)]), []);
    let heavy = [Put(instance("1").with_weight(200))];
    assert_eq!(step(&mut decoder, [put("user.rpc/1", PLAIN, 5)]), heavy);
    assert_eq!(step(&mut decoder, [del("user.rpc/1")]), [deleted("1")]);
    assert_eq!(step(&mut decoder, [del("user.rpc.~meta/1")]), []);
}

#[test]
fn takeover_by_a_go_publisher_drops_the_side_key() {
    let mut decoder = decoder(&[at("user.rpc.~meta/1", HEAVY, 5), at("user.rpc/1", PLAIN, 5)]);
    let moved = instance("1").with_address("10.0.0.9:80".parse().unwrap());
    let taken = step(&mut decoder, [put("user.rpc/1", b"10.0.0.9:80", 6)]);
    assert_eq!(taken, [Put(moved)], "a replacement is one change");
    let late = [put("user.rpc.~meta/1", br#"{"address":"h:1","weight":3}"#, 5)];
    assert_eq!(step(&mut decoder, late), []);
    assert_eq!(step(&mut decoder, [del("user.rpc.~meta/1")]), [], "the old lease ends");
}

#[test]
fn recreated_key_does_not_inherit_the_deleted_side_key() {
    let mut decoder = decoder(&[at("user.rpc.~meta/1", HEAVY, 5), at("user.rpc/1", PLAIN, 5)]);
    step(&mut decoder, [del("user.rpc/1"), del("user.rpc.~meta/1")]);
    let again = step(&mut decoder, [put("user.rpc/1", PLAIN, 5)]);
    assert_eq!(again, [Put(instance("1"))]);
}

#[test]
fn undecodable_key_is_deleted_once_and_comes_back_whole() {
    let mut decoder = decoder(&[at("user.rpc.~meta/1", HEAVY, 5), at("user.rpc/1", PLAIN, 5)]);
    assert_eq!(step(&mut decoder, [put("user.rpc/1", b"{\"v\":1,", 0)]), [deleted("1")]);
    assert_eq!(step(&mut decoder, [put("user.rpc/1", b"?", 0)]), []);
    let back = step(&mut decoder, [put("user.rpc/1", PLAIN, 5)]);
    assert_eq!(back, [Put(instance("1").with_weight(200))]);
    assert_eq!(step(&mut decoder, [put("user.rpc/2", b"?", 0)]), [], "it was never listed");
}

#[test]
fn draining_instance_is_read_from_its_side_key_only() {
    let mut decoder = decoder(&[at("user.rpc.~meta/1", HEAVY, 5), at("user.rpc/1", PLAIN, 5)]);
    let draining = instance("1").with_weight(200).with_status(InstanceStatus::Draining);
    let drain = [del("user.rpc/1"), put("user.rpc.~meta/1", DRAINING, 5)];
    assert_eq!(step(&mut decoder, drain), [Put(draining)]);
    let back = [put("user.rpc/1", PLAIN, 5), put("user.rpc.~meta/1", HEAVY, 5)];
    assert_eq!(step(&mut decoder, back), [Put(instance("1").with_weight(200))]);
    step(&mut decoder, drain);
    assert_eq!(step(&mut decoder, [del("user.rpc.~meta/1")]), [deleted("1")]);
}

#[test]
fn withdrawn_instance_is_deleted_once_with_that_reason() {
    let mut decoder = decoder(&[at("user.rpc.~meta/1", HEAVY, 5), at("user.rpc/1", PLAIN, 5)]);
    let withdrawal = [del("user.rpc/1"), put("user.rpc.~meta/1", WITHDRAWN, 5)];
    let withdrawn = Delete("1".parse().unwrap(), Some(DeleteReason::Withdrawn));
    assert_eq!(step(&mut decoder, withdrawal), [withdrawn]);
    assert_eq!(step(&mut decoder, [put("user.rpc.~meta/1", WITHDRAWN, 5)]), [], "a repeat");
    let reading = read(&[at("user.rpc.~meta/1", WITHDRAWN, 5)]);
    assert_eq!((reading.records.len(), reading.undecodable), (0, 0));
    assert_eq!(step(&mut decoder, [del("user.rpc.~meta/1")]), []);
}

#[test]
fn undecodable_side_key_without_a_key_is_counted() {
    let reading = read(&[at("user.rpc.~meta/1", b"?", 5)]);
    assert_eq!((reading.records.len(), reading.undecodable), (0, 1));
}

#[test]
fn foreign_keys_change_nothing() {
    let mut decoder = decoder(&[]);
    let foreign =
        ["user.rpc/a/1", "user.rpc/", "user.rpc.~meta/a/1", "user.rpc.~x/1", "user.rpc/\n"];
    for key in foreign {
        assert_eq!(step(&mut decoder, [put(key, PLAIN, 5)]), [], "{key}");
        assert_eq!(step(&mut decoder, [del(key)]), [], "{key}");
    }
}

#[test]
fn service_list_has_the_names_of_keys_and_side_keys() {
    let service_of = |path, key: &str| layout(path).layout().service_of(key.as_bytes());
    assert_eq!(service_of("", "prod/order.rpc/abc"), Some("prod/order.rpc".parse().unwrap()));
    assert_eq!(service_of("prod", "prod/order.rpc/7"), Some("order.rpc".parse().unwrap()));
    assert_eq!(service_of("", "a.~meta/1"), Some("a".parse().unwrap()));
    for key in [".~meta/1", "a", "/a/1", "/1", "a/", "prod/7\n"] {
        assert_eq!(service_of("", key), None, "{key}");
    }
    assert_eq!(service_of("prod", "prodigy/1"), None);
    assert_eq!(service_of("prod", "prod/7"), None);
}

proptest! {
    #[test]
    fn every_instance_round_trips(
        service in ".{1,40}",
        id in 1_i64..,
        weight in prop_oneof![Just(100_u32), any::<u32>()],
        drains: bool,
        metadata in proptest::collection::btree_map(".*", ".*", 0..3),
    ) {
        let Ok(service) = ServiceName::new(service) else { return Ok(()) };
        let status = if drains { InstanceStatus::Draining } else { InstanceStatus::Up };
        let id = InstanceId::new(id.to_string()).unwrap();
        let address = "[::1]:65535".parse().unwrap();
        let instance = Instance::from_parts(service.clone(), id, address)
            .with_weight(weight)
            .with_status(status)
            .with_metadata(metadata);
        let layout = layout("p");
        let DesiredKeys { key, side } = written(&layout, &instance).unwrap();
        let keys = layout.service(&service).unwrap();
        let side = side.unwrap();
        let inside = |key: &str| keys.start() <= key.as_bytes() && key.as_bytes() < keys.end();
        prop_assert!(inside(&key.name) && inside(&side.name));
        prop_assert_eq!(key.value.is_some(), instance.is_available());
        let public = key.value.as_ref().map(|value| at(&key.name, value, 9));
        let side_kv = at(&side.name, side.value.as_ref().unwrap(), 9);
        let reading = Reading::of(&keys, [side_kv].into_iter().chain(public));
        prop_assert_eq!(reading.records[0].ttl(), Some(std::time::Duration::from_secs(10)));
        prop_assert_eq!(instances(&reading), [instance]);
        for name in [&key.name, &side.name] {
            prop_assert_eq!(layout.layout().service_of(name.as_bytes()), Some(service.clone()));
        }
    }

    /// For any changes to the keys of two instances, a watch from any point shows the same as a load.
    #[test]
    fn folded_watch_equals_load(
        revisions in proptest::collection::vec(
            proptest::collection::vec((0..4_usize, 0..6_usize, 0..2_i64), 1..5), 1..20),
        begin in 0..20_usize,
    ) {
        const KEYS: [&str; 4] =
            ["user.rpc.~meta/1", "user.rpc.~meta/2", "user.rpc/1", "user.rpc/2"];
        const VALUES: [&[u8]; 5] = [PLAIN, HEAVY, b"x:1", DRAINING, WITHDRAWN];
        let mut stored = BTreeMap::<&str, Kv<'_>>::new();
        let shown = |stored: &BTreeMap<&'static str, Kv<'static>>| {
            let keys: Vec<_> = stored.values().copied().collect();
            (read(&keys).records, decoder(&keys))
        };
        let (mut folded, mut decoder) = (BTreeMap::new(), decoder(&[]));
        for (n, events) in revisions.iter().enumerate() {
            if n == begin {
                decoder = shown(&stored).1;
            }
            let modified = n as u64 + 2;
            let mut revision = BTreeMap::new();
            for (key, value, lease) in events {
                revision.insert(KEYS[*key], VALUES.get(*value).map(|value| (*value, *lease)));
            }
            let mut events_of_revision = Vec::new();
            for (key, event) in &revision {
                match event {
                    Some((value, lease)) => {
                        let kv = Kv { modified, ..at(key, value, *lease) };
                        stored.insert(key, kv);
                        events_of_revision.push((EventType::Put, kv));
                    }
                    None if stored.remove(key).is_some() => events_of_revision.push(del(key)),
                    None => {}
                }
            }
            let changes = decoder.apply(events_of_revision.into_iter());
            let mut ids: Vec<_> = changes.iter().map(Change::id).cloned().collect();
            ids.dedup();
            prop_assert_eq!(ids.len(), changes.len(), "one change per id");
            for change in changes {
                match change {
                    Change::Put(record) => {
                        folded.insert(record.id().clone(), record);
                    }
                    Change::Delete(deleted) => prop_assert!(folded.remove(deleted.id()).is_some()),
                }
            }
            let folded: Vec<_> = folded.values().cloned().collect();
            prop_assert_eq!(folded, shown(&stored).0);
        }
    }
}
