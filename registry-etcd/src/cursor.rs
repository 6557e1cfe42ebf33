//! The proof in a cursor, which identifies the history that the cursor was read from.
//!
//! The cluster id and the revision do not suffice: an etcd that was wiped or restored from a backup keeps its
//! id, and reaches the old revision with another history. So a cursor also records what one sorted Range of
//! the service must return at its revision.

use crate::error::EtcdError;
use etcd_client::{EventType, KeyValue};
use std::fmt;
use std::str::FromStr;

/// The keys of a service at the revision of a cursor, in summary.
///
/// It detects every history in which, at that revision, the service has a different number of keys or a
/// different newest key. It does not detect one that matches in both. After the newest key was deleted, it
/// does not detect one that matches in the number, if no key is newer than the deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    cluster: u64,
    count: u64,
    newest: Newest,
    /// Whether one of the keys has a withdrawn record, in a layout without side keys. A watch that resumes
    /// here reads those keys, to know which deletions were already reported.
    has_withdrawn: bool,
}

impl Default for Proof {
    /// Returns the proof of a service without keys in an unknown cluster.
    fn default() -> Self {
        Self::new(0)
    }
}

/// What is known of the key that was put last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newest {
    /// It was put at this revision under this lease (63 random bits). Revision 0: no key exists. Lease 0: the
    /// lease is unknown, or several keys with different leases were put.
    Put { revision: u64, lease: i64 },
    /// Several keys were put at this revision, all under this lease, which is not 0.
    Several { revision: u64, lease: i64 },
    /// It was put before this revision, at which a newer one was deleted.
    OlderThan(u64),
}

/// The metadata of a key.
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
    /// Returns the proof of a service without keys.
    pub(crate) fn new(cluster: u64) -> Self {
        let newest = Newest::Put { revision: 0, lease: 0 };
        Self { cluster, count: 0, newest, has_withdrawn: false }
    }

    /// Sets the cluster.
    pub(crate) fn with_cluster(self, cluster: u64) -> Self {
        Self { cluster, ..self }
    }

    /// Sets whether one of the keys has a withdrawn record.
    pub(crate) fn with_withdrawn(self, has_withdrawn: bool) -> Self {
        Self { has_withdrawn, ..self }
    }

    /// Returns whether one of the keys has a withdrawn record.
    pub(crate) fn has_withdrawn(&self) -> bool {
        self.has_withdrawn
    }

    /// Adds an existing key.
    pub(crate) fn add(&mut self, key: KeyMeta<'_>) {
        self.count = self.count.saturating_add(1);
        self.newest.put(key);
    }

    /// Checks the proof against the number of keys found and the newest of them.
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
            "the service has another history, proof=`{self}`, keys=`{count}`, newest=`{put}`"
        )))
    }

    /// Checks the proof against the cluster that answered.
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

    /// Returns whether the newest key was put at `now`.
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

/// `CLUSTER.COUNT.pREVISION.LEASE`, `CLUSTER.COUNT.tREVISION.LEASE` for several keys put together, or
/// `CLUSTER.COUNT.dREVISION`, with hexadecimal ids. `.w` follows if there are withdrawn records.
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

/// The suffix of a proof with withdrawn records.
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
        // Other clients may use negative ids, which have all 16 digits.
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

/// The proof of a history, updated by each event.
#[derive(Debug)]
pub(crate) struct History {
    proof: Proof,
    /// The newest key, if its deletion can be distinguished from that of others.
    newest: Option<Vec<u8>>,
}

impl History {
    /// Continues from `proof`, and from the name of the newest key if it is known.
    pub(crate) fn new(proof: Proof, newest: Option<&[u8]>) -> Self {
        let mut history = Self { proof, newest: None };
        history.remember(newest);
        history
    }

    pub(crate) fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Sets whether one of the keys has a withdrawn record.
    pub(crate) fn set_withdrawn(&mut self, has_withdrawn: bool) {
        self.proof.has_withdrawn = has_withdrawn;
    }

    /// Applies an event. Events of one revision may come in any order.
    pub(crate) fn advance(&mut self, kind: EventType, key: KeyMeta<'_>) {
        match kind {
            EventType::Put => {
                let is_new = key.created == key.modified;
                self.proof.count = self.proof.count.saturating_add(u64::from(is_new));
                self.proof.newest.put(key);
                self.remember(Some(key.key));
            }
            EventType::Delete => {
                // It may be 0 already if etcd lost an event. The next audit detects that.
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
