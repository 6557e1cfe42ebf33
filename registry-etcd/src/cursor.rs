//! What a cursor remembers of the history it was read from, to recognise it by.
//!
//! Neither the cluster id nor a revision tells that: an etcd that was wiped, or restored from a
//! backup, keeps its id and climbs past the old revision with another history. So a cursor also
//! says what one sorted Range of the service, at its revision, must show.

use crate::error::EtcdError;
use etcd_client::{EventType, KeyValue};
use std::fmt;
use std::str::FromStr;

/// What stood in a service at the revision of a cursor.
///
/// It recognises every history in which, at that revision, the service has another number of keys
/// or another newest one. It is fooled by one that agrees in both; and once the newest key was
/// deleted, by one that agrees in the number, if no key is newer than the deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    cluster: u64,
    count: u64,
    newest: Newest,
    /// Whether the record of one of the keys is withdrawn, in a layout without side keys. Who resumes here
    /// reads them, to know which deletions were reported before.
    has_withdrawn: bool,
}

impl Default for Proof {
    /// The proof of a service without keys, of a cluster that is not known yet.
    fn default() -> Self {
        Self::new(0)
    }
}

/// What is known of the key that was put last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newest {
    /// It was put at this revision under this lease, which is 63 random bits. Revision 0: there is
    /// no key. Lease 0: it is not known, or there are several such keys.
    Put { revision: u64, lease: i64 },
    /// Several were put at this revision, all under this one lease, which is not 0.
    Several { revision: u64, lease: i64 },
    /// It was put before this revision, at which a newer one was deleted.
    OlderThan(u64),
}

/// What etcd says of a key, its value apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyMeta<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) created: u64,
    pub(crate) modified: u64,
    pub(crate) lease: i64,
}

impl<'a> From<&'a KeyValue> for KeyMeta<'a> {
    fn from(kv: &'a KeyValue) -> Self {
        Self {
            key: kv.key(),
            created: kv.create_revision().cast_unsigned(),
            modified: kv.mod_revision().cast_unsigned(),
            lease: kv.lease(),
        }
    }
}

impl Proof {
    /// The proof of a service without keys.
    pub(crate) fn new(cluster: u64) -> Self {
        let newest = Newest::Put { revision: 0, lease: 0 };
        Self { cluster, count: 0, newest, has_withdrawn: false }
    }

    /// The same of a cluster that was not known before.
    pub(crate) fn with_cluster(self, cluster: u64) -> Self {
        Self { cluster, ..self }
    }

    /// The same with or without keys whose record is withdrawn.
    pub(crate) fn with_withdrawn(self, has_withdrawn: bool) -> Self {
        Self { has_withdrawn, ..self }
    }

    /// Whether the record of one of the keys is withdrawn.
    pub(crate) fn has_withdrawn(&self) -> bool {
        self.has_withdrawn
    }

    /// Adds a key that stands there.
    pub(crate) fn add(&mut self, key: KeyMeta<'_>) {
        self.count += 1;
        self.newest.put(key);
    }

    /// Holds it against the number of keys found, and the newest of them.
    pub(crate) fn check(&self, count: u64, newest: Option<KeyMeta<'_>>) -> Result<(), EtcdError> {
        let (put, under) = newest.map_or((0, 0), |key| (key.modified, key.lease));
        let agrees = match self.newest {
            Newest::Put { revision, lease } | Newest::Several { revision, lease } => {
                revision == put && (lease == 0 || lease == under)
            }
            Newest::OlderThan(deletion) => put < deletion,
        };
        if count == self.count && agrees {
            return Ok(());
        }
        Err(EtcdError::Diverged(format!(
            "the service has another past, proof=`{self}`, keys=`{count}`, newest=`{put}`"
        )))
    }

    /// Holds it against the cluster that answered.
    pub(crate) fn check_cluster(&self, cluster: u64) -> Result<(), EtcdError> {
        if cluster == self.cluster {
            return Ok(());
        }
        let (ours, theirs) = (self.cluster, cluster);
        Err(EtcdError::OtherCluster(format!(
            "another cluster answers, expected=`{ours:x}`, got=`{theirs:x}`"
        )))
    }
}

impl Newest {
    fn put(&mut self, key: KeyMeta<'_>) {
        match self {
            Self::Put { revision, .. } | Self::Several { revision, .. }
                if *revision > key.modified => {}
            Self::Put { revision, lease } | Self::Several { revision, lease }
                if *revision == key.modified =>
            {
                let (revision, lease) = (*revision, *lease);
                *self = if lease != 0 && lease == key.lease {
                    Self::Several { revision, lease }
                } else {
                    Self::Put { revision, lease: 0 }
                };
            }
            _ => *self = Self::Put { revision: key.modified, lease: key.lease },
        }
    }

    /// Whether it was put at `now`.
    fn was_put_at(self, now: u64) -> bool {
        match self {
            Self::Put { revision, .. } | Self::Several { revision, .. } => revision == now,
            Self::OlderThan(_) => false,
        }
    }

    fn is_single_key(self) -> bool {
        matches!(self, Self::Put { lease, .. } if lease != 0)
    }
}

/// `CLUSTER.COUNT.pREVISION.LEASE`, `CLUSTER.COUNT.tREVISION.LEASE` for several keys put together,
/// or `CLUSTER.COUNT.dREVISION`, ids in hexadecimal. With withdrawn records it ends with `.w`.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}.", self.cluster, self.count)?;
        match self.newest {
            Newest::Put { revision, lease } => write!(f, "p{revision}.{lease:x}"),
            Newest::Several { revision, lease } => write!(f, "t{revision}.{lease:x}"),
            Newest::OlderThan(revision) => write!(f, "d{revision}"),
        }?;
        f.write_str(if self.has_withdrawn { WITHDRAWN } else { "" })
    }
}

impl FromStr for Proof {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        parse(text).ok_or(())
    }
}

/// What the text of a proof ends with if a record is withdrawn.
const WITHDRAWN: &str = ".w";

fn parse(text: &str) -> Option<Proof> {
    let (text, has_withdrawn) = match text.strip_suffix(WITHDRAWN) {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (cluster, rest) = text.split_once('.')?;
    let (count, newest) = rest.split_once('.')?;
    let put = |put: &str| {
        let (revision, lease) = put.split_once('.')?;
        // A negative one, which others may draw, has all 16 digits.
        Some((revision.parse().ok()?, u64::from_str_radix(lease, 16).ok()?.cast_signed()))
    };
    let newest = if let Some(one) = newest.strip_prefix('p') {
        let (revision, lease) = put(one)?;
        Newest::Put { revision, lease }
    } else if let Some(several) = newest.strip_prefix('t') {
        let (revision, lease) = put(several).filter(|(_, lease)| *lease != 0)?;
        Newest::Several { revision, lease }
    } else {
        Newest::OlderThan(newest.strip_prefix('d')?.parse().ok()?)
    };
    let cluster = u64::from_str_radix(cluster, 16).ok()?;
    Some(Proof { cluster, count: count.parse().ok()?, newest, has_withdrawn })
}

/// The proof of a history, carried on event by event.
#[derive(Debug)]
pub(crate) struct History {
    proof: Proof,
    /// The newest key, if its deletion can be told from that of others.
    newest: Option<Vec<u8>>,
}

impl History {
    /// Goes on from `proof`, and from the name of the newest key, if that is known.
    pub(crate) fn new(proof: Proof, newest: Option<&[u8]>) -> Self {
        let mut history = Self { proof, newest: None };
        history.remember(newest);
        history
    }

    pub(crate) fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Notes whether the record of one of the keys is withdrawn.
    pub(crate) fn set_withdrawn(&mut self, has_withdrawn: bool) {
        self.proof.has_withdrawn = has_withdrawn;
    }

    /// Takes in an event. Those of one revision may come in any order.
    pub(crate) fn advance(&mut self, kind: EventType, key: KeyMeta<'_>) {
        match kind {
            EventType::Put => {
                self.proof.count += u64::from(key.created == key.modified);
                self.proof.newest.put(key);
                self.remember(Some(key.key));
            }
            EventType::Delete => {
                // It may be 0 already if etcd lost an event. Then the next check finds out.
                self.proof.count = self.proof.count.saturating_sub(1);
                let another = self.newest.as_deref().is_some_and(|newest| newest != key.key);
                if !another && !self.proof.newest.was_put_at(key.modified) {
                    self.proof.newest = Newest::OlderThan(key.modified);
                    self.newest = None;
                }
            }
        }
    }

    fn remember(&mut self, newest: Option<&[u8]>) {
        self.newest = newest.filter(|_| self.proof.newest.is_single_key()).map(<[u8]>::to_vec);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const NAMES: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];

    fn key_meta(name: usize, modified: u64, lease: i64) -> KeyMeta<'static> {
        KeyMeta { key: NAMES[name], created: modified, modified, lease }
    }

    /// The proof of these keys, as a load gives it.
    fn proof_of(keys: &[KeyMeta<'_>]) -> Proof {
        let mut proof = Proof::new(0xab);
        for key in keys {
            proof.add(*key);
        }
        proof
    }

    #[test]
    fn proof_has_a_stable_text_form() {
        let one = proof_of(&[key_meta(0, 3, 0x1f), key_meta(1, 2, 5)]);
        assert_eq!(one.to_string(), "ab.2.p3.1f");
        let mut history = History::new(one.clone(), Some(key_meta(0, 3, 0x1f).key));
        history.advance(EventType::Delete, key_meta(0, 7, 0));
        assert_eq!(history.proof().to_string(), "ab.1.d7");
        let pair = proof_of(&[key_meta(0, 3, 0x1f), key_meta(1, 3, 0x1f)]);
        assert_eq!(pair.to_string(), "ab.2.t3.1f");
        let withdrawn = one.clone().with_withdrawn(true);
        assert_eq!(withdrawn.to_string(), "ab.2.p3.1f.w");
        let negative = proof_of(&[key_meta(0, 3, -11)]);
        assert_eq!(negative.to_string(), "ab.1.p3.fffffffffffffff5");
        let known = [&one, &pair, history.proof(), &Proof::new(u64::MAX), &withdrawn, &negative];
        for proof in known {
            assert_eq!(proof.to_string().parse(), Ok(proof.clone()));
        }
        for bad in [
            "",
            "ab",
            "ab.2",
            "ab.2.3",
            "ab.2.p3",
            "ab.2.d3.1",
            "x.2.d3",
            "ab.-2.d3",
            "ab.2.p3.1.1",
            "ab.2.t3",
            "ab.2.t3.0",
            "ab.2.w",
            "ab.2.p3.1.w.w",
            "ab.2.p3.-b",
        ] {
            assert_eq!(bad.parse::<Proof>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn proof_detects_another_count_newest_key_or_cluster() {
        let keys = [key_meta(0, 2, 5), key_meta(1, 3, 6)];
        let proof = proof_of(&keys);
        assert!(proof.check(2, Some(keys[1])).is_ok() && proof.check_cluster(0xab).is_ok());
        assert!(proof.check(3, Some(keys[1])).is_err());
        assert!(proof.check(2, Some(key_meta(1, 2, 6))).is_err(), "put earlier");
        assert!(proof.check(2, Some(key_meta(1, 3, 7))).is_err(), "put by another lease");
        assert!(proof.check(0, None).is_err());
        assert!(proof.check_cluster(1).is_err());
        assert!(Proof::new(0xab).check(0, None).is_ok());
        assert!(Proof::new(0xab).check(1, Some(keys[0])).is_err());
    }

    #[test]
    fn keys_put_together_are_recognised_by_a_common_lease() {
        let pair = proof_of(&[key_meta(0, 3, 5), key_meta(1, 3, 5)]);
        assert!(pair.check(2, Some(key_meta(0, 3, 5))).is_ok());
        assert!(pair.check(2, Some(key_meta(0, 3, 6))).is_err(), "put by another lease");
        for others in
            [[key_meta(1, 3, 6), key_meta(2, 3, 5)], [key_meta(1, 3, 0), key_meta(2, 3, 0)]]
        {
            let mixed = proof_of(&[&[key_meta(0, 3, 5)], &others[..]].concat());
            for under in [0, 5, 6] {
                assert!(mixed.check(3, Some(key_meta(0, 3, under))).is_ok(), "any may be shown");
            }
        }
    }

    #[test]
    fn newest_key_survives_deletions_of_other_keys() {
        let keys = [key_meta(0, 2, 5), key_meta(1, 3, 6)];
        let mut history = History::new(proof_of(&keys), Some(keys[1].key));
        history.advance(EventType::Delete, key_meta(0, 4, 0));
        assert_eq!(history.proof(), &proof_of(&keys[1..]));
        history.advance(EventType::Delete, key_meta(1, 5, 0));
        assert!(history.proof().check(0, None).is_ok());
        assert!(
            history.proof().check(0, Some(key_meta(1, 5, 6))).is_err(),
            "newer than the deletion"
        );
    }

    proptest! {
        /// Each revision puts some keys, under a lease of 0 to 2, and deletes others. At each, the
        /// proof carried on, also by one who resumes there, and that of a load must all hold.
        #[test]
        fn proof_holds_after_any_history(
            revisions in vec(vec(proptest::option::of(proptest::option::of(0_i64..3)), 4), 1..20),
            resumes: u32,
        ) {
            let mut keys: Vec<Option<KeyMeta<'_>>> = vec![None; 4];
            let mut history = History::new(Proof::new(0xab), None);
            for (n, events) in revisions.iter().enumerate() {
                let revision = 2 + n as u64;
                for (name, event) in events.iter().enumerate() {
                    match event {
                        Some(Some(lease)) => {
                            let created = keys[name].map_or(revision, |old| old.created);
                            let key = KeyMeta { created, ..key_meta(name, revision, *lease) };
                            keys[name] = Some(key);
                            history.advance(EventType::Put, key);
                        }
                        Some(None) if keys[name].take().is_some() => {
                            history.advance(EventType::Delete, key_meta(name, revision, 0));
                        }
                        _ => {}
                    }
                }
                let existing: Vec<KeyMeta<'_>> = keys.iter().copied().flatten().collect();
                let last = existing.iter().map(|key| key.modified).max();
                // Of keys put by one revision, etcd may answer with any.
                let newest = existing.iter().filter(|key| Some(key.modified) == last).copied();
                let loaded = proof_of(&existing);
                for newest in newest.clone().map(Some).chain(last.is_none().then_some(None)) {
                    let count = existing.len() as u64;
                    prop_assert!(history.proof().check(count, newest).is_ok(), "{:?}", history);
                    prop_assert!(loaded.check(count, newest).is_ok(), "{:?}", loaded);
                }
                match resumes >> (n % 16 * 2) & 3 {
                    0 => history = History::new(loaded, newest.last().map(|key| key.key)),
                    1 => history = History::new(history.proof, newest.last().map(|key| key.key)),
                    _ => {}
                }
            }
        }
    }
}
