//! Cursors: positions in the history of one service, with a proof of that history.

use crate::{Error, ErrorKind, Result, Revision, ServiceName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A position to resume a watch from: a revision, and a proof that the history up to it is still the same.
///
/// A revision alone is not enough. After a failover, Redis was observed to fall from revision 3913 to 1827 and then to
/// reuse the old numbers for another history. An etcd that was wiped, or restored from a backup, keeps its cluster id
/// and does the same.
///
/// A cursor is opaque and can be stored across restarts of the process: write it with [`Display`](fmt::Display) or
/// serde, and read it with [`FromStr`] or serde.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    origin: Origin,
    revision: Revision,
    proof: Arc<str>,
}

impl Cursor {
    /// Returns the revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the store and service that the cursor belongs to.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Returns whether both cursors belong to the same service of the same store.
    pub(crate) fn has_origin_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.origin.0, &other.origin.0) || self.origin == other.origin
    }
}

/// The store and service that cursors belong to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(Arc<OriginInner>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct OriginInner {
    store: String,
    scope: String,
    service: ServiceName,
}

impl Origin {
    /// Returns the origin for `service` in a store of kind `store`. `scope` is the rest of the configuration that
    /// decides which data is read, such as a key prefix.
    pub fn new(store: &str, scope: &str, service: &ServiceName) -> Self {
        let (store, scope, service) = (store.to_owned(), scope.to_owned(), service.clone());
        Self(Arc::new(OriginInner { store, scope, service }))
    }

    /// Returns a cursor at `revision`. `proof` is what the store needs to recognise its history.
    pub fn cursor(&self, revision: Revision, proof: impl fmt::Display) -> Cursor {
        Cursor { origin: self.clone(), revision, proof: proof.to_string().into() }
    }

    /// Returns the kind of the store.
    pub fn store(&self) -> &str {
        &self.0.store
    }

    /// Returns what else of the configuration decides which data is read, such as layout and prefix.
    pub fn scope(&self) -> &str {
        &self.0.scope
    }

    /// Returns the name of the service.
    pub fn service(&self) -> &ServiceName {
        &self.0.service
    }

    /// Returns the proof in `cursor`, if `cursor` has this origin.
    ///
    /// # Errors
    ///
    /// `Invalid` if the cursor belongs to another store, scope or service, or if its proof is not a `P`.
    pub fn proof<P: FromStr>(&self, cursor: &Cursor) -> Result<P> {
        if cursor.origin != *self {
            let (ours, theirs) = (&self.0, &cursor.origin.0);
            let message = format!(
                "the cursor belongs to another store or service: load again, cursor=`{} {} {}`, watch=`{} {} {}`",
                theirs.store, theirs.scope, theirs.service, ours.store, ours.scope, ours.service
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        cursor.proof.parse().map_err(|_| unparsable())
    }
}

/// `1:store:scope:service:revision:proof`, with percent-encoded fields.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ESCAPED: &AsciiSet =
            &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'/');
        let escape = |text| utf8_percent_encode(text, ESCAPED);
        let OriginInner { store, scope, service } = &*self.origin.0;
        let (store, scope, service) = (escape(store), escape(scope), escape(service.as_str()));
        write!(f, "1:{store}:{scope}:{service}:{}:{}", self.revision, escape(&self.proof))
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fields: Vec<&str> = text.split(':').collect();
        let ["1", store, scope, service, revision, proof] = fields[..] else {
            return Err(unparsable());
        };
        let unescape = |field| percent_decode_str(field).decode_utf8().map_err(|_| unparsable());
        let service = ServiceName::new(unescape(service)?).map_err(|_| unparsable())?;
        let origin = Origin::new(&unescape(store)?, &unescape(scope)?, &service);
        let revision = revision.parse().map_err(|_| unparsable())?;
        Ok(origin.cursor(Revision::new(revision), unescape(proof)?))
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({self})")
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn unparsable() -> Error {
    Error::new(
        ErrorKind::Invalid,
        "the cursor is malformed: load again, and store the new cursor unchanged",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin(scope: &str, service: &str) -> Origin {
        Origin::new("mem", scope, &service.parse().unwrap())
    }

    #[test]
    fn the_text_form_of_a_cursor_is_stable() {
        let cursor = origin("/prod", "a:b/c").cursor(Revision::new(7), "9-x");
        assert_eq!(cursor.to_string(), include_str!("../golden/cursor.txt"));
        assert_eq!(serde_json::to_string(&cursor).unwrap(), "\"1:mem:/prod:a%3Ab/c:7:9-x\"");
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
    }

    #[test]
    fn a_cursor_of_another_origin_is_invalid() {
        let cursor = origin("s", "a").cursor(Revision::new(7), 9);
        assert_eq!(origin("s", "a").proof::<u64>(&cursor).unwrap(), 9);
        for other in [origin("s", "b"), origin("t", "a")] {
            assert_eq!(other.proof::<u64>(&cursor).unwrap_err().kind(), ErrorKind::Invalid);
        }
        let cursor = origin("s", "a").cursor(Revision::new(7), "no number");
        let error = origin("s", "a").proof::<u64>(&cursor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn text_that_is_not_a_cursor_is_invalid() {
        let bad = [
            "",
            "1",
            "7",
            "2:mem::a:7:9",
            "1:mem::a:x:9",
            "1:mem::a:7",
            "1:mem:::7:9",
            "1:m::%ff:7:9",
        ];
        for bad in bad {
            assert_eq!(bad.parse::<Cursor>().unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_cursor_round_trips(store in ".*", scope in ".*", revision: u64, proof in ".*") {
            let origin = Origin::new(&store, &scope, &"a/b".parse().unwrap());
            let cursor = origin.cursor(Revision::new(revision), proof);
            prop_assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        }
    }
}
