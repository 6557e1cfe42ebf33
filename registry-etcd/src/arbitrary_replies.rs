//! No reply makes this crate panic, whatever a server sends.

use crate::cursor::{History, KeyMeta, Proof};
use crate::error::EtcdError;
use crate::holding::Found;
use crate::layout::builtin;
use crate::layout::decoder::Decoder;
use crate::layout::keyspace::Keyspace;
use crate::layout::reading::Reading;
use crate::layout::service::Kv;
use crate::register::outcome;
use crate::txn;
use etcd_client::proto::{
    PbKeyValue, PbRangeResponse, PbResponseHeader, PbResponseOp, PbTxnOpResponse, PbTxnResponse,
};
use etcd_client::{EventType, KeyValue, TxnResponse};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use registry_core::{Instance, LeaseId, Record};
use std::time::Duration;

const LAYOUTS: [&str; 3] = ["native", "go-zero", "grpc"];

fn keyspace(layout: &str) -> Keyspace {
    let target = format!("etcd://h/r?layout={layout}").parse().unwrap();
    Keyspace::new(builtin::from_target(&target).unwrap())
}

/// Numbers that a server may send. The extremes are frequent.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(1), Just(-1), Just(i64::MIN), Just(i64::MAX), any::<i64>(), 0..9i64]
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let ours = prop_oneof![
        Just("r/user/1"),
        Just("r/user/2"),
        Just("r/user.~meta/1"),
        Just("r/user.~meta/2"),
        Just("r/user/"),
        Just("r/user/%2f"),
        Just("r/order/1"),
    ];
    prop_oneof![ours.prop_map(|key| key.as_bytes().to_vec()), vec(any::<u8>(), 0..20)]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let texts = prop_oneof![
        Just(r#"{"v":1,"address":"10.0.0.1:80","weight":7,"status":"up","ttl":10000}"#),
        Just(r#"{"v":1,"address":"10.0.0.1:80","weight":-7,"status":"withdrawn","ttl":1e99}"#),
        Just(r#"{"v":99,"address":{},"lease":-1,"metadata":[]}"#),
        Just(r#"{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"a":"b"}}"#),
        Just(r#"{"Op":-1,"Addr":"","Metadata":[[[[[[]]]]]]}"#),
        Just("10.0.0.1:80"),
        Just("[::1]:99999"),
        Just(""),
    ];
    let huge = Just(vec![b'{'; 70_000]);
    prop_oneof![
        8 => texts.prop_map(|text| text.as_bytes().to_vec()),
        4 => vec(any::<u8>(), 0..60),
        1 => huge
    ]
}

prop_compose! {
    fn key_value()(
        key in key(), value in value(), create_revision in number(), mod_revision in number(),
        version in number(), lease in number(),
    ) -> PbKeyValue {
        PbKeyValue { key, value, create_revision, mod_revision, version, lease }
    }
}

fn operation() -> impl Strategy<Value = PbResponseOp> {
    let range = vec(key_value(), 0..3).prop_map(|kvs| {
        PbTxnOpResponse::ResponseRange(PbRangeResponse { kvs, ..PbRangeResponse::default() })
    });
    let leaf = prop_oneof![
        4 => range,
        1 => Just(PbTxnOpResponse::ResponsePut(etcd_client::proto::PbPutResponse::default())),
        1 => Just(PbTxnOpResponse::ResponseDeleteRange(
            etcd_client::proto::PbDeleteResponse::default()
        )),
    ];
    let operation = leaf.prop_recursive(24, 64, 3, |inner| {
        (vec(option::weighted(0.9, inner), 0..3), any::<bool>()).prop_map(|(inner, succeeded)| {
            let responses = inner.into_iter().map(|response| PbResponseOp { response });
            let responses = responses.collect();
            PbTxnOpResponse::ResponseTxn(PbTxnResponse { header: None, succeeded, responses })
        })
    });
    option::weighted(0.95, operation).prop_map(|response| PbResponseOp { response })
}

prop_compose! {
    fn transaction()(
        responses in vec(operation(), 0..4), succeeded: bool, revision in number(),
        has_header in prop::bool::weighted(0.9),
    ) -> TxnResponse {
        let header = PbResponseHeader { revision, ..PbResponseHeader::default() };
        TxnResponse(PbTxnResponse { header: has_header.then_some(header), succeeded, responses })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn answer_to_a_transaction_is_an_outcome_or_an_error(answer in transaction()) {
        drop(outcome(&answer));
        let Ok(found) = txn::reads(&answer) else { return Ok(()) };
        let address = "10.0.0.1:80".parse().unwrap();
        let one = Instance::new("user".parse().unwrap(), "1".parse().unwrap(), address);
        let record = Record::new(one.clone()).with_lease(LeaseId::new(1).unwrap());
        let record = record.with_ttl(Duration::from_secs(10));
        for layout in LAYOUTS {
            let keyspace = keyspace(layout);
            let service = keyspace.service(one.service()).unwrap();
            let found = Found::new(&found);
            drop(found.decode(&service, one.id()));
            let holder: Result<_, EtcdError> = found.holder(&service, one.id());
            let desired = keyspace.desired_keys(&record).unwrap();
            if let Ok(Some(holder)) = holder {
                desired.is_held_since(&holder);
            }
            found.is_side_of(1);
            found.is_unchanged(&desired);
        }
    }

    #[test]
    fn keys_and_events_are_decoded_or_reported(
        keys in vec(key_value(), 0..6), events in vec((any::<bool>(), key_value()), 0..6),
        cluster: u64,
    ) {
        let user = "user".parse().unwrap();
        for layout in LAYOUTS {
            let service = keyspace(layout).service(&user).unwrap();
            let keys: Vec<_> = keys.iter().cloned().map(KeyValue).collect();
            drop(Reading::of(&service, keys.iter().map(Kv::from)));
            let mut decoder = Decoder::new(service.clone(), keys.iter().map(Kv::from));
            let events: Vec<_> = events
                .iter()
                .map(|(is_put, kv)| {
                    let kind = if *is_put { EventType::Put } else { EventType::Delete };
                    (kind, KeyValue(kv.clone()))
                })
                .collect();
            let events: Vec<_> = events.iter().map(|(kind, kv)| (*kind, kv)).collect();
            decoder.changes(&events);
            let mut proof = Proof::new(cluster);
            for kv in &keys {
                proof.add(KeyMeta::from(kv));
            }
            drop(proof.check(0, keys.first().map(KeyMeta::from)));
            let read: Proof = proof.to_string().parse().unwrap();
            prop_assert_eq!(&read, &proof);
            let mut history = History::new(proof, keys.first().map(KeyValue::key));
            for (kind, kv) in events {
                history.advance(kind, kv.into());
            }
            let read: Proof = history.proof().to_string().parse().unwrap();
            prop_assert_eq!(&read, history.proof());
        }
    }

    #[test]
    fn text_of_a_proof_is_read_or_refused(text in "[0-9a-fptdw.]{0,40}|.{0,30}") {
        if let Ok(proof) = text.parse::<Proof>() {
            let read: Proof = proof.to_string().parse().unwrap();
            prop_assert_eq!(&read, &proof);
            let kv = KeyMeta { key: b"k", created: u64::MAX, modified: u64::MAX, lease: -1 };
            History::new(proof, None).advance(EventType::Put, kv);
        }
    }
}
