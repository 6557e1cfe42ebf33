//! Checks the invariants of [`fuzzing`] for random replies of a server.

use crate::fuzzing;
use etcd_client::proto::{
    PbKeyValue, PbRangeResponse, PbResponseHeader, PbResponseOp, PbTxnOpResponse, PbTxnResponse,
};
use etcd_client::{EventType, KeyValue, TxnResponse};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

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
    fn transaction_response_is_an_outcome_or_an_error(answer in transaction()) {
        fuzzing::check_transaction(&answer);
    }

    #[test]
    fn keys_and_events_are_decoded_or_reported(
        keys in vec(key_value(), 0..6), events in vec((any::<bool>(), key_value()), 0..6),
        cluster: u64,
    ) {
        let keys: Vec<_> = keys.into_iter().map(KeyValue).collect();
        let kind = |is_put| if is_put { EventType::Put } else { EventType::Delete };
        let events = events.into_iter().map(|(is_put, kv)| (kind(is_put), KeyValue(kv)));
        fuzzing::check_keys(&keys, cluster);
        fuzzing::check_events(&keys, &events.collect::<Vec<_>>());
    }

    #[test]
    fn proof_text_round_trips_or_is_refused(text in "[0-9a-fptdw.]{0,40}|.{0,30}") {
        fuzzing::proof(text.as_bytes());
    }
}
