//! Laws about text and bytes that anybody may have written. A fuzz target of `fuzz/` calls each with bytes that it
//! makes up, and a test below with those of its corpus. A law panics if it is broken.

#![allow(clippy::missing_panics_doc)]

use crate::encoding::{self, MAX_RECORD_LEN, Stored};
use crate::{
    Address, Cursor, Error, ErrorKind, InstanceId, MAX_NAME_LEN, MAX_TTL, MIN_TTL, Secret,
    ServiceName, Target, printable,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::{Debug, Display};
use std::str::FromStr;

#[cfg(test)]
const LAWS: [replay::Law; 5] = [
    ("cursor", cursor),
    ("record", record),
    ("names", names),
    ("url", url),
    ("password", password),
];

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

/// A password that must show nowhere.
const PASSWORD: &str = "s3cr3tPassw0rd";

/// The text of a cursor is refused, or is displayed in one form that parses to the same cursor.
pub fn cursor(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Some(cursor) = parse::<Cursor>(text) else { return };
    let shown = cursor.to_string();
    assert!(shown.is_ascii() && !shown.bytes().any(|byte| byte.is_ascii_control()), "{shown}");
    let again = parse::<Cursor>(&shown).expect("what is displayed is a cursor");
    assert_eq!((&again, again.to_string()), (&cursor, shown));
    assert_same_in_json(&cursor);
}

/// A record is refused, or is encoded in one form that decodes to the same record.
pub fn record(data: &[u8]) {
    let service: ServiceName = "user.rpc".parse().expect("a name");
    let id: InstanceId = "1".parse().expect("an id");
    let Ok(stored) = encoding::decode(&service, &id, data) else { return };
    assert!(data.len() <= MAX_RECORD_LEN);
    let encode = |stored: &Stored| match stored {
        Stored::Live(record) => encoding::encode(record),
        Stored::Withdrawn(record) => encoding::encode_withdrawn(record),
    };
    match encode(&stored) {
        Ok(encoded) => {
            assert!(encoded.len() <= MAX_RECORD_LEN);
            let again = encoding::decode(&service, &id, &encoded).expect("it was encoded here");
            assert_eq!(again, stored);
            assert_eq!(encode(&again).expect("it was encoded before"), encoded);
        }
        // What may no longer be written is still read.
        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{error}"),
    }
    let (Stored::Live(record) | Stored::Withdrawn(record)) = stored;
    let metadata = record.instance().metadata().clone();
    assert_eq!(&record.instance().clone().with_metadata(metadata), record.instance());
}

/// A name, an id and an address are refused, or are displayed as they were written.
pub fn names(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Some(service) = parse_as_written::<ServiceName>(text) {
        assert!((1..=MAX_NAME_LEN).contains(&service.as_str().len()));
        assert!(!text.starts_with('/') && !text.ends_with('/'));
    }
    if let Some(id) = parse_as_written::<InstanceId>(text) {
        assert!(id.as_str().len() <= MAX_NAME_LEN && !text.contains('/'));
        assert!(text.parse::<ServiceName>().is_ok(), "an id is stricter than a name");
    }
    if let Ok((slashes, service)) = ServiceName::from_key(text) {
        assert_eq!(format!("{slashes}{service}"), text);
    }
    let read = Address::read(text);
    if let Some(address) = parse_as_written::<Address>(text) {
        assert_eq!(read.as_ref(), Some(&address), "what is written is read");
        let host = match address.host() {
            v6 if v6.contains(':') => format!("[{v6}]"),
            host => host.to_owned(),
        };
        assert_eq!(format!("{host}:{}", address.port()), normal_port(text));
    }
    if let Some(address) = read {
        assert_eq!(address.to_string(), text);
        assert!(address.port() > 0 && !address.host().is_empty());
        assert!(!text.chars().any(char::is_control));
    }
}

/// A URL is refused, or is displayed as one that parses to the same target, but for its password.
pub fn url(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Some(target) = parse::<Target>(text) else { return };
    assert!(target.ttl().is_none_or(|ttl| (MIN_TTL..=MAX_TTL).contains(&ttl)));
    assert!(target.hosts().iter().all(|host| !host.name().is_empty() && host.port() != Some(0)));
    let shown = target.to_string();
    let again = parse::<Target>(&shown).expect("what is displayed is a URL");
    assert_eq!(again.to_string(), shown);
    match target.password() {
        None => assert_eq!(again, target),
        Some(_) => assert_eq!(again.password().map(Secret::reveal), Some("***")),
    }
}

/// A password shows nowhere, wherever it was cut since it was not percent-encoded. The bytes are what stands before the
/// password, what stands behind it, and the end of the URL, with 0 between them.
pub fn password(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut parts = text.splitn(3, '\0');
    let [before, behind, rest] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    if text.contains(PASSWORD) {
        return;
    }
    let url = format!("etcd://app:{before}{PASSWORD}{behind}@h{rest}");
    let told = match url.parse::<Target>() {
        Ok(target) => format!("{target} {target:?}"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            format!("{} {error:?}", error.chain())
        }
    };
    assert!(!told.contains(PASSWORD), "{url}: {told}");
}

/// Parses text. What is wrong with it is the caller's to correct.
fn parse<T: FromStr<Err = Error>>(text: &str) -> Option<T> {
    text.parse()
        .map_err(|error: Error| assert_eq!(error.kind(), ErrorKind::Invalid, "{error}"))
        .ok()
}

/// Parses text that is displayed as it is written.
fn parse_as_written<T>(text: &str) -> Option<T>
where
    T: FromStr<Err = Error> + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    match text.parse::<T>() {
        Ok(parsed) => {
            assert_eq!(parsed.to_string(), text);
            assert_same_in_json(&parsed);
            Some(parsed)
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            // It may have come from a store, and is logged.
            assert_eq!(printable(&error.to_string()), error.to_string());
            None
        }
    }
}

fn assert_same_in_json<T: Debug + PartialEq + Serialize + DeserializeOwned>(value: &T) {
    let json = serde_json::to_string(value).expect("text serializes");
    assert_eq!(&serde_json::from_str::<T>(&json).expect("it was serialized here"), value);
}

/// An address whose port has no zeros in front.
fn normal_port(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or_default();
    format!("{host}:{}", port.trim_start_matches('0'))
}
