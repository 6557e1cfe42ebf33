//! Invariants for any response of a server, and for URLs. The fuzz targets of `fuzz/` call each with generated
//! bytes, and a test below with their corpus. An invariant that does not hold panics.

#![allow(clippy::missing_panics_doc)]

use crate::cursor::{History, KeyMeta, Proof};
use crate::error::EtcdError;
use crate::holding::Found;
use crate::layout::builtin;
#[cfg(test)]
use crate::layout::decoder::Decoder;
use crate::layout::keyspace::Keyspace;
use crate::layout::reading::Reading;
use crate::layout::service::{Kv, Part};
use crate::register::outcome;
use crate::{EtcdOptions, EtcdRegistry, txn};
use etcd_client::proto::{PbRangeResponse, PbTxnResponse};
use etcd_client::{EventType, KeyValue, TxnResponse};
use prost::Message;
use registry_core::encoding::{MAX_RECORD_LEN, Stored};
use registry_core::{
    ErrorKind, Instance, InstanceId, LeaseId, Record, Secret, ServiceName, Target,
};
use std::time::Duration;

pub use crate::watch::fuzzing::watch;

#[cfg(test)]
const LAWS: [replay::Law; 7] = [
    ("etcd_transaction", transaction),
    ("etcd_keys", keys),
    ("etcd_proof", proof),
    ("etcd_layout", layout),
    ("etcd_names", names),
    ("etcd_url", url),
    ("etcd_watch", watch),
];

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

pub(crate) const LAYOUTS: [&str; 5] = ["native", "go-zero", "grpc", "kratos", "kitex"];

pub(crate) fn keyspace(layout: &str) -> Keyspace {
    let target = format!("etcd://h/r?layout={layout}").parse().expect("a URL");
    Keyspace::new(builtin::from_target(&target).expect("a layout"))
}

/// A response to a transaction is decoded to an outcome or an error.
pub fn transaction(data: &[u8]) {
    if let Ok(answer) = PbTxnResponse::decode(data) {
        check_transaction(&TxnResponse(answer));
    }
}

pub(crate) fn check_transaction(answer: &TxnResponse) {
    drop(outcome(answer));
    let Ok(found) = txn::reads(answer) else { return };
    let one = instance("user", "1");
    let record = Record::new(one.clone()).with_lease(lease(1)).with_ttl(Duration::from_secs(10));
    for layout in LAYOUTS {
        let keyspace = keyspace(layout);
        let service = keyspace.service(one.service()).expect("a service");
        let found = Found::new(&found);
        let decoded = found.decode(&service, one.id());
        let holder: Result<_, EtcdError> = found.holder(&service, one.id());
        let desired = keyspace.desired_keys(&record).expect("a record");
        if let Ok(Some(holder)) = &holder {
            let held = desired.is_held_since(holder);
            assert!(!held.is_empty(), "a takeover from {holder} is impossible");
        }
        if let (Ok(Some(Stored::Live(_))), Ok(holder)) = (&decoded, &holder) {
            assert!(holder.is_some(), "a listed record must hold its id");
        }
        assert_eq!(found.is_unchanged(&desired).len(), desired.keys().count());
        found.is_side_of(1);
    }
}

/// Each key of a service is decoded, reported or ignored, and a proof round-trips through its text.
pub fn keys(data: &[u8]) {
    if let Ok(answer) = PbRangeResponse::decode(data) {
        let kvs: Vec<_> = answer.kvs.into_iter().map(KeyValue).collect();
        check_keys(&kvs, answer.count.unsigned_abs());
    }
}

pub(crate) fn check_keys(kvs: &[KeyValue], cluster: u64) {
    let user = "user".parse().expect("a name");
    for layout in LAYOUTS {
        let service = keyspace(layout).service(&user).expect("a service");
        let reading = Reading::of(&service, kvs.iter().map(Kv::from));
        assert!(reading.records.len() + reading.undecodable <= kvs.len());
        assert!(reading.records.iter().all(|record| *record.instance().service() == user));
        assert_eq!(reading.example.is_some(), reading.undecodable > 0);
        if let Some((key, why)) = reading.example {
            // Both are logged.
            assert!(!key.chars().chain(why.chars()).any(char::is_control), "{key:?}: {why:?}");
        }
    }
    let mut proof = Proof::new(cluster);
    for kv in kvs {
        proof.add(KeyMeta::from(kv));
    }
    let newest = kvs.iter().map(KeyMeta::from).max_by_key(|key| key.modified);
    proof.check(kvs.len() as u64, newest).expect("a proof matches its own keys");
    check_proof(&proof);
    let mut history = History::new(proof, kvs.first().map(KeyValue::key));
    for (n, kv) in kvs.iter().enumerate() {
        history.advance(if n % 3 == 0 { EventType::Delete } else { EventType::Put }, kv.into());
        check_proof(history.proof());
    }
}

fn check_proof(proof: &Proof) {
    let text = proof.to_string();
    assert_eq!(text.parse().as_ref(), Ok(proof), "{text}");
}

/// The text of a proof in a cursor is refused, or round-trips.
pub fn proof(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(proof) = text.parse::<Proof>() else { return };
    check_proof(&proof);
    for (kind, lease) in [(EventType::Put, -1), (EventType::Delete, 7)] {
        let key = KeyMeta { key: b"k", created: u64::MAX, modified: u64::MAX, lease };
        let mut history = History::new(proof.clone(), Some(b"k"));
        history.advance(kind, key);
        check_proof(history.proof());
    }
}

/// In each layout, a key and its value are refused, or their record round-trips. The input is an id, the value of
/// the key and the value of the side key, separated by 0 bytes.
pub fn layout(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let id = parts.next().unwrap_or_default();
    let (value, side) = (parts.next(), parts.next());
    let user: ServiceName = "user".parse().expect("a name");
    for layout in LAYOUTS {
        let keyspace = keyspace(layout);
        let service = keyspace.service(&user).expect("a service");
        let prefix = keyspace.layout().keys(&user).expect("a service").prefix().to_owned();
        let key = [prefix.as_bytes(), id].concat();
        let Ok(Some((Part::Key, id))) = service.locate(&key, b"") else { continue };
        assert_eq!(keyspace.layout().service_of(&key).as_ref(), Some(&user));
        let kv = |value| Kv { key: &key, value, lease: 9, modified: 3 };
        let decoded = service.decode(&id, value.map(kv), side.map(kv));
        let Ok(Some(Stored::Live(record))) = decoded else { continue };
        assert!(value.is_none_or(|value| value.len() <= MAX_RECORD_LEN));
        assert_eq!((record.instance().service(), record.id()), (&user, &id));
        // A record may be readable but no longer writable.
        let Ok(written) = keyspace.desired_keys(&record) else { continue };
        assert_eq!(written.key.name.as_bytes(), key);
        let values = written.keys().map(|key| key.value.as_deref());
        assert!(values.flatten().all(|value| value.len() <= MAX_RECORD_LEN));
        let side = written.side.as_ref().and_then(|side| side.value.as_deref());
        let again = service.decode(&id, written.key.value.as_deref().map(kv), side.map(kv));
        let again = again.expect("an encoded record can be decoded");
        assert_eq!(again, Some(Stored::Live(record)), "{layout}");
    }
}

/// In each layout, the keys of a service and an instance lie under the root of the URL and in the range of their
/// service. The input is the path of a URL, a service and an id, separated by 0 bytes.
pub fn names(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut parts = text.splitn(3, '\0');
    let [path, service, id] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let (Ok(name), Ok(id)) = (service.parse::<ServiceName>(), id.parse::<InstanceId>()) else {
        return;
    };
    for layout in LAYOUTS {
        let Ok(target) = format!("etcd://h/{path}?layout={layout}").parse() else { return };
        let Ok(layout) = builtin::from_target(&target) else { return };
        let keyspace = Keyspace::new(layout);
        let Ok(service) = keyspace.service(&name) else { continue };
        assert!(service.start() < service.end());
        let (first, end) = keyspace.range();
        assert!(*first <= *service.start() && (end == b"\0" || *service.end() <= *end));
        let record = Record::new(instance(name.as_str(), id.as_str())).with_lease(lease(9));
        let Ok(desired) = keyspace.desired_keys(&record) else { continue };
        for (key, part) in desired.keys().zip([Part::Key, Part::SideKey]) {
            let key = key.name.as_bytes();
            assert!((service.start()..service.end()).contains(&key), "{}", key.escape_ascii());
            assert_eq!(service.locate(key, b"").ok(), Some(Some((part, id.clone()))));
            assert_eq!(keyspace.layout().service_of(key).as_ref(), Some(&name));
        }
    }
}

/// A URL is refused, or names members and a layout. Its password is never displayed.
pub fn url(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(target) = text.parse::<Target>() else { return };
    match EtcdRegistry::connect_lazy_with(&target, EtcdOptions::default()) {
        Ok(registry) => {
            assert!(!target.hosts().is_empty() && target.scheme().starts_with("etcd"));
            check_hidden(&target, &format!("{registry:?}"));
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            check_hidden(&target, &format!("{} {error:?}", error.chain()));
        }
    }
}

/// Asserts that the password is not shown, unless another part of the URL contains it.
fn check_hidden(target: &Target, shown: &str) {
    let Some(password) = target.password().map(Secret::reveal) else { return };
    let escaped = format!("{password:?}");
    let occurs_elsewhere = format!("{target:?}").contains(&escaped[1..escaped.len() - 1]);
    let is_public =
        password.len() < 6 || occurs_elsewhere || format!("{target}").contains(password);
    assert!(is_public || !shown.contains(password), "{shown}");
}

/// Events are decoded or reported, whatever keys existed before.
#[cfg(test)]
pub(crate) fn check_events(before: &[KeyValue], events: &[(EventType, KeyValue)]) {
    let user = "user".parse().expect("a name");
    for layout in LAYOUTS {
        let service = keyspace(layout).service(&user).expect("a service");
        let mut decoder = Decoder::new(service, before.iter().map(Kv::from));
        let events: Vec<_> = events.iter().map(|(kind, kv)| (*kind, kv)).collect();
        decoder.changes(&events);
    }
}

fn instance(service: &str, id: &str) -> Instance {
    let address = "10.0.0.1:80".parse().expect("an address");
    Instance::from_parts(service.parse().expect("a name"), id.parse().expect("an id"), address)
}

fn lease(id: i64) -> LeaseId {
    LeaseId::new(id).expect("a lease")
}
