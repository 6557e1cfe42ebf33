//! The history of a shard: a log of changes, each chained to the one before by digests.
//!
//! The entry `<revision>-0` of the log is the change that made that revision; revisions are dense. It has the fields
//! `t` (`P` put or `D` delete), `m` the member, `v` the record and `x` its ttl in ms (of a put), `p` and `d`
//! the digests before and after it. A digest is the first 16 digits of
//!
//! ```text
//! sha1(digest before 0x1F revision 0x1F type 0x1F member 0x1F record)
//! ```
//!
//! and the first digest of a shard is random. So two shards with a digest in common have the same history
//! up to it, and a revision that is used again after a failover, a restart from an old file or a wipe has
//! another digest.

use crate::error::StoreError;
use crate::shard::member_id;
use registry_core::{Change, Cursor, Instance, InstanceId, Origin, Revision, ServiceName, record};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A link of the chain of digests. It identifies the history up to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    /// Returns the first digest of a new history. It must be drawn anew for each call that may use it.
    pub(crate) fn random() -> Self {
        Self(getrandom::u64().expect("the operating system has a random source"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(digit) {
            return Err(ParseDigestError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| ParseDigestError)
    }
}

/// A digest is 16 hexadecimal digits.
#[derive(Debug)]
pub(crate) struct ParseDigestError;

/// A point in the history of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) revision: u64,
    pub(crate) digest: Digest,
}

impl Position {
    /// Returns the position of `cursor`. `Invalid` if it is not of `origin`.
    pub(crate) fn of(origin: &Origin, cursor: &Cursor) -> registry_core::Result<Self> {
        Ok(Self { revision: cursor.revision().get(), digest: origin.proof(cursor)? })
    }

    pub(crate) fn cursor(self, origin: &Origin) -> Cursor {
        origin.cursor(Revision::new(self.revision), self.digest)
    }

    /// Advances over `entry`, if that is the next one.
    pub(crate) fn advance(&mut self, entry: &Entry) -> Result<(), Gap> {
        if entry.revision != self.revision + 1 {
            return Err(Gap::Missing);
        }
        if entry.before != self.digest {
            return Err(Gap::Forked);
        }
        *self = entry.position();
        Ok(())
    }
}

/// Why the log does not continue at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// The next entries were trimmed.
    Missing,
    /// The next entry belongs to another history, or was not written by this library.
    Forked,
}

impl From<Gap> for StoreError {
    fn from(gap: Gap) -> Self {
        match gap {
            Gap::Missing => Self::Compacted,
            Gap::Forked => Self::Diverged,
        }
    }
}

/// An entry of the log as Redis gives it: its id, and names and values in turn.
pub(crate) type RawEntry = (String, Vec<Vec<u8>>);

/// An entry of the log: a change to one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    revision: u64,
    before: Digest,
    after: Digest,
    member: Vec<u8>,
    put: Option<Put>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Put {
    record: Vec<u8>,
    ttl: Duration,
}

impl Entry {
    /// Parses an entry. A malformed one was not written by this library.
    pub(crate) fn parse((id, fields): RawEntry) -> Result<Self, Gap> {
        Self::parse_fields(&id, fields).ok_or(Gap::Forked)
    }

    fn parse_fields(id: &str, fields: Vec<Vec<u8>>) -> Option<Self> {
        let revision = id.strip_suffix("-0")?.parse().ok()?;
        let (mut kind, mut member, mut record, mut ttl) = (None, None, None, None);
        let (mut before, mut after) = (None, None);
        let mut fields = fields.into_iter();
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            match name.as_slice() {
                b"t" => kind = Some(value),
                b"m" => member = Some(value),
                b"v" => record = Some(value),
                b"x" => ttl = Some(parse::<u64>(&value)?),
                b"p" => before = Some(parse(&value)?),
                b"d" => after = Some(parse(&value)?),
                _ => {}
            }
        }
        let put = match kind?.as_slice() {
            b"P" => Some(Put { record: record?, ttl: Duration::from_millis(ttl?) }),
            b"D" => None,
            _ => return None,
        };
        Some(Self { revision, before: before?, after: after?, member: member?, put })
    }

    /// Returns the position after the entry.
    pub(crate) fn position(&self) -> Position {
        Position { revision: self.revision, digest: self.after }
    }

    pub(crate) fn member(&self) -> &[u8] {
        &self.member
    }

    /// Whether the entry is a put, and not a deletion.
    pub(crate) fn is_put(&self) -> bool {
        self.put.is_some()
    }

    /// Returns the ttl of a put: its lease expires after it unless it is renewed.
    pub(crate) fn ttl(&self) -> Option<Duration> {
        self.put.as_ref().map(|put| put.ttl)
    }

    /// Returns the change to `service`, if the entry is one.
    pub(crate) fn change(&self, service: &ServiceName) -> Option<Change> {
        let id = member_id(service, &self.member)?;
        let put = self.put.as_ref().and_then(|put| decode(service, &id, &put.record));
        Some(put.map_or_else(|| Change::Delete(id), Change::Put))
    }
}

fn parse<T: FromStr>(text: &[u8]) -> Option<T> {
    str::from_utf8(text).ok()?.parse().ok()
}

/// Decodes a record, or logs that it cannot be decoded.
pub(crate) fn decode(service: &ServiceName, id: &InstanceId, record: &[u8]) -> Option<Instance> {
    match record::decode(service, id, record) {
        Ok(instance) => Some(instance),
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(%service, %id, error, "skipped a record that cannot be decoded");
            None
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    impl Entry {
        pub(crate) fn set_ttl(&mut self, ttl: Duration) {
            self.put.as_mut().expect("a put has a ttl").ttl = ttl;
        }
    }

    /// An entry as the scripts write it, `n` cached for its digest.
    pub(crate) fn raw(n: u64, member: &str, record: Option<&str>) -> RawEntry {
        let (kind, ttl) = if record.is_some() { ("P", "10000") } else { ("D", "0") };
        let (before, after) = (Digest(n - 1).to_string(), Digest(n).to_string());
        let fields = [
            ("t", kind),
            ("m", member),
            ("v", record.unwrap_or_default()),
            ("x", ttl),
            ("p", &before),
            ("d", &after),
        ];
        let fields =
            fields.iter().flat_map(|(k, v)| [k.as_bytes().to_vec(), v.as_bytes().to_vec()]);
        (format!("{n}-0"), fields.collect())
    }

    pub(crate) fn entry(n: u64, member: &str, record: Option<&str>) -> Entry {
        Entry::parse(raw(n, member, record)).unwrap()
    }

    pub(crate) fn position(n: u64) -> Position {
        Position { revision: n, digest: Digest(n) }
    }

    const RECORD: &str = r#"{"v":1,"address":"10.0.0.1:80"}"#;

    #[test]
    fn digest_is_16_hexadecimal_digits() {
        let digest: Digest = "00ff00ff00ff00ff".parse().unwrap();
        assert_eq!(digest.to_string(), "00ff00ff00ff00ff");
        for bad in ["", "0", "00FF00FF00FF00FF", "+0ff00ff00ff00ff", "00ff00ff00ff00ff0"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert_ne!(Digest::random(), Digest::random());
    }

    #[test]
    fn position_round_trips_through_a_cursor() {
        let origin = Origin::new("redis", "p", &"a".parse().unwrap());
        let cursor = position(7).cursor(&origin);
        assert_eq!(cursor.to_string(), "1:redis:p:a:7:0000000000000007");
        assert_eq!(Position::of(&origin, &cursor).unwrap(), position(7));
    }

    #[test]
    fn position_advances_only_over_the_next_entry_of_its_history() {
        let mut at = position(4);
        assert_eq!(at.advance(&entry(6, "a\u{1f}1", None)), Err(Gap::Missing));
        assert_eq!(at.advance(&entry(4, "a\u{1f}1", None)), Err(Gap::Missing));
        let mut forked = entry(5, "a\u{1f}1", None);
        forked.before = Digest(9);
        assert_eq!(at.advance(&forked), Err(Gap::Forked));
        assert_eq!(at, position(4));
        assert_eq!(at.advance(&entry(5, "a\u{1f}1", None)), Ok(()));
        assert_eq!(at, position(5));
    }

    #[test]
    fn entry_changes_only_its_own_service() {
        let service: ServiceName = "a".parse().unwrap();
        let put = entry(1, "a\u{1f}1", Some(RECORD));
        let Some(Change::Put(instance)) = put.change(&service) else { panic!("{put:?}") };
        assert_eq!((instance.id().as_str(), put.ttl()), ("1", Some(Duration::from_secs(10))));
        assert_eq!(put.change(&"a/b".parse().unwrap()), None);
        assert_eq!(put.change(&"b".parse().unwrap()), None);
        let deleted = Some(Change::Delete("1".parse().unwrap()));
        assert_eq!(entry(2, "a\u{1f}1", None).change(&service), deleted);
        assert_eq!(
            entry(2, "a\u{1f}1", Some("?")).change(&service),
            deleted,
            "an undecodable record deletes"
        );
    }

    #[test]
    fn foreign_entry_is_detected() {
        let mut odd_id = raw(1, "a\u{1f}1", None);
        odd_id.0 = "1-1".to_owned();
        let mut odd_digest = raw(1, "a\u{1f}1", None);
        odd_digest.1[9] = b"x".to_vec();
        let mut odd_kind = raw(1, "a\u{1f}1", None);
        odd_kind.1[1] = b"X".to_vec();
        let bare = ("1-0".to_owned(), vec![b"k".to_vec(), b"v".to_vec()]);
        for foreign in [odd_id, odd_digest, odd_kind, bare] {
            assert_eq!(Entry::parse(foreign), Err(Gap::Forked));
        }
        let mut richer = raw(1, "a\u{1f}1", None);
        richer.1.extend([b"new".to_vec(), b"field".to_vec()]);
        assert!(Entry::parse(richer).is_ok(), "a later version may add fields");
    }
}
