//! Invariants of server replies.

#![allow(clippy::missing_panics_doc)]

use super::address::Address;
use super::reply_meter::{ReplyMeter, Violation};
use crate::client::RawLog;
use crate::error::StoreError;
use crate::store::RawPage;
use redis::{FromRedisValue, Value};
use std::collections::HashMap;

/// Metering does not depend on how replies are split, and the parser of the redis crate needs exactly the
/// bytes that the meter counts. Replies to scripts and queries are decoded or fail with an error. The input
/// is the length of the parts, then replies.
pub fn replies(data: &[u8]) {
    let Some((len, data)) = data.split_first() else { return };
    let whole = ReplyMeter::new().take(data);
    let mut meter = ReplyMeter::new();
    let in_parts = data.chunks(usize::from(*len).max(1)).try_for_each(|part| meter.take(part));
    match (&whole, &in_parts) {
        (Err(Violation::NotRedis(_)), Err(Violation::NotRedis(_))) => {} // each shows the bytes it has
        _ => assert_eq!(whole, in_parts),
    }

    let mut meter = ReplyMeter::new();
    let end = (1..=data.len()).find(|end| {
        let taken = meter.take(&data[end - 1..*end]);
        taken.is_err() || meter.is_between_replies()
    });
    let Some(end) = end.filter(|_| meter.is_between_replies()) else { return };
    if let Ok(value) = redis::parse_redis_value(&data[..end - 1]) {
        panic!("the parser needs one byte less than the meter: {value:?}");
    }
    let Ok(reply) = redis::parse_redis_value(&data[..end]) else { return };
    if let Err(error) = reply.clone().extract_error() {
        let (error, text) = (StoreError::from(error.clone()), error.to_string());
        // The server's message is the source, so the error must not repeat it.
        assert!(text.len() < 32 || !error.to_string().contains(&text));
        error.kind();
    }
    decode::<RawPage>(&reply);
    decode::<Option<Vec<RawLog>>>(&reply);
    decode::<(String, u64, String, String, Vec<u8>, Vec<Vec<u8>>, Vec<Option<Vec<u8>>>)>(&reply);
    decode::<(String, Vec<String>)>(&reply);
    decode::<(String, i64, u64, String, String)>(&reply);
    decode::<[Option<String>; 2]>(&reply);
    decode::<(HashMap<String, String>, Option<(String, u16)>)>(&reply);
}

fn decode<T: FromRedisValue>(reply: &Value) {
    drop(redis::from_redis_value_ref::<T>(reply));
}

/// The address of a redirect is refused, or round-trips through its text.
pub fn redirect(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let from = Address::new("10.0.0.1", 7000);
    let Some(address) = Address::parse_redirect(text, &from) else { return };
    // No real host contains brackets.
    if !address.host().contains(['[', ']']) {
        assert_eq!(Address::parse_redirect(&address.to_string(), &from), Some(address));
    }
}
