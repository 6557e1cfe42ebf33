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
        self.count = self.count.saturating_add(1);
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
                let is_new = key.created == key.modified;
                self.proof.count = self.proof.count.saturating_add(u64::from(is_new));
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
mod tests;
