//! The history of a shard: a log of changes, chained by digests.
//!
//! The log entry `<revision>-0` is the change of that revision; revisions are dense. Its fields are `t` (`P`
//! put or `D` delete), `m` (the member), `v` (the [value](crate::value) of a put, or the reason of a delete:
//! `withdrawn`, `expired`, or empty if unknown), and `p` and `d` (the digests before and after it). A digest
//! is the first 16 digits of
//!
//! ```text
//! sha1(digest before 0x1F revision 0x1F type 0x1F member 0x1F value or reason)
//! ```
//!
//! The first digest of a shard is computed from its name, the time and the server's run id. So two shards
//! that share a digest have the same history up to it. A revision that is used again after a failover, a
//! restart from an old file or a wipe has another digest.

use crate::digest::Digest;
use crate::error::StoreError;
use crate::shard::member_id;
use crate::value::{Content, Value};
use registry_core::{
    Change, Cursor, DeleteReason, Deleted, InstanceId, Origin, Revision, ServiceName,
};
use std::str::FromStr;

/// A position in the history of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) revision: u64,
    pub(crate) digest: Digest,
}

impl Position {
    /// Returns the position of `cursor`. Fails `Invalid` if the cursor is not of `origin`.
    pub(crate) fn of(origin: &Origin, cursor: &Cursor) -> registry_core::Result<Self> {
        Ok(Self { revision: cursor.revision().get(), digest: origin.proof(cursor)? })
    }

    pub(crate) fn cursor(self, origin: &Origin) -> Cursor {
        origin.cursor(Revision::new(self.revision), self.digest)
    }

    /// Advances past `entry`, if it is the next one.
    pub(crate) fn advance(&mut self, entry: &Entry) -> Result<(), Gap> {
        if self.revision.checked_add(1) != Some(entry.revision) {
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

/// An entry of the log as Redis returns it: its id, and alternating field names and values.
pub(crate) type RawEntry = (String, Vec<Vec<u8>>);

/// Returns whether an entry may be from this library, by its id, in a history up to `end`. Another program
/// may have written entries between ours or ahead of them.
pub(crate) fn is_ours((id, _): &RawEntry, end: u64) -> bool {
    id.strip_suffix("-0").is_some_and(|at| at.parse().is_ok_and(|at: u64| at <= end))
}

/// Returns whether the entry is from another program, and lies before the next entry of ours after `at`. Entries of
/// other programs beyond that are ahead of the history.
pub(crate) fn is_between((id, _): &RawEntry, at: Position) -> bool {
    let (revision, sequence) = id.split_once('-').unwrap_or_default();
    sequence != "0" && revision.parse().is_ok_and(|revision: u64| revision <= at.revision)
}

/// An entry of the log: a change to one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    revision: u64,
    before: Digest,
    after: Digest,
    member: Vec<u8>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Put(Value),
    Delete(Option<DeleteReason>),
}

impl Entry {
    /// Parses an entry. A malformed one was not written by this library.
    pub(crate) fn parse((id, fields): RawEntry) -> Result<Self, Gap> {
        Self::parse_fields(&id, fields).ok_or(Gap::Forked)
    }

    fn parse_fields(id: &str, fields: Vec<Vec<u8>>) -> Option<Self> {
        let revision = id.strip_suffix("-0")?.parse().ok()?;
        let (mut kind, mut member, mut value) = (None, None, None);
        let (mut before, mut after) = (None, None);
        let mut fields = fields.into_iter();
        while let (Some(name), Some(field)) = (fields.next(), fields.next()) {
            match name.as_slice() {
                b"t" => kind = Some(field),
                b"m" => member = Some(field),
                b"v" => value = Some(field),
                b"p" => before = Some(parse(&field)?),
                b"d" => after = Some(parse(&field)?),
                _ => {}
            }
        }
        let kind = match kind?.as_slice() {
            b"P" => Kind::Put(Value::parse(&value?)?),
            b"D" => Kind::Delete(match value.unwrap_or_default().as_slice() {
                b"withdrawn" => Some(DeleteReason::Withdrawn),
                b"expired" => Some(DeleteReason::Expired),
                _ => None, // a later version may have more reasons
            }),
            _ => return None,
        };
        Some(Self { revision, before: before?, after: after?, member: member?, kind })
    }

    /// Returns the position after the entry.
    pub(crate) fn position(&self) -> Position {
        Position { revision: self.revision, digest: self.after }
    }

    pub(crate) fn member(&self) -> &[u8] {
        &self.member
    }

    /// Returns the approximate size in bytes.
    pub(crate) fn size(&self) -> usize {
        128 + self.member.len() + self.value().map_or(0, Value::size)
    }

    /// Returns the value of a put, or `None` for a delete.
    pub(crate) fn value(&self) -> Option<&Value> {
        match &self.kind {
            Kind::Put(value) => Some(value),
            Kind::Delete(_) => None,
        }
    }

    /// Returns the change to `service`, or `None` if the entry changes another service. An undecodable record
    /// counts as a delete, and is passed to `report` with the reason.
    pub(crate) fn change(
        &self,
        service: &ServiceName,
        report: impl FnOnce(&InstanceId, &str),
    ) -> Option<Change> {
        let id = member_id(service, &self.member)?;
        let reason = match &self.kind {
            Kind::Put(value) => match value.decode(service, &id, self.revision) {
                Content::Live(record) => return Some(Change::Put(record)),
                Content::Withdrawn => Some(DeleteReason::Withdrawn),
                Content::Undecodable(why) => {
                    report(&id, &why);
                    None
                }
            },
            Kind::Delete(reason) => *reason,
        };
        let deleted = Deleted::new(id);
        Some(Change::Delete(match reason {
            Some(reason) => deleted.with_reason(reason),
            None => deleted,
        }))
    }
}

fn parse<T: FromStr>(text: &[u8]) -> Option<T> {
    str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::time::Duration;

    impl Entry {
        pub(crate) fn set_ttl(&mut self, ttl: Duration) {
            let Kind::Put(value) = &mut self.kind else { panic!("a delete has no ttl") };
            value.set_ttl(ttl);
        }
    }

    /// Returns an entry of a put or an expiry as the scripts write it, with the digest `n`.
    pub(crate) fn raw(n: u64, member: &str, record: Option<&str>) -> RawEntry {
        let kind = if record.is_some() { "P" } else { "D" };
        let value =
            record.map_or_else(|| "expired".to_owned(), |record| format!("42 10000 {n} {record}"));
        let (before, after) = (Digest::new(n - 1).to_string(), Digest::new(n).to_string());
        let fields = [("t", kind), ("m", member), ("v", &value), ("p", &before), ("d", &after)];
        let fields =
            fields.iter().flat_map(|(k, v)| [k.as_bytes().to_vec(), v.as_bytes().to_vec()]);
        (format!("{n}-0"), fields.collect())
    }

    pub(crate) fn entry(n: u64, member: &str, record: Option<&str>) -> Entry {
        Entry::parse(raw(n, member, record)).unwrap()
    }

    pub(crate) fn position(n: u64) -> Position {
        Position { revision: n, digest: Digest::new(n) }
    }

    const RECORD: &str = r#"{"v":1,"address":"10.0.0.1:80"}"#;

    /// A `report` function for entries that must be decodable.
    fn decodes(id: &InstanceId, why: &str) {
        panic!("{id} cannot be decoded: {why}");
    }

    #[test]
    fn digest_is_16_hexadecimal_digits() {
        let digest: Digest = "00ff00ff00ff00ff".parse().unwrap();
        assert_eq!(digest.to_string(), "00ff00ff00ff00ff");
        for bad in ["", "0", "00FF00FF00FF00FF", "+0ff00ff00ff00ff", "00ff00ff00ff00ff0"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
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
        forked.before = Digest::new(9);
        assert_eq!(at.advance(&forked), Err(Gap::Forked));
        assert_eq!(at, position(4));
        assert_eq!(at.advance(&entry(5, "a\u{1f}1", None)), Ok(()));
        assert_eq!(at, position(5));
    }

    #[test]
    fn entry_changes_only_its_own_service() {
        let service: ServiceName = "a".parse().unwrap();
        let put = entry(1, "a\u{1f}1", Some(RECORD));
        let Some(Change::Put(record)) = put.change(&service, decodes) else { panic!("{put:?}") };
        assert_eq!((record.id().as_str(), record.ttl()), ("1", Some(Duration::from_secs(10))));
        assert_eq!(put.change(&"a/b".parse().unwrap(), decodes), None);
        assert_eq!(put.change(&"b".parse().unwrap(), decodes), None);
        let deleted = Deleted::new("1".parse().unwrap());
        let expired = deleted.clone().with_reason(DeleteReason::Expired);
        let deletion = entry(2, "a\u{1f}1", None).change(&service, decodes);
        assert_eq!(deletion, Some(Change::Delete(expired)));
        let undecodable = entry(2, "a\u{1f}1", Some("?"));
        let mut reported = None;
        let change =
            undecodable.change(&service, |id, why| reported = Some(format!("{id}: {why}")));
        assert_eq!(change, Some(Change::Delete(deleted)));
        assert_eq!(reported.as_deref(), Some("1: record is not a JSON object"));
    }

    #[test]
    fn reason_of_a_delete_is_known_or_none() {
        let service: ServiceName = "a".parse().unwrap();
        let reasons = [
            ("withdrawn", Some(DeleteReason::Withdrawn)),
            ("expired", Some(DeleteReason::Expired)),
            ("", None),
            ("of a later version", None),
        ];
        for (stored, reason) in reasons {
            let mut deletion = raw(2, "a\u{1f}1", None);
            deletion.1[5] = stored.as_bytes().to_vec();
            let change = Entry::parse(deletion).unwrap().change(&service, decodes);
            let Some(Change::Delete(deleted)) = change else { panic!("{change:?}") };
            assert_eq!(deleted.reason(), reason, "{stored}");
        }
    }

    #[test]
    fn foreign_entry_is_detected() {
        let mut odd_id = raw(1, "a\u{1f}1", None);
        odd_id.0 = "1-1".to_owned();
        let mut odd_digest = raw(1, "a\u{1f}1", None);
        odd_digest.1[7] = b"x".to_vec();
        let mut odd_kind = raw(1, "a\u{1f}1", None);
        odd_kind.1[1] = b"X".to_vec();
        let mut odd_value = raw(1, "a\u{1f}1", Some(RECORD));
        odd_value.1[5] = RECORD.as_bytes().to_vec();
        let bare = ("1-0".to_owned(), vec![b"k".to_vec(), b"v".to_vec()]);
        for foreign in [odd_id, odd_digest, odd_kind, odd_value, bare] {
            assert_eq!(Entry::parse(foreign), Err(Gap::Forked));
        }
        let mut richer = raw(1, "a\u{1f}1", None);
        richer.1.extend([b"new".to_vec(), b"field".to_vec()]);
        assert!(Entry::parse(richer).is_ok(), "a later version may add fields");
    }
}
