//! The value of a record, in the log and in the state of a shard.
//!
//! ```text
//! <lease> <ttl> <claimed> <record>
//! ```
//!
//! is the field `v` of a put in the log: the lease of the record, its ttl in ms, the revision since which
//! this lease holds the id, and the encoded [record](encoding). The state prefixes it with the revision that
//! wrote it and the digest at that revision: `<revision> <digest> `. So a load and a watch decode equal
//! records. After a rollback, the digest distinguishes two records with the same revision.

use crate::digest::Digest;
use registry_core::encoding::{self, Stored};
use registry_core::{
    Holder, InstanceId, Lease, LeaseId, MAX_TTL, MIN_TTL, Record, Result, Revision, ServiceName,
};
use std::str::FromStr;
use std::time::Duration;

/// The parsed value of a record. The record itself is still encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    lease: LeaseId,
    ttl: Duration,
    /// The encoded record.
    record: Vec<u8>,
}

/// The decoded content of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Live(Record),
    /// The owner has withdrawn it, so it is not listed. This library deletes such records instead.
    Withdrawn,
    /// Why its record cannot be decoded.
    Undecodable(String),
}

impl Value {
    /// Parses the value of a put in the log. A malformed one was not written by this library.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let mut parts = value.splitn(4, |byte| *byte == b' ');
        let lease = LeaseId::new(number(parts.next()?)?).ok()?;
        // A server may send any ttl.
        let ttl = Duration::from_millis(number(parts.next()?)?).clamp(MIN_TTL, MAX_TTL);
        let _claimed: u64 = number(parts.next()?)?;
        Some(Self { lease, ttl, record: parts.next()?.to_vec() })
    }

    /// Parses a value of the state. Returns also the revision that wrote it.
    pub(crate) fn parse_stored(value: &[u8]) -> Option<(u64, Self)> {
        let mut parts = value.splitn(3, |byte| *byte == b' ');
        let revision = number(parts.next()?)?;
        let _digest: Digest = number(parts.next()?)?;
        Some((revision, Self::parse(parts.next()?)?))
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Decodes the record of an instance that was written at `revision`.
    pub(crate) fn decode(&self, service: &ServiceName, id: &InstanceId, revision: u64) -> Content {
        match encoding::decode(service, id, &self.record) {
            Ok(Stored::Live(record)) => Content::Live(
                record
                    .with_lease(self.lease)
                    .with_ttl(self.ttl)
                    .with_revision(Revision::new(revision)),
            ),
            Ok(Stored::Withdrawn(_)) => Content::Withdrawn,
            Err(error) => Content::Undecodable(error.to_string()),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.record.len()
    }

    #[cfg(test)]
    pub(crate) fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = ttl;
    }
}

/// Encodes the record of `instance` for the scripts.
///
/// # Errors
///
/// `Invalid` if it is too large, or has a port 0.
pub(crate) fn encode(instance: &registry_core::Instance, ttl_ms: u64) -> Result<Vec<u8>> {
    let record = Record::new(instance.clone()).with_ttl(Duration::from_millis(ttl_ms));
    encoding::encode(&record)
}

/// Returns the prefix of the stored value while it is the last acknowledged record of `lease`.
pub(crate) fn acknowledged_prefix(lease: &Lease, ttl_ms: u64) -> String {
    let proof = lease.proof().unwrap_or_default();
    format!("{} {proof} {} {ttl_ms} ", lease.revision(), lease.id())
}

/// Returns a holder as an argument of the registration script.
pub(crate) fn holder_arg(holder: &Holder) -> String {
    let lease = holder.lease().map_or_else(|| "-".to_owned(), |lease| lease.to_string());
    let claimed = holder.claimed().map_or_else(|| "-".to_owned(), |at| at.to_string());
    format!("{lease} {claimed}")
}

/// Parses the holder in a reply of the registration script.
pub(crate) fn parse_holder(lease: &str, claimed: &str) -> Holder {
    let lease = lease.parse().ok().and_then(|lease| LeaseId::new(lease).ok());
    Holder::new(lease, claimed.parse().ok().map(Revision::new))
}

fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"v":1,"address":"10.0.0.1:80"}"#;

    fn content(value: &str) -> Content {
        let value = Value::parse(value.as_bytes()).unwrap();
        value.decode(&"a".parse().unwrap(), &"1".parse().unwrap(), 7)
    }

    #[test]
    fn log_and_state_decode_to_the_same_record() {
        let in_log = format!("42 1500 3 {RECORD}");
        let in_state = format!("7 00ff00ff00ff00ff {in_log}");
        let (revision, stored) = Value::parse_stored(in_state.as_bytes()).unwrap();
        assert_eq!((revision, Some(stored)), (7, Value::parse(in_log.as_bytes())));
        let Content::Live(record) = content(&in_log) else { panic!("{in_log}") };
        assert_eq!(record.lease().map(LeaseId::get), Some(42));
        assert_eq!(record.ttl(), Some(Duration::from_millis(1500)));
        assert_eq!(record.revision(), Some(Revision::new(7)));
    }

    #[test]
    fn withdrawn_and_undecodable_records_are_not_listed() {
        let withdrawn = RECORD.replace("{\"v\":1", "{\"v\":1,\"status\":\"withdrawn\"");
        assert_eq!(content(&format!("42 1500 3 {withdrawn}")), Content::Withdrawn);
        for record in ["{}", ""] {
            let content = content(&format!("42 1500 3 {record}"));
            assert!(matches!(content, Content::Undecodable(_)), "{content:?}");
        }
    }

    #[test]
    fn value_of_another_program_is_malformed() {
        for junk in ["", "junk", "42 1500 3", "0 1500 3 {}", "-1 1500 3 {}", "42 x 3 {}"] {
            assert_eq!(Value::parse(junk.as_bytes()), None, "{junk}");
            let stored = format!("7 00ff00ff00ff00ff {junk}");
            assert_eq!(Value::parse_stored(stored.as_bytes()), None, "{junk}");
        }
        for junk in ["", "7", "x 00ff00ff00ff00ff 42 1500 3 {}", "7 xy 42 1500 3 {}"] {
            assert_eq!(Value::parse_stored(junk.as_bytes()), None, "{junk}");
        }
    }

    #[test]
    fn holder_round_trips_through_the_script() {
        let known = parse_holder("42", "3");
        assert_eq!(
            (known.lease().map(LeaseId::get), holder_arg(&known)),
            (Some(42), "42 3".into())
        );
        let unknown = parse_holder("", "");
        assert_eq!((unknown, holder_arg(&unknown)), (Holder::new(None, None), "- -".into()));
    }
}
